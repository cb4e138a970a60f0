"""A sweep from plan to results.csv.

No run of these tests trains: ``launch`` is replaced by a function that leaves what a run would leave.
"""
import json
import os
import shutil
import socket
import threading
import time
from collections import namedtuple
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
import yaml
from filelock import FileLock
from PIL import Image

import fgdlab
from fgdlab.lab.config.run_config import RunConfig
from fgdlab.lab.errors import UserError
from fgdlab.lab.run import STATES, RunFolder
from fgdlab.lab.sweeps import execution as lab_sweep
from fgdlab.lab.sweeps.collection import RESULT_COLUMNS, SCORE_COLUMNS, collect, read_results, write_results
from fgdlab.lab.sweeps.execution import execute
from fgdlab.lab.sweeps.planning import notebook_path, plan, runs_folder
from fgdlab.lab.sweeps.spec import load_sweep

NOTEBOOK = Path(fgdlab.__file__).parents[1] / "ablations/run_one.ipynb"
ROWS = ("none", "fg", "bg")
NOBODY = 2**22 + 1                                                   # no process has this id: Linux gives at most 2**22


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """The current folder of every test: a project of its own with one sweep of three rows and two seeds, and nobody's
    cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FGDLAB_HOME", str(tmp_path / "home"))
    (tmp_path / "ablations/sweeps").mkdir(parents=True)
    shutil.copy(NOTEBOOK, "ablations")
    content = {
        "title": "A title", "question": "Which?", "source": "nowhere", "baseline": "none", "seeds": [0, 1],
        "base": {"method": "fgd"}, "rows": {row: {"label": f"row {row}", "set": {"area": row}} for row in ROWS},
    }
    Path("ablations/sweeps/mine.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return tmp_path


@pytest.fixture
def sweep(project):
    return load_sweep("mine")


@pytest.fixture
def runs(sweep):
    return plan(sweep)


def keys(runs) -> list[tuple[str, int]]:
    return [(run.row, run.seed) for run in runs]


def write(path: Path, value) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def claim(folder: Path, pid: int, host: str | None = None) -> Path:
    return write(folder / "running.json", {"pid": pid, "host": host or socket.gethostname(), "started": time.time()})


# --- plan -------------------------------------------------------------------------------------------------------------

def test_a_plan_is_seed_by_seed_so_that_a_table_with_fewer_seeds_is_complete_first(sweep):
    assert keys(plan(sweep)) == [(row, seed) for seed in (0, 1) for row in ROWS]
    assert keys(plan(sweep.at("laptop", [5]))) == [(row, 5) for row in ROWS]


def test_every_run_has_a_folder_of_its_own_under_out(sweep, runs, tmp_path):
    assert (
        len({run.folder for run in runs}) == len(runs)
        and {run.folder.parent for run in runs} == {tmp_path / "runs/mine"}
    )
    assert {run.folder.parent for run in plan(sweep, Path("other"))} == {tmp_path / "other"}
    assert (runs_folder(sweep, "laptop"), runs_folder(sweep, "smoke")) == (Path("runs/mine"), Path("runs/mine-smoke"))
    assert not Path("runs").exists()                                 # a plan writes nothing


def test_run_ids_do_not_depend_on_the_folder_or_the_name_of_the_sweep(sweep, runs):
    ids = [run.id for run in runs]
    assert [run.id for run in plan(sweep, Path("elsewhere/deep"))] == ids
    Path("ablations/sweeps/mine.yaml").rename("ablations/sweeps/yours.yaml")
    assert [run.id for run in plan(load_sweep("yours"))] == ids


def other(value):
    """Another valid value of a setting's type."""
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else value / 2 + 0.125 if isinstance(value, float) else value + "x"


CHOICES = {
    "data": None, "teacher_cache": "off", "method": "none", "area": "both", "relation": "mse", "rounding": "exact",
    "frame": "image", "axes": "yx", "attention_of": "mean", "optimizer": "sgd", "schedule": "step", "precision": "bf16",
    "device": "cuda", "flavour": "mmdet", "teacher_parts": "backbone+neck", "fused": "off",
    "init": "random", "teacher_init": "random",
}


@pytest.mark.parametrize("name", [name for name in RunConfig().deciding() if name not in ("seed", "data")])
def test_a_run_id_changes_with_every_setting(sweep, runs, name):
    before = getattr(runs[0].config, name)
    value = CHOICES.get(name) or other(before)
    changed = plan(sweep, overrides={name: value})
    assert getattr(changed[0].config, name) == value != before
    assert changed[0].id != runs[0].id


def test_a_run_id_changes_with_seed_row_and_scale(sweep, runs):
    ids = {run.id for scale in ("laptop", "smoke") for run in plan(sweep, scale=scale)}
    assert len(ids) == 2 * len(runs)


@pytest.mark.parametrize("name", sorted({*RunConfig().dict()} - {*RunConfig().deciding()}))
def test_a_run_id_does_not_change_with_a_setting_that_changes_no_number(sweep, runs, name):
    before = getattr(runs[0].config, name)
    value = "smoke" if name == "scale" else other(before)
    assert RunConfig().but(**{name: value}).identity() == RunConfig().identity()
    if name != "scale":
        changed = plan(sweep, overrides={name: value})
        assert getattr(changed[0].config, name) == value != before and changed[0].id == runs[0].id


def test_a_run_id_does_not_change_with_the_notebook(sweep, runs):
    notebook = json.loads(notebook_path().read_text())
    notebook["cells"].append(
        {"cell_type": "code", "metadata": {}, "source": ["1 + 1"], "outputs": [], "execution_count": None}
    )
    write(notebook_path(), notebook)
    assert [run.id for run in plan(sweep)] == [run.id for run in runs]


def test_a_run_id_changes_with_the_annotations_of_a_data_folder_in_either_layout(sweep):
    def ids(folder):
        return [run.id for run in plan(sweep, overrides={"data": folder})]

    small_folder(Path("plain"))
    for name in ("train2017", "val2017"):
        shutil.copytree("plain/images", f"coco/{name}")
        write(Path(f"coco/annotations/instances_{name}.json"), json.loads(Path("plain/annotations.json").read_text()))
    plain, coco = ids("plain"), ids("coco")
    assert ids("plain") == plain and ids("coco") == coco
    for file in ("plain/annotations.json", "coco/annotations/instances_train2017.json"):
        document = json.loads(Path(file).read_text())
        document["annotations"][0]["bbox"][2] += 1
        write(Path(file), document)
    assert not set(plain) & set(ids("plain")) and not set(coco) & set(ids("coco"))


def test_a_run_id_changes_with_pixels_and_not_with_the_place_of_the_folder(sweep):
    def ids(folder):
        return [run.id for run in plan(sweep, overrides={"data": folder})]

    small_folder(Path("here"))
    before = ids("here")
    shutil.copytree("here", "there/moved")
    assert ids("there/moved") == ids(str(Path("here").absolute())) == before
    for path in Path("there/moved/images").iterdir():
        Image.new("RGB", (64, 64)).save(path)
    assert not {*ids("there/moved")} & {*before}


def small_folder(folder: Path) -> None:
    """Ten images of 64 px with one box each."""
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for n in range(10):
        Image.new("RGB", (64, 64), (n, 90, 90)).save(folder / "images" / f"{n}.png")
        images.append({"id": n, "file_name": f"{n}.png", "width": 64, "height": 64})
        annotations.append({"id": n, "image_id": n, "category_id": 1, "bbox": [4, 4, 20 + n, 20]})
    categories = [{"id": 1, "name": "thing"}]
    write(folder / "annotations.json", {"images": images, "annotations": annotations, "categories": categories})


def test_a_run_id_changes_with_the_weights_of_a_given_teacher(sweep):
    Path("teacher.safetensors").write_bytes(b"one")
    before = plan(sweep, overrides={"teacher_checkpoint": "teacher.safetensors"})
    Path("teacher.safetensors").write_bytes(b"two")
    assert not {run.id for run in before} & {
        run.id for run in plan(sweep, overrides={"teacher_checkpoint": "teacher.safetensors"})
    }


def test_a_missing_notebook_and_a_missing_data_folder_are_one_line_errors(sweep):
    with pytest.raises(UserError, match="nowhere must be a folder with annotations.json.*got nothing there"):
        plan(sweep, overrides={"data": "nowhere"})
    notebook_path().unlink()
    with pytest.raises(UserError, match=r"run_one\.ipynb must be the notebook.*got no such file"):
        plan(sweep)


# --- execute ----------------------------------------------------------------------------------------------------------

RESULT = {
    **{name: 20.0 for name in SCORE_COLUMNS}, "teacher_AP": 40.0, "seconds": 2.0, "train_seconds": 1.0,
    "eval_seconds": 0.5, "images_per_second": 30.0,
    "peak_memory_gb": 1.0, "parameters": 1000, "steps": 40, "data_line": "scenes",
    "teacher": {"origin": "shipped", "weights": "abc"},
    "provenance": {
        "device": "a processor", "commit": "0123", "dirty": False, "cores": 2, "python": "3.11.7",
        "packages": {"torch": "2"}, "finished": "2030-01-01",
    },
}


class Bench:
    """Stands in for :func:`fgdlab.lab.sweeps.worker.launch`.

    ``ends[row, seed]`` is "done" by default, "failed", "killed", or a function of the folder.
    """

    def __init__(self):
        self.ends, self.started, self.going, self.most, self.environments = {}, [], 0, 0, []
        self.lock = threading.Lock()

    def launch(self, folder: str, environment: dict) -> int:
        folder = Path(folder)
        job = json.loads((folder / "job.json").read_text())
        key = (job["row"], job["seed"])
        with self.lock:
            self.started.append(key)
            self.environments.append(environment)
            self.going += 1
            self.most = max(self.most, self.going)
        try:
            RunFolder(folder).begin(job["parameters"], {})
            end = self.ends.get(key, "done")
            if callable(end):
                end = end(folder) or "done"
            if end == "failed":
                write(folder / "failed.json", {"error": "ValueError: no good"})
            elif end == "done":
                write(folder / "result.json", {**RESULT, "AP": 20.0 + 10 * ROWS.index(key[0]) + key[1]})
            return {"done": 0, "failed": 1, "killed": 2}[end]
        finally:
            with self.lock:
                self.going -= 1


@pytest.fixture
def bench(monkeypatch):
    bench = Bench()
    monkeypatch.setattr(lab_sweep, "launch", bench.launch)
    monkeypatch.setattr(lab_sweep, "prepare_shared", lambda todo, say: None)
    monkeypatch.setattr("fgdlab.lab.teachers.teachers.kept_teacher_hash", lambda config: "abc")
    return bench


class Inline(Executor):
    """The smallest executor there can be: submit() runs the call at once. It counts what it was asked."""

    def __init__(self):
        self.calls, self.shut = [], 0

    def submit(self, call, *args, **settings):
        self.calls.append((call, args))
        future = Future()
        future.set_result(call(*args, **settings))
        return future

    def shutdown(self, wait=True, *, cancel_futures=False):
        self.shut += 1


def quiet(runs, said=None, **settings):
    said = [] if said is None else said
    states = execute(runs, say=said.append, **settings)
    assert list(states) == list(STATES) and sum(map(len, states.values())) == len(runs)
    return {state: keys(found) for state, found in states.items() if found}


def test_every_run_is_started_once_in_the_order_of_the_plan(runs, bench):
    assert quiet(runs, jobs=1) == {"done": keys(runs)} and bench.started == keys(runs)


def test_what_is_done_is_not_run_again(runs, bench):
    quiet(runs)
    before = [(run.folder / "result.json").stat().st_mtime_ns for run in runs]
    bench.started.clear()
    assert quiet(runs) == {"done": keys(runs)} and bench.started == []
    assert [(run.folder / "result.json").stat().st_mtime_ns for run in runs] == before


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_so_many_runs_go_side_by_side_as_jobs_says_and_no_more(runs, bench, jobs):
    meet = threading.Barrier(jobs)
    # breaks unless `jobs` of them are there at once
    bench.ends = {key: lambda folder: meet.wait(10) and None for key in keys(runs)}
    assert quiet(runs, jobs=jobs) == {"done": keys(runs)} and bench.most == jobs


def test_a_run_gets_its_settings_its_folder_and_its_threads(sweep, bench):
    runs = plan(sweep, overrides={"threads": 3, "data": "digits"})
    quiet(runs[:1])
    job = json.loads((runs[0].folder / "job.json").read_text())
    assert (
        job["parameters"] == {**runs[0].config.dict(), "out": str(runs[0].folder)}
        and (job["row"], job["seed"]) == ("none", 0)
    )
    assert Path(job["notebook"]) == notebook_path() and Path(job["notebook"]).is_absolute()
    assert bench.environments[0]["OMP_NUM_THREADS"] == "3"


def test_a_failure_takes_nobody_with_it_and_is_told_with_its_error(runs, bench):
    bench.ends = {("fg", 0): "failed", ("bg", 0): "killed"}
    said = []
    states = quiet(runs, said, jobs=1)
    assert states == {
        "failed": [("fg", 0)], "interrupted": [("bg", 0)], "done": [("none", 0), ("none", 1), ("fg", 1), ("bg", 1)],
    }
    (line,) = [line for line in said if "failed" in line]
    assert "fg, seed 0" in line and "ValueError: no good" in line and str(runs[1].folder / "run.ipynb") in line
    (line,) = [line for line in said if "interrupted" in line]
    assert "bg, seed 0" in line and str(runs[2].folder / "log.txt") in line
    assert "AP 20.0" in said[0] and len(said) == len(runs)


def test_failed_runs_stay_so_until_retry_failed_and_interrupted_ones_go_on_by_themselves(runs, bench):
    bench.ends = {("fg", 0): "failed", ("bg", 0): "killed"}
    quiet(runs)
    bench.ends, bench.started[:] = {}, []
    assert quiet(runs)["failed"] == [("fg", 0)] and bench.started == [("bg", 0)]
    bench.started.clear()
    assert quiet(runs, retry_failed=True) == {"done": keys(runs)} and bench.started == [("fg", 0)]
    assert not (runs[1].folder / "failed.json").exists()


def of_older_code(run) -> None:
    code = run.here.read("code.json")
    write(run.folder / "code.json", {"hash": "older", "files": {**code["files"], "fgdlab/focal.py": "older"}})


def test_a_stale_run_is_said_with_its_changed_file_set_aside_and_run_again(runs, bench):
    quiet(runs)
    of_older_code(runs[1])
    bench.started.clear()
    said = []
    assert quiet(runs, said) == {"done": keys(runs)} and bench.started == [("fg", 0)]
    assert said[0].startswith("      stale  fg, seed 0: changed since it ran: fgdlab/focal.py; it is run again")
    assert len(list((runs[0].folder.parent / ".stale").iterdir())) == 1


def test_keep_stale_takes_it_as_done_and_its_results_carry_the_older_code(runs, bench, sweep):
    quiet(runs)
    of_older_code(runs[1])
    bench.started.clear()
    assert quiet(runs, keep_stale=True) == {"done": keys(runs)} and bench.started == []
    assert list(collect(runs, sweep, keep_stale=True)["state"]) == ["done"] * len(runs)
    assert list(collect(runs, sweep)["state"]) == ["done", "stale", *["done"] * (len(runs) - 2)]


def test_a_run_whose_teacher_has_other_weights_by_now_is_stale(runs, bench, monkeypatch):
    quiet(runs)
    monkeypatch.setattr("fgdlab.lab.teachers.teachers.kept_teacher_hash", lambda config: "retrained")
    assert (
        {run.state() for run in runs if run.row != "none"} == {"stale"}
        and runs[1].stale_reasons() == ["the teacher's weights"]
    )
    monkeypatch.setattr("fgdlab.lab.teachers.teachers.kept_teacher_hash", lambda config: None)
    assert {run.state() for run in runs} == {"done"}                 # not on this machine: nothing to compare with


def test_fail_fast_starts_no_more_after_the_first_failure(runs, bench):
    bench.ends = {("fg", 0): "failed"}
    assert quiet(runs, jobs=1, fail_fast=True) == {
        "done": [("none", 0)], "failed": [("fg", 0)], "pending": keys(runs)[2:],
    }


def test_a_run_whose_process_was_killed_is_taken_over(runs, bench):
    claim(runs[0].folder, NOBODY)
    write(runs[0].folder / "params.json", {})
    assert quiet(runs) == {"done": keys(runs)} and ("none", 0) in bench.started


def test_a_run_that_a_process_is_at_work_on_is_waited_for_and_not_started(runs, bench):
    """As a job that outlived its runner: it ends well after a while."""
    claim(runs[0].folder, os.getpid())
    RunFolder(runs[0].folder).begin(runs[0].config.dict(), {})
    ends = threading.Timer(1, lambda: write(runs[0].folder / "result.json", {**RESULT, "AP": 20.0}))
    ends.start()
    said = []
    assert (
        quiet(runs, said) == {"done": keys(runs)} and ("none", 0) not in bench.started
        and len(bench.started) == len(runs) - 1
    )
    assert [line for line in said if "waiting" in line] == [
        f"    waiting  none, seed 0: process {os.getpid()} on {socket.gethostname()} is at work on it"
    ]


def test_a_run_that_was_waited_for_in_vain_is_taken_over(runs, bench):
    claimed = claim(runs[0].folder, os.getpid())
    threading.Timer(1, claimed.unlink).start()
    assert quiet(runs) == {"done": keys(runs)} and bench.started[-1] == ("none", 0)


def test_room_may_come_and_go_and_a_sweep_without_any_ends(runs, bench):
    room = iter([2, 2, 2, 1, 1, 1])
    said = []
    states = quiet(runs, said, jobs=lambda: next(room, 0), executor=Inline())
    assert states["pending"] and len(states["done"]) + len(states["pending"]) == len(runs)
    assert said[-1] == "no worker is left; start some, and the same command goes on"


def test_a_future_that_is_taken_back_is_told_and_its_run_is_pending(runs, bench):
    class Withdrawn(Inline):
        def submit(self, call, *args, **settings):
            future = Future()
            future.cancel()
            return future

    said = []
    assert quiet(runs[:1], said, executor=Withdrawn()) == {"pending": keys(runs[:1])}
    assert said == [f"    pending  none, seed 0: no result (see {runs[0].folder / 'log.txt'}) (cancelled)"]


def test_any_executor_will_do_and_is_not_shut_down_as_it_is_the_callers(runs, bench):
    pool = Inline()
    assert quiet(runs[:3], executor=pool) == {"done": keys(runs[:3])}
    assert [args[0] for call, args in pool.calls] == [str(run.folder) for run in runs[:3]]
    assert all(call == bench.launch and isinstance(args[1], dict) for call, args in pool.calls)
    assert pool.shut == 0
    with ThreadPoolExecutor(2) as threads:
        quiet(runs[3:4], executor=threads)
        assert quiet(runs[4:], executor=threads) == {"done": keys(runs[4:])}


def test_an_executor_that_loses_a_run_loses_that_run_alone(runs, bench):
    class Lossy(Inline):
        def submit(self, call, *args, **settings):
            if len(self.calls) != 1:
                return super().submit(call, *args, **settings)
            self.calls.append((call, args))
            future = Future()
            future.set_exception(RuntimeError("the worker was killed"))
            return future

    said = []
    assert quiet(runs, said, executor=Lossy(), jobs=1) == {
        "done": [key for key in keys(runs) if key != ("fg", 0)], "pending": [("fg", 0)],
    }
    assert any("fg, seed 0" in line for line in said)


def test_what_is_submitted_can_be_pickled_for_executors_of_other_processes(runs, monkeypatch):
    import pickle

    calls = []

    class Far(Inline):
        def submit(self, call, *args):
            calls.append(pickle.loads(pickle.dumps((call, args))))
            return super().submit(lambda: None)

    monkeypatch.setattr(lab_sweep, "prepare_shared", lambda todo, say: None)
    quiet(runs[:1], executor=Far())
    assert calls[0][0] is lab_sweep.launch


def test_two_runners_in_one_folder_are_refused(runs, bench):
    out = runs[0].folder.parent
    out.mkdir(parents=True)
    with FileLock(out / ".runner.lock"), pytest.raises(
        UserError, match="one runner at a time.*wait for it, or give --out another folder",
    ):
        execute(runs)
    assert bench.started == []
    assert quiet(runs) == {"done": keys(runs)}                       # free again


def test_a_folder_whose_lock_cannot_be_made_is_one_line_and_stays_usable(runs, bench):
    lock = runs[0].folder.parent / ".runner.lock"
    lock.mkdir(parents=True)  # stands for a folder that is read-only, which nothing is for root
    with pytest.raises(UserError, match="must be a folder that can be written, got: .*choose another folder"):
        execute(runs)
    lock.rmdir()
    assert quiet(runs) == {"done": keys(runs)}


def test_a_runner_that_was_refused_or_broke_leaves_the_folder_free(runs, bench, monkeypatch):
    def weak(todo, say):
        raise UserError("the teacher is too weak")

    with monkeypatch.context() as patch:
        patch.setattr(lab_sweep, "prepare_shared", weak)
        with pytest.raises(UserError, match="too weak"):
            execute(runs)
    assert bench.started == [] and quiet(runs) == {"done": keys(runs)}


def test_cells_of_equal_settings_are_one_run(sweep, bench):
    """``--set area=fg`` makes the rows equal: the same folder must not be started three times at once."""
    runs = plan(sweep.at("laptop", [0]), overrides={"area": "fg"})
    assert quiet(runs, jobs=3) == {"done": keys(runs)} and len(bench.started) == 1


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------

@pytest.fixture
def press(monkeypatch, bench):
    """press(times): the runner gets Ctrl-C in each of its first so many waits, two runs having begun.

    Returns the list of calls of end_processes.
    """
    ended = []

    def press(times: int) -> list:
        left, real = [times], lab_sweep.wait

        def wait(*args, **settings):
            if left[0]:
                while len(bench.started) < 2:
                    time.sleep(0.01)
                left[0] -= 1
                raise KeyboardInterrupt
            return real(*args, **settings)

        monkeypatch.setattr(lab_sweep, "wait", wait)
        monkeypatch.setattr(lab_sweep, "end_processes", lambda: ended.append(time.monotonic()))
        return ended

    return press


def test_ctrl_c_once_lets_the_running_ones_finish_and_starts_no_more(runs, bench, press):
    ended, said = press(1), []
    assert quiet(runs, said, jobs=2) == {"done": keys(runs[:2]), "pending": keys(runs[2:])}
    assert ended == [] and sum("letting 2 running ones finish" in line for line in said) == 1


def test_ctrl_c_takes_back_what_a_cluster_has_not_begun(runs, bench, monkeypatch):
    class Queue(Inline):
        """A cluster with one worker: the first run is at work for a while, the others wait in its queue."""

        def submit(self, call, folder, environment):
            future = Future()
            if not self.calls:
                claim(Path(folder), os.getpid())
                RunFolder(folder).begin({"method": "fgd"}, {})
                threading.Timer(1.5, lambda: (write(Path(folder, "result.json"), RESULT), future.set_result(0))).start()
            self.calls.append(future)
            return future

    real, presses = lab_sweep.wait, [KeyboardInterrupt]

    def wait(*args, **settings):
        if presses:
            raise presses.pop()
        return real(*args, **settings)

    monkeypatch.setattr(lab_sweep, "wait", wait)
    said = []
    assert quiet(runs[:3], said, executor=Queue(), jobs=3) == {"done": keys(runs[:1]), "pending": keys(runs[1:3])}
    assert said[0].startswith("starting no more; letting 1 running ones finish")


def test_ctrl_c_twice_ends_the_running_ones_and_the_next_call_goes_on(runs, bench, press):
    ended, said = press(2), []

    def killed(folder: Path) -> str:
        while not (folder / "stop").exists():  # by a file, for those that no signal from here reaches
            time.sleep(0.01)
        return "killed"

    bench.ends = {key: killed for key in keys(runs[:2])}
    assert quiet(runs, said, jobs=2) == {"interrupted": keys(runs[:2]), "pending": keys(runs[2:])}
    assert len(ended) == 1 and any("ending the running ones" in line for line in said)
    bench.ends = {}
    assert quiet(runs) == {"done": keys(runs)}


# --- what runs share --------------------------------------------------------------------------------------------------

@pytest.fixture
def prepared(monkeypatch):
    """The configs that make_ready prepared; each has a teacher of AP 40."""
    from fgdlab.lab.run import one_run as lab_run

    configs, teacher = [], namedtuple("Teacher", "path origin AP")(Path("t.safetensors"), "shipped", 40.0)
    monkeypatch.setattr(
        lab_run, "prepare",
        lambda config, progress=True: configs.append(config) or lab_run.RunInputs(None, None, teacher, None),
    )
    monkeypatch.setattr("torch.set_num_threads", lambda threads: None)
    return configs


@pytest.mark.parametrize("ap, warned", [(0.9, True), (1.0, False), (None, False)])
def test_a_teacher_that_has_learned_nothing_is_named_before_the_runs(runs, prepared, monkeypatch, ap, warned):
    from fgdlab.lab.run import one_run as lab_run

    teacher = namedtuple("Teacher", "origin AP")("trained now", ap)
    monkeypatch.setattr(lab_run, "prepare", lambda config: lab_run.RunInputs(None, None, teacher, None))
    said = []
    lab_sweep.prepare_shared(runs, said.append)
    assert all(("teacher_steps" in line) == warned for line in said) and said


def test_data_and_teacher_are_made_before_the_runs_and_not_once_a_run_and_the_teacher_is_told_once(runs, prepared):
    said = []
    lab_sweep.prepare_shared(runs, said.append)
    assert 1 <= len(prepared) <= len(ROWS) and any(config.area != "none" for config in prepared)
    assert said == [f"teacher {runs[0].config.teacher} (shipped): AP 40.0 on val"]


@pytest.mark.parametrize(
    "name",
    [
        "train_images", "eval_images", "teacher_epochs", "image_size", "lookalikes", "eval_split", "teacher_floor",
        "train_split",
    ],
)
def test_rows_of_different_data_or_teachers_are_each_prepared(sweep, prepared, name):
    runs = [*plan(sweep), *plan(sweep, overrides={name: other(getattr(RunConfig(), name))})]
    lab_sweep.prepare_shared(runs, lambda line: None)
    assert len({getattr(config, name) for config in prepared}) == 2


def test_nothing_is_made_where_nothing_is_to_do(prepared):
    lab_sweep.prepare_shared([], print)
    assert prepared == []


# --- collect ----------------------------------------------------------------------------------------------------------

@pytest.fixture
def mixed(runs, bench):
    """Six runs, of which two are done, one failed, one was killed, one runs, one was never started."""
    bench.ends = {("bg", 0): "failed", ("none", 1): "killed"}
    quiet(runs[:4])
    claim(runs[4].folder, os.getpid())
    return runs


def test_results_have_a_line_for_every_planned_run_done_or_not(mixed, sweep):
    frame = collect(mixed, sweep)
    assert list(zip(frame["row"], frame["seed"], frame["state"], strict=True)) == [
        ("none", 0, "done"), ("fg", 0, "done"), ("bg", 0, "failed"), ("none", 1, "interrupted"), ("fg", 1, "running"),
        ("bg", 1, "pending"),
    ]
    assert frame["AP"].tolist()[:2] == [20, 30] and frame.loc[2:, ["AP", "AR", "seconds"]].isna().all().all()
    assert (
        set(frame["sweep"]) == {"mine"} and set(frame["scale"]) == {"laptop"}
        and frame["label"].tolist()[:2] == ["row none", "row fg"]
    )


def test_results_hold_every_score_setting_and_origin(mixed, sweep):
    frame = collect(mixed, sweep)
    assert {
        *SCORE_COLUMNS, *RESULT_COLUMNS, "data", "device", "run_id", "commit", "dirty", "torch", "teacher_weights",
    } <= set(frame)
    unsaid = {"teacher_checkpoint"}                                  # a path; the hash of the weights stands for it
    assert set(RunConfig().dict()) - unsaid <= set(frame)
    assert frame["area"].tolist() == [run.config.area for run in mixed] and frame.loc[0, "device"] == "a processor"
    assert frame.loc[0, "run_id"] == mixed[0].id


def test_results_hold_no_path_of_this_machine(mixed, sweep, tmp_path):
    small_folder(tmp_path / "photos")
    Path("t.safetensors").write_bytes(b"1")
    settings = {"data": str(tmp_path / "photos"), "teacher_checkpoint": str(tmp_path / "t.safetensors")}
    for runs in (mixed, plan(sweep, overrides=settings)):
        text = write_results(collect(runs, sweep), Path("results.csv")).read_text()
        assert (
            str(tmp_path) not in text and str(Path.home()) not in text and "photos" not in text
            and ".safetensors" not in text
        )


def test_results_come_back_from_the_csv_and_a_results_folder_stands_in(mixed, sweep):
    out = mixed[0].folder.parent
    with pytest.raises(UserError, match="results of mine must be in .*got none; run `fgdlab sweep mine` first"):
        read_results(sweep, "laptop", out)
    frame = collect(mixed, sweep)
    write_results(frame.assign(AP=1.0), Path("ablations/results/mine.csv"))
    assert read_results(sweep, "laptop", out)[0]["AP"].tolist() == [1.0] * 6
    with pytest.raises(UserError, match="results of mine must be in elsewhere/results.csv, got none"):
        read_results(sweep, "laptop", Path("elsewhere"), committed=False)
    write_results(frame, out / "results.csv")
    found, path = read_results(sweep, "laptop", out)
    assert path == out / "results.csv"
    pd.testing.assert_frame_equal(
        found[["row", "seed", "state", "AP", "area"]], frame[["row", "seed", "state", "AP", "area"]], check_dtype=False,
    )
