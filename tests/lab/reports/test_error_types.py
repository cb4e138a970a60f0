"""fgdlab errors: what runs lose AP by, per run and per row of a sweep."""
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from fgdlab.lab.commands.cli import main
from fgdlab.lab.reports.error_types import error_types_of_rows, error_types_of_runs, errors_figure, with_error_types
from fgdlab.lab.reports.sweep_runs import SweepRuns
from fgdlab.lab.stats.error_types import ERROR_TYPES
from fgdlab.lab.sweeps.collection import collect, write_results
from fgdlab.lab.sweeps.planning import plan
from fgdlab.lab.sweeps.spec import load_sweep


def errors(*arguments):
    return CliRunner().invoke(main, ["errors", *map(str, arguments)])


@pytest.fixture
def sweep_runs(runs, monkeypatch) -> SweepRuns:
    """Two rows, two seeds; the boxes of row none are placed worse."""
    rows = {"none": {"label": "no distillation"}, "fg": {"label": "foreground", "set": {"method": "fgd", "area": "fg"}}}
    base = {"data": str(runs.data), "image_size": 0, "train_images": 0, "eval_images": 0}
    text = {"title": "t", "question": "q?", "baseline": "none", "seeds": [0, 1], "rows": rows, "base": base}
    Path("mine.yaml").write_text(yaml.safe_dump(text))
    sweep = load_sweep("mine.yaml").at("laptop")
    planned = plan(sweep, Path("runs/mine"))
    for each in planned:
        runs(each.folder, each.seed, 6.0 if each.row == "none" else 0.5, each.config)
    write_results(collect(planned, sweep, keep_stale=True), Path("runs/mine/results.csv"))
    return SweepRuns.of("mine.yaml")


def test_each_run_has_a_line_with_its_shares(runs):
    shown = errors(runs("good", size=0.5), runs("bad", size=9.0), f"{runs('one')},{runs('two', seed=1)}")
    lines = {line.split()[0]: line.replace("± ", "±").split()[1:] for line in shown.stdout.splitlines()[2:5]}
    good, bad = ([float(cell) for cell in lines[name][:7]] for name in ("good", "bad"))
    assert good[0] > 90 > bad[0] and sum(good) == pytest.approx(100, abs=0.4)
    assert [cells[-1] for cells in lines.values()] == ["1", "1", "2"]
    assert sum("±" in cell for cell in lines["one,two"]) == 7
    for name, meaning in ERROR_TYPES.items():
        assert f"{name}: {meaning}" in " ".join(shown.stdout.split())


def test_a_run_without_any_detection_misses_everything(runs):
    (runs("empty", seed=3) / "detections.json").write_text("[]")
    assert error_types_of_runs([Path("empty")]).loc[3, "FN"] == pytest.approx(100)


def test_results_get_a_column_per_type_and_keep_it_when_the_folders_are_gone(sweep_runs):
    frame = with_error_types(sweep_runs)
    assert frame[list(ERROR_TYPES)].sum(axis=1).to_list() == pytest.approx([100] * 4)
    assert frame.groupby("row")["C75"].min()["fg"] > frame.groupby("row")["C75"].max()["none"]
    for folder in Path("runs/mine").iterdir():
        if folder.is_dir():
            folder.rename(f"{folder.name}.moved")
    again = SweepRuns(sweep_runs.sweep, frame, sweep_runs.path, sweep_runs.home)
    pd.testing.assert_frame_equal(with_error_types(again), frame)


def test_rows_are_printed_and_drawn(sweep_runs):
    shown = errors("--sweep", "mine.yaml", "--figure", "rows.png")
    assert shown.exit_code == 0 and re.search(r"foreground +\d+\.\d ± \d", shown.stdout), shown.output
    assert Path("rows.png").stat().st_size > 10000


def test_a_table_shows_the_paired_difference_of_an_error_type(sweep_runs):
    shown = CliRunner().invoke(main, ["table", "mine.yaml", "--metrics", "C75,FN"])
    assert shown.exit_code == 0 and "ours: ΔC75, paired" in shown.stdout and "ours: FN" in shown.stdout


def test_the_figure_has_the_points_and_means_of_every_row_in_every_panel(sweep_runs):
    rows = error_types_of_rows(sweep_runs)
    axes = [ax for ax in errors_figure(rows, "t").axes if ax.get_title()]
    occurring = [name for name in ERROR_TYPES if max(shares[name].max() for shares in rows.values()) > 0]
    assert [ax.get_title().split(":")[0] for ax in axes] == occurring and len(rows) == 2
    for ax in axes:
        name, lines = ax.get_title().split(":")[0], {line.get_gid(): line for line in ax.lines}
        for label, shares in rows.items():
            assert sorted(lines[f"points-{label}"].get_xdata()) == pytest.approx(sorted(shares[name]))
            assert lines[f"mean-{label}"].get_xdata()[0] == pytest.approx(shares[name].mean())


@pytest.mark.parametrize("arguments, got", [
    ((), "got neither"), (("run", "--sweep", "mine.yaml"), "got both"),
])
def test_runs_or_a_sweep_must_be_named(arguments, got):
    shown = errors(*arguments)
    assert shown.exit_code == 1 and got in shown.stderr and len(shown.stderr.splitlines()) == 1


def test_a_folder_of_no_run_and_a_broken_file_are_one_line(runs):
    assert "must be the folder of a finished run" in errors("nowhere").stderr
    (runs("broken") / "detections.json").write_text("[{")
    assert "detections.json must be whole" in errors("broken").stderr
    name = runs("once")
    assert "joined runs must be of different seeds" in errors(f"{name},{name}").stderr


def test_results_without_folders_say_what_to_run(sweep_runs):
    for folder in Path("runs/mine").iterdir():
        if folder.is_dir():
            folder.rename(f"{folder.name}.moved")
    assert "run `fgdlab sweep mine`" in errors("--sweep", "mine.yaml").stderr
