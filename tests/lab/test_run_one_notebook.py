"""ablations/run_one.ipynb: its parameters are RunConfig's fields, and it runs to the end with its figures."""
import ast
import json
from dataclasses import fields
from pathlib import Path

import nbformat
import pytest

from fgdlab.lab.config.run_config import RunConfig
from fgdlab.lab.config.scales import scale_settings

PATH = Path(__file__).parents[2] / "ablations" / "run_one.ipynb"
DEFAULTS = {field.name: field.default for field in fields(RunConfig)}


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(PATH, as_version=4)


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tagged(notebook) -> list:
    return [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]


@pytest.fixture(scope="module")
def parameters(notebook) -> dict:
    """{name: value} of the parameters cell, whose lines must be assignments of literals."""
    values = {}
    for statement in ast.parse(tagged(notebook)[0].source).body:
        assert isinstance(statement, ast.Assign) and len(statement.targets) == 1
        values[statement.targets[0].id] = ast.literal_eval(statement.value)
    return values


def test_it_is_a_valid_notebook_for_the_kernel_that_papermill_is_given(notebook):
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"


def test_it_is_committed_without_outputs(notebook):
    assert [cell.id for cell in code_cells(notebook) if cell.outputs or cell.execution_count is not None] == []


def test_one_cell_holds_the_parameters(notebook):
    assert len(tagged(notebook)) == 1


def test_parameters_are_the_fields_of_run_config_with_their_defaults_and_out(parameters):
    given = {name: value for name, value in parameters.items() if name != "out"}
    assert given == DEFAULTS
    assert [name for name in given if type(given[name]) is not type(DEFAULTS[name])] == []
    assert not Path(parameters["out"]).is_absolute()


def test_papermill_reads_every_parameter_with_its_help(parameters):
    """A second equals sign in a line, even in its comment, would hide the parameter from papermill."""
    import papermill

    inspected = papermill.inspect_notebook(str(PATH))
    assert list(inspected) == list(parameters)
    for field in fields(RunConfig):
        choices = field.metadata["choices"]
        text = field.metadata["help"].replace(" = ", " means ").replace("=", " ")
        text += f" ({' | '.join(choices)})" if choices else ""
        assert inspected[field.name]["help"] == text, f"the comment of {field.name}"


def test_code_cells_are_short(notebook):
    lines = {cell.id: len(cell.source.splitlines()) for cell in code_cells(notebook) if cell not in tagged(notebook)}
    assert {name: count for name, count in lines.items() if count > 12} == {}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fgd", "none"])
def test_it_runs_to_the_end_with_its_figures_and_no_warning(method, tmp_path, monkeypatch):
    """As in a sweep: images and teacher are prepared first, then papermill runs the notebook."""
    from fgdlab.lab.run import RunFolder, prepare
    from fgdlab.lab.sweeps.worker import execute_notebook

    monkeypatch.setenv("FGDLAB_HOME", str(tmp_path / "home"))
    config, folder = RunConfig.of({**scale_settings("smoke"), "method": method}), tmp_path / "run"
    prepare(config, progress=False)
    folder.mkdir()
    job = {"notebook": str(PATH), "parameters": {**config.dict(), "out": str(folder)}}
    (folder / "job.json").write_text(json.dumps(job))
    assert execute_notebook(RunFolder(folder)) == 0

    result = json.loads((folder / "result.json").read_text())
    assert result["settings"] == config.dict() and (result["teacher"] is None) == (method == "none")
    executed = nbformat.read(folder / "run.ipynb", as_version=4)
    outputs = [output for cell in code_cells(executed) for output in cell.outputs]
    streams = [output for output in outputs if output.output_type == "stream"]
    assert len([output for output in outputs if "image/png" in output.get("data", {})]) >= 4
    assert [output.text for output in streams if output.name == "stderr"] == []
    assert any("SMOKE SCALE" in output.text for output in streams)
