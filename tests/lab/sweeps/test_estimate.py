"""What --dry-run says: states, and times from runs that were measured."""
import json
from pathlib import Path

import pandas as pd
import pytest

from fgdlab.lab.config.run_config import RunConfig
from fgdlab.lab.run import RunFolder
from fgdlab.lab.sweeps.estimate import dry_run, span
from fgdlab.lab.sweeps.planning import PlannedRun
from fgdlab.lab.sweeps.spec import Row, Sweep

# 100 steps of 8 images at 40 a second: 20 s of training, 10 s of all the rest
RESULT = {
    "AP": 20.0, "AR": 40.0, "seconds": 30.0, "train_seconds": 20.0, "images_per_second": 40.0, "steps": 100,
    "provenance": {"device": "a processor"},
}
SETTINGS = {"epochs": 2, "train_images": 400}


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("ablations/sweeps").mkdir(parents=True)


@pytest.fixture
def sweep():
    return Sweep(
        "mine", "A title", "Which?", "", "", "none", {}, {row: Row(row, {}, {}) for row in ("none", "fg")}, [0, 1],
    )


@pytest.fixture
def runs():
    """runs(**settings) -> four planned runs, none begun."""
    def make(**settings):
        config = RunConfig.of({**SETTINGS, **settings})
        return [
            PlannedRun(row, seed, config.but(seed=seed), Path("runs/mine", f"{row}{seed}").absolute())
            for seed in (0, 1) for row in ("none", "fg")
        ]

    return make


def finish(run: PlannedRun, **changes) -> None:
    run.here.path.mkdir(parents=True)
    run.here.begin(run.config.dict(), {})
    (run.folder / "result.json").write_text(json.dumps({**RESULT, **changes}))


def test_nothing_measured_is_said_and_no_number_is_made_up(sweep, runs):
    lines = dry_run(runs(), sweep, "laptop", 2)
    assert lines[0] == "    pending  none, seed 0  none0"
    assert lines[
        -1
    ] == (
        "to do: 4 of 4 runs; how long they take is not known: "
        "no run at scale laptop is done, here or in ablations/results"
    )
    assert not Path("runs").exists()


def test_time_comes_from_done_runs_of_the_row_else_of_any_row_and_is_shared_by_the_slots(sweep, runs):
    planned = runs()
    finish(planned[0])
    finish(planned[1], seconds=80.0, train_seconds=70.0, images_per_second=800 / 70)
    lines = dry_run(planned, sweep, "laptop", 2)
    assert (
        [line.split("  ")[-1] for line in lines[:4]] == ["none0", "fg0", "about 30 s", "about 80 s"]
        and lines[0].startswith("       done")
    )
    assert lines[
        -1
    ] == "to do: 2 of 4 runs, about 2 min on one slot, 80 s on 2 slots (measured on 2 runs that are done here)"
    assert dry_run(
        planned, sweep, "laptop", 1,
    )[-1] == "to do: 2 of 4 runs, about 2 min on one slot (measured on 2 runs that are done here)"
    (planned[1].folder / "result.json").unlink()
    assert dry_run(planned, sweep, "laptop", None)[1].endswith("about 30 s")  # of the other row, as this one has none


@pytest.mark.parametrize(
    "settings, seconds",
    [({"epochs": 6}, 70), ({"train_images": 200}, 20), ({"data": "photos", "train_images": 0}, 30)],
)
def test_time_follows_epochs_and_images(sweep, runs, settings, seconds):
    finish(runs()[0])
    Path("photos").mkdir()
    planned = [runs()[0], *[PlannedRun(each.row, each.seed, each.config, each.folder) for each in runs(**settings)[1:]]]
    assert dry_run(planned, sweep, "laptop", 1)[1].endswith(f"about {seconds} s")


def test_an_interrupted_run_needs_what_it_has_not_trained(sweep, runs):
    planned = runs()
    finish(planned[0])
    planned[1].folder.mkdir(parents=True)
    planned[1].here.begin(planned[1].config.dict(), {})
    (planned[1].folder / "metrics.jsonl").write_text('{"step": 1}\n{"step": 50, "steps": 50}\n')
    assert dry_run(planned, sweep, "laptop", 1)[1] == "interrupted  fg, seed 0  fg0  about 11 s"


def test_failed_runs_count_where_they_would_be_run_again(sweep, runs):
    planned = runs()
    finish(planned[0])
    planned[1].folder.mkdir(parents=True)
    (planned[1].folder / "failed.json").write_text('{"error": "x"}')
    assert dry_run(planned, sweep, "laptop", 1)[-1].startswith("to do: 2 of 4 runs")
    assert dry_run(planned, sweep, "laptop", 1, retry_failed=True)[-1].startswith("to do: 3 of 4 runs")


def test_committed_results_of_the_same_scale_stand_in(sweep, runs):
    columns = {
        "row": "none", "state": "done", "seed": 0, "AP": 1.0, "AR": 1.0,
        **{name: RESULT[name] for name in ("seconds", "train_seconds", "images_per_second", "steps")}, **SETTINGS,
        "batch_size": 8, "device": "a chip",
    }
    Path("ablations/results").mkdir()
    pd.DataFrame([{**columns, "scale": "gpu"}]).to_csv("ablations/results/mine-gpu.csv")
    assert "not known" in dry_run(runs(), sweep, "laptop", 1)[-1]
    pd.DataFrame([{**columns, "scale": "laptop"}]).to_csv("ablations/results/mine.csv")
    assert dry_run(
        runs(), sweep, "laptop", 4,
    )[
        -1
    ] == (
        "to do: 4 of 4 runs, about 2 min on one slot, 30 s on 4 slots "
        "(measured on 1 run of mine.csv in ablations/results, a chip)"
    )


def test_a_run_that_a_sibling_has_done_costs_nothing(sweep, runs):
    planned = runs()
    finish(planned[0])
    there = RunFolder("runs/theirs/fg0")
    there.path.mkdir(parents=True)
    there.begin(planned[1].config.dict(), {})
    for name in ("student.safetensors", "detections.json"):
        (there.path / name).write_text("{}")
    there.finish(RESULT)
    lines = dry_run(planned, sweep, "laptop", 1)
    assert lines[1] == "    pending  fg, seed 0  fg0  done in runs/theirs" and "about 60 s on one slot" in lines[-1]


def test_durations_read_well():
    assert [
        span(each) for each in (0.4, 89, 91, 5000, 6000, 90_000)
    ] == ["0 s", "89 s", "2 min", "83 min", "1.7 h", "25.0 h"]
