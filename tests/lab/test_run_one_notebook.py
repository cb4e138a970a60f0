"""Facts about ablations/run_one.ipynb: its parameters are RunConfig's fields, and it runs to the end with its figures."""
import ast
import json
from dataclasses import fields
from pathlib import Path

import nbformat
import pytest

from fgdlab.lab.config.run_config import RunConfig
from fgdlab.lab.config.scales import scale_settings

PATH = Path(__file__).parents[2] / "ablations" / "run_one.ipynb"
DEFAULTS = {each.name: each.default for each in fields(RunConfig)}


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(PATH, as_version=4)


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tagged(notebook) -> list:
    return [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]


@pytest.fixture(scope="module")
def parameters(notebook) -> dict:
    """{name: value} of the parameters cell; fails where a line is anything but a name and a literal."""
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


def test_papermill_reads_every_parameter_with_its_words(parameters):
    """A second equals sign in a line, in its comment too, would hide the parameter from papermill."""
    import papermill

    seen = papermill.inspect_notebook(str(PATH))
    assert list(seen) == list(parameters)
    for each in fields(RunConfig):
        among = each.metadata["choices"]
        words = each.metadata["help"].replace(" = ", " means ").replace("=", " ") + (f" ({' | '.join(among)})" if among else "")
        assert seen[each.name]["help"] == words, f"the comment of {each.name}"


def test_code_cells_are_short(notebook):
    lines = {cell.id: len(cell.source.splitlines()) for cell in code_cells(notebook) if cell not in tagged(notebook)}
    assert {name: count for name, count in lines.items() if count > 12} == {}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fgd", "none"])
def test_it_runs_to_the_end_with_its_figures_and_no_warning(method, tmp_path, monkeypatch):
    """As a sweep runs it: what runs share is made first, papermill does the rest."""
    from fgdlab.lab.run import RunFolder, prepare
    from fgdlab.lab.sweeps.worker import execute_notebook

    monkeypatch.setenv("FGDLAB_HOME", str(tmp_path / "home"))
    config, folder = RunConfig.of({**scale_settings("smoke"), "method": method}), tmp_path / "run"
    prepare(config, progress=False)
    folder.mkdir()
    (folder / "job.json").write_text(json.dumps({"notebook": str(PATH), "parameters": {**config.dict(), "out": str(folder)}}))
    assert execute_notebook(RunFolder(folder)) == 0

    result = json.loads((folder / "result.json").read_text())
    assert result["settings"] == config.dict() and (result["teacher"] is None) == (method == "none")
    outputs = [output for cell in code_cells(nbformat.read(folder / "run.ipynb", as_version=4)) for output in cell.outputs]
    assert len([output for output in outputs if "image/png" in output.get("data", {})]) >= 4
    assert [output.text for output in outputs if output.output_type == "stream" and output.name == "stderr"] == []
    assert any("SMOKE SCALE" in output.text for output in outputs if output.output_type == "stream")
