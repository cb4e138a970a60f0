"""Two sweeps that share runs do each of them once: the second takes what a sibling folder has done."""
import json
import os
import socket
import time
from pathlib import Path

import pytest
from filelock import FileLock

from fgdlab.lab.config.run_config import RunConfig
from fgdlab.lab.provenance.code import code_of
from fgdlab.lab.run import RunFolder
from fgdlab.lab.run import folder as lab_folder
from fgdlab.lab.sweeps import execution as lab_sweep
from fgdlab.lab.sweeps.execution import execute
from fgdlab.lab.sweeps.planning import PlannedRun

ID = "0123456789abcdef"
CODE = json.dumps(code_of("none"))
FILES = {
    "params.json": '{"method": "none"}', "code.json": CODE, "metrics.jsonl": "{}\n", "log.txt": "", "run.ipynb": "{}",
    "checkpoint.pt": "c", "student.safetensors": "s", "detections.json": "[]", "lock": "",
    "snapshots/step_000001.safetensors": "early",
}


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def planned(sweep: str = "mine", row: str = "fg") -> PlannedRun:
    return PlannedRun(row, 0, RunConfig(), Path("runs", sweep, ID).absolute())


def done_in(sweep: str, parent: str = "runs", **changes) -> Path:
    """A finished run as run() leaves it; a change to None leaves a file out."""
    folder = Path(parent, sweep, ID)
    for name, text in {
        **FILES, "job.json": '{"row": "theirs"}', "result.json": '{"AP": 20.0, "AR": 30.0, "seconds": 5.0}', **changes,
    }.items():
        if text is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    return folder


@pytest.fixture
def bench(monkeypatch):
    """The folders that were launched; a launched run is done at once."""
    launched = []

    def launch(folder, *rest):
        launched.append(folder)
        RunFolder(folder).begin({"method": "none"}, {})
        Path(folder, "result.json").write_text('{"AP": 1.0, "AR": 1.0, "seconds": 1.0}')

    monkeypatch.setattr(lab_sweep, "launch", launch)
    monkeypatch.setattr(
        lab_sweep, "prepare_shared", lambda todo, say: launched.extend(f"prepared for {run.row}" for run in todo),
    )
    return launched


def swept(run: PlannedRun) -> list[str]:
    """The lines that the sweep said; the run is done then."""
    said = []
    assert execute([run], jobs=1, say=said.append)["done"] == [run]
    return said


def test_a_run_that_a_sibling_has_done_is_taken_from_there_and_told_in_one_line(bench):
    source, run = done_in("theirs"), planned()
    assert swept(run) == ["       done  fg, seed 0: copied from runs/theirs, which has done this run"]
    assert bench == []  # nothing launched, and neither data nor teacher made for it
    for name, text in FILES.items():
        assert (name == "lock") != (run.folder / name).exists()
        assert name == "lock" or (run.folder / name).read_text() == text
    assert (run.folder / "result.json").read_bytes() == (source / "result.json").read_bytes()
    job = json.loads((run.folder / "job.json").read_text())
    assert (job["row"], job["parameters"]["out"], job["taken_from"]) == ("fg", str(run.folder), "runs/theirs")
    assert [path.name for path in Path("runs/mine").iterdir() if path.name.startswith(f".{ID}")] == []


def test_large_files_are_one_on_disk_and_files_that_grow_are_not(bench):
    source, run = done_in("theirs"), planned()
    swept(run)
    shared = {
        name for name in FILES if (run.folder / name).exists() and os.path.samefile(run.folder / name, source / name)
    }
    assert shared == {"checkpoint.pt", "student.safetensors", "detections.json", "snapshots/step_000001.safetensors"}


def test_a_disk_without_links_gets_copies(bench, monkeypatch):
    def refused(*arguments):
        raise OSError("no links here")

    monkeypatch.setattr(lab_folder.os, "link", refused)
    source, run = done_in("theirs"), planned()
    swept(run)
    assert bench == [] and not os.path.samefile(run.folder / "checkpoint.pt", source / "checkpoint.pt")


HALF = {
    "no result": {"result.json": None}, "half a result": {"result.json": '{"AP": 2'},
    "no weights": {"student.safetensors": None},
    "no detections": {"detections.json": None}, "no settings": {"params.json": None},
    "a process at work in it": {
        "running.json": json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "started": time.time()})
    },
}


@pytest.mark.parametrize("changes", HALF.values(), ids=HALF)
def test_a_half_written_folder_is_not_taken(bench, changes):
    done_in("theirs", **changes)
    run = planned()
    swept(run)
    assert bench == ["prepared for fg", str(run.folder)]


@pytest.mark.parametrize(
    "sweep, parent", [("theirs", "elsewhere"), ("theirs/deep", "runs"), (".theirs", "runs"), ("", "runs")],
)
def test_only_siblings_of_the_sweeps_folder_count(bench, sweep, parent):
    done_in(sweep, parent)
    run = planned()
    swept(run)
    assert bench == ["prepared for fg", str(run.folder)]


def test_what_is_left_of_an_interrupted_or_failed_run_gives_way(bench):
    done_in("theirs")
    run = planned()
    for name in ("params.json", "older.txt"):
        (run.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (run.folder / name).write_text("{}")
    assert RunFolder(run.folder).state() == "interrupted"
    swept(run)
    assert bench == [] and not (run.folder / "older.txt").exists()


def test_a_folder_in_which_a_process_still_dies_is_left_to_it(bench):
    done_in("theirs")
    run = planned()
    run.folder.mkdir(parents=True)
    (run.folder / "params.json").write_text("{}")
    with FileLock(run.folder / "lock"):
        swept(run)
    assert bench == ["prepared for fg", str(run.folder)]


def test_a_runner_killed_while_it_copied_leaves_a_pending_run_and_its_rest_is_cleared(bench):
    done_in("theirs")
    run = planned()
    rest = run.folder.with_name(f".{ID}.99.unfinished")
    rest.mkdir(parents=True)
    (rest / "result.json").write_text('{"AP": 0}')
    assert RunFolder(run.folder).state() == "pending"
    swept(run)
    assert not rest.exists() and json.loads((run.folder / "result.json").read_text())["AP"] == 20


def test_a_copy_that_breaks_leaves_nothing_and_the_run_is_run(bench, monkeypatch):
    def broken(source, target):
        if source.endswith("run.ipynb"):
            raise OSError("no space left on device")
        Path(target).touch()

    monkeypatch.setattr(lab_folder, "link_or_copy", broken)
    done_in("theirs")
    run = planned()
    swept(run)
    assert bench == ["prepared for fg", str(run.folder)]
    assert sorted(path.name for path in run.folder.parent.iterdir()) == [".runner.lock", ID]


def test_a_run_that_a_sibling_finishes_while_this_sweep_is_at_work_is_taken_too(bench, monkeypatch):
    run = planned()
    monkeypatch.setattr(lab_sweep, "prepare_shared", lambda todo, say: done_in("theirs"))
    assert len(swept(run)) == 1 and bench == []


def test_equal_runs_of_two_sweeps_are_done_once(bench):
    swept(planned("theirs"))
    for name in lab_folder.NEEDED:
        if not (planned("theirs").folder / name).exists():
            (planned("theirs").folder / name).write_text("{}")
    bench.clear()
    swept(planned("mine", row="another name"))
    assert bench == []
