"""The notebooks follow the rules of check.py, agree with their .py, and run; each rule finds what breaks it."""
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import fgdlab

NOTEBOOKS = Path(fgdlab.__file__).parents[1] / "notebooks"
sys.path.insert(0, str(NOTEBOOKS))
import build  # noqa: E402
import check  # noqa: E402


@pytest.mark.parametrize("rule", check.RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("name", build.names())
def test_notebook_follows_the_rule(name, rule):
    assert rule(name) == []


def test_every_equation_of_the_paper_has_a_link_to_its_function():
    assert check.equations() == []


@pytest.mark.slow
def test_every_notebook_runs_quickly_from_the_first_to_the_last_cell():
    done = subprocess.run([sys.executable, NOTEBOOKS / "build.py", "--quick"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# ---- each rule on notebooks that break it ----------------------------------------------------------------------------

FIGURE = new_output("display_data", {"image/png": "aGk="})


@pytest.fixture
def series(tmp_path, monkeypatch):
    """series(*cells) writes a notebook 01_x of these cells into an empty folder."""
    (tmp_path / "src").mkdir()
    for module in (build, check):
        monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.setattr(build, "SOURCES", tmp_path / "src")

    def write(*cells, source=""):
        (tmp_path / "src" / "01_x.py").write_text(source)
        nbformat.write(new_notebook(cells=list(cells)), tmp_path / "01_x.ipynb")
    return write


def markdown(text):
    return new_markdown_cell(text)


def ran(text, count=1, outputs=()):
    return new_code_cell(text, execution_count=count, outputs=list(outputs))


def test_a_figure_without_its_caption_is_found(series):
    series(ran("draw()", outputs=[FIGURE]), markdown("*Figure 1.* what it shows"))
    assert check.captions("01_x") == []
    for after in ([], [markdown("*Figure 2.* wrong number")], [ran("1", 2), markdown("*Figure 1.* too late")]):
        series(ran("draw()", outputs=[FIGURE]), *after)
        assert len(check.captions("01_x")) == 1


def test_the_schematic_has_its_own_caption_and_no_number(series):
    numbered = [ran("draw()", 2, outputs=[FIGURE]), markdown("*Figure 1.* what it shows")]
    series(ran('schematic("masks")', outputs=[FIGURE]), markdown("*FGD in one picture.* here the masks"), *numbered)
    assert check.captions("01_x") == []
    series(ran('schematic("masks")', outputs=[FIGURE]), markdown("*Figure 1.* here the masks"), *numbered)
    assert len(check.captions("01_x")) == 1


def test_a_link_to_a_name_that_the_file_does_not_define_is_found(series, tmp_path):
    (tmp_path.parent / "masks.py").write_text("class Masks:\n    def fg(self): ...\nSIZE = 1\n")
    series(markdown("[`Masks`](../masks.py) [`Masks.fg`](../masks.py) [`SIZE`](../masks.py)"))
    assert check.links("01_x") == []
    series(markdown("[`mask`](../masks.py)"))
    assert "must define mask" in check.links("01_x")[0]
    series(markdown("[`Masks`](../mask.py)"))
    assert "got none" in check.links("01_x")[0]


def test_a_cell_left_out_of_the_run_or_with_an_error_or_stderr_is_found(series):
    good = [
        ran("1", 1, [new_output("execute_result", {"text/plain": "1"})]),
        ran("2", 2, [new_output("stream", name="stdout", text="2")]),
    ]
    warning = new_output("stream", name="stderr", text="warning")
    error = new_output("error", ename="E", evalue="v", traceback=[])
    series(*good)
    assert check.results("01_x") == []
    for cells in ([good[0], ran("2", 3)], [ran("1", None), ran("2", 1)], [*good, ran("3", 3, [warning])],
                  [*good, ran("3", 3, [error])], [ran("1", 1), ran("2", 2), ran("3", 3)]):
        series(*cells)
        assert check.results("01_x") != []


def test_parameters_must_be_literals(series):
    def tagged(text):
        return new_code_cell(text, metadata={"tags": ["parameters"]})

    series(tagged("QUICK = False\nSEED = -1"))
    assert check.parameters("01_x") == []
    for text in ("QUICK = False\nSTEPS = 2 * 3", "QUICK = True", "import os\nQUICK = False"):
        series(tagged(text))
        assert check.parameters("01_x") != []
    series(new_code_cell("QUICK = False"))
    assert check.parameters("01_x") != []


def test_a_long_cell_and_a_short_notebook_are_found(series):
    series(*(markdown("text") for _ in range(29)), ran("\n".join(["x = 1"] * 21)))
    assert len(check.short_cells("01_x")) == 2
    series(*(markdown("text") for _ in range(28)), ran("1"), ran("\n\n".join(["x = 1"] * 20)), ran("1"))
    assert check.short_cells("01_x") == []
    series(markdown("text"), ran("1"))
    assert check.short_cells("01_x") == ["30 to 60 cells, got 2"]


def test_an_exercise_without_a_hidden_solution_is_found(series):
    stub = [
        markdown("**Exercise 1** easy"), ran("raise NotImplementedError"),
        markdown("**Exercise 2** easy"), ran("raise NotImplementedError"),
    ]

    def solution(hidden=True, text="assert True"):
        return new_code_cell(text, metadata={"tags": ["solution"], "jupyter": {"source_hidden": hidden}})

    series(*stub, solution(), solution())
    assert check.exercises("01_x") == []
    for cells in ([*stub, solution()], [*stub, solution(), solution(False)],
                  [*stub, solution(), solution(text="1")], stub[:2] + [solution()]):
        series(*cells)
        assert check.exercises("01_x") != []


def test_exercises_without_a_hard_one_or_an_experiment_with_a_prediction_are_found(series):
    easy, hard = "**Exercise 1** (easy, 5 minutes) a", "**Exercise 2** (hard, 25 minutes, an experiment) Predict b"
    series(markdown("## Exercises"), markdown(easy), markdown(hard))
    assert check.levels("01_x") == []
    for second in (hard.replace("hard", "medium"), hard.replace(", an experiment", ""), hard.replace("Predict ", ""),
                   hard.replace("25 minutes", "long")):
        series(markdown("## Exercises"), markdown(easy), markdown(second))
        assert check.levels("01_x") != []


def test_code_wider_than_88_columns_is_found(series):
    series(markdown("w" * 200), ran("x = 1" + " " * 82 + "#"))
    assert check.narrow("01_x") == []
    series(ran("x = 1" + " " * 83 + "#"))
    assert len(check.narrow("01_x")) == 1


def test_a_notebook_without_the_schematic_is_found(series):
    series(ran('schematic("masks")'))
    assert check.overview("01_x") == []
    series(ran('schematic("masks") and 1'), markdown('schematic("masks")'))
    assert len(check.overview("01_x")) == 1


def test_an_ending_without_recap_link_or_solutions_is_found(series):
    recap = "## Recap\n\n- a\n- b\n- c\n\nNext: [02](02.ipynb)\n\n"
    solution = new_code_cell("assert True", metadata={"tags": ["solution"]})
    series(ran("1"), markdown(recap + "## Appendix\n\n- d\n"), ran("2", 2), markdown("## Solutions"), solution)
    assert check.ending("01_x") == []
    for cells in (
        [markdown(recap.replace("- c\n", "") + "## Solutions"), solution],
        [markdown(recap.replace("[02](02.ipynb)", "02") + "## Solutions"), solution],
        [markdown(recap), solution],
        [solution, markdown(recap + "## Solutions")],
        [markdown(recap + "## Solutions"), solution, markdown("## More")],
        [markdown("## Solutions\n\n" + recap), solution],
    ):
        series(*cells)
        assert check.ending("01_x") != []


def test_drift_between_a_pair_is_found_in_text_tags_and_number_of_cells(series):
    source = '# %% [markdown]\n# hello\n\n# %% tags=["parameters"]\nQUICK = False\n'
    pair = [markdown("hello"), new_code_cell("QUICK = False", metadata={"tags": ["parameters"]})]
    series(*pair, source=source)
    assert build.drift("01_x") == ""
    for cells in ([markdown("hullo"), pair[1]], [pair[0], new_code_cell("QUICK = False")], pair[:1], [*pair, ran("1")]):
        series(*cells, source=source)
        assert build.drift("01_x") != ""


def test_a_cell_keeps_its_id_when_others_change(series, tmp_path):
    series(source="# %%\na\n\n# %%\nb\n\n# %%\na\n")
    ids = [cell.id for cell in build.cells_of(tmp_path / "src" / "01_x.py").cells]
    series(source="# %%\nnew\n\n# %%\nb\n\n# %%\na\n")
    assert len(set(ids)) == 3 and build.cells_of(tmp_path / "src" / "01_x.py").cells[1].id == ids[1]


def test_clean_keeps_outputs_and_drops_what_changes_from_run_to_run():
    figure = new_output("display_data", {"image/png": "aGk="}, metadata={"image/png": {"width": 3}})
    cell = ran("1", 1, [figure, new_output("stream", text="x")])
    cell.metadata.update(papermill={"duration": 1.0}, execution={"iopub": "now"}, tags=["solution"])
    metadata = {"papermill": {"duration": 2}, "widgets": {}, "kernelspec": build.KERNEL}
    cleaned = build.clean(new_notebook(cells=[cell], metadata=metadata))
    assert set(cleaned.metadata) == {"kernelspec", "language_info"}
    (cell,) = cleaned.cells
    assert cell.metadata == {"tags": ["solution"]}
    assert cell.outputs[0].data == {"image/png": "aGk="} and cell.outputs[1].text == "x"


def test_two_runs_of_a_styled_table_give_the_same_notebook():
    import pandas as pd

    def built():
        html = pd.DataFrame({"a": [1.0]}).style.background_gradient().to_html()
        cell = ran("table", outputs=[new_output("execute_result", {"text/html": html})])
        cell.id = "table"
        return build.clean(new_notebook(cells=[cell]))

    first, second = built(), built()
    assert first == second and "T_table" in first.cells[0].outputs[0].data["text/html"]


def test_a_failing_notebook_is_a_failure_and_is_not_written(series, tmp_path):
    series(source='# %% tags=["parameters"]\nQUICK = False\n\n# %%\nassert QUICK\n')
    before = (tmp_path / "01_x.ipynb").read_bytes()
    assert not build.build("01_x", quick=False, threads=1) and (tmp_path / "01_x.ipynb").read_bytes() == before
    assert build.build("01_x", quick=True, threads=1) and (tmp_path / "01_x.ipynb").read_bytes() == before
