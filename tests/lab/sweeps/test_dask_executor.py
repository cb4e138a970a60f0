"""Runs on a Dask cluster that was started by hand: a scheduler and two workers, each a process of its own on this
machine.

What runs here trains nothing but for the last test: a module that claims its folder, waits for a file named go and
leaves a result.
"""
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

import fgdlab
from fgdlab.lab.config.run_config import RunConfig
from fgdlab.lab.errors import UserError
from fgdlab.lab.run import RunFolder
from fgdlab.lab.sweeps import dask_executor as lab_cluster
from fgdlab.lab.sweeps import execution as lab_sweep
from fgdlab.lab.sweeps.dask_executor import DaskExecutor, once
from fgdlab.lab.sweeps.planning import PlannedRun
from tests.helpers.stand_in_jobs import write_stand_in
from tests.helpers.waiting import until
from tests.robustness.kill_matrix import SweepCommand, assert_same_results, worker_of

ROOT = Path(fgdlab.__file__).parents[1]
PATIENCE = 240                                                       # seconds for any step, on the busiest machine
STAND_IN = """
import json, os, sys, time
from pathlib import Path
from fgdlab.lab.run import RunFolder
from fgdlab.lab.sweeps.worker import stay_with
folder = Path(sys.argv[1])
here = RunFolder(folder)
stay_with(int(sys.argv[2]), here)
here.claim()
here.begin(here.read("job.json")["parameters"], {})
while not (folder / "go").exists():
    time.sleep(0.05)
threads, home = os.environ["OMP_NUM_THREADS"], os.environ["FGDLAB_HOME"]
here.finish({"AP": 20.0, "AR": 30.0, "seconds": 1.0, "threads": threads, "home": home})
here.release()
"""


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FGDLAB_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    write_stand_in(tmp_path, STAND_IN)


@pytest.fixture
def dask(tmp_path):
    """dask(*arguments) starts `dask ARGUMENTS` as a process; all are ended after the test, the runs of workers with
    them."""
    started = []

    def start(*arguments: str) -> subprocess.Popen:
        with open(tmp_path / "dask.log", "ab") as log:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "dask", *arguments], stdout=log, stderr=log, start_new_session=True,
                )
            )
        return started[-1]

    yield start
    for process in reversed(started):
        process.kill()
        process.wait()


@pytest.fixture
def scheduler(dask, tmp_path) -> str:
    """The address of a scheduler without workers."""
    file = tmp_path / "scheduler.json"
    dask("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
    until(lambda: file.exists() and file.read_text().strip().endswith("}"), PATIENCE, "the start of a scheduler")
    return json.loads(file.read_text())["address"]


@pytest.fixture
def workers(dask, scheduler):
    """workers(count, *options) starts so many workers; returns when the scheduler knows them all."""
    def start(count: int, *options: str) -> list[subprocess.Popen]:
        made = [
            dask(
                "worker", scheduler, "--nthreads", "1", "--memory-limit", "0", "--no-nanny", "--no-dashboard", *options,
            )
            for _ in range(count)
        ]

        def there() -> bool:
            try:
                with DaskExecutor(scheduler) as pool:
                    return pool.room() >= count
            except UserError:
                return False

        until(there, PATIENCE, "the start of workers")
        return made

    return start


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """planned(count, device) -> runs of the module above."""
    real = lab_sweep.job_of
    monkeypatch.setattr(lab_sweep, "job_of", lambda run: {**real(run), "module": "stand_in"})
    monkeypatch.setattr(lab_sweep, "prepare_shared", lambda todo, say: None)
    (tmp_path / "ablations/sweeps").mkdir(parents=True)

    def make(count: int, device: str = "cpu") -> list[PlannedRun]:
        return [
            PlannedRun(
                "fg", seed, RunConfig(seed=seed, device=device, threads=3), tmp_path / "runs/mine" / f"run{seed}",
            )
            for seed in range(count)
        ]

    return make


class InBackground(threading.Thread):
    """A sweep in the background; ``states`` at the end, ``said`` on the way."""

    def __init__(self, runs, pool):
        super().__init__(daemon=True)
        self.runs, self.pool, self.said, self.states = runs, pool, [], None
        self.start()

    def run(self):
        self.states = lab_sweep.execute(self.runs, executor=self.pool, jobs=self.pool.room, say=self.said.append)

    def end(self) -> dict[str, list[int]]:
        self.join(PATIENCE)
        return {state: sorted(run.seed for run in runs) for state, runs in self.states.items() if runs}


def running(runs) -> list[PlannedRun]:
    return [run for run in runs if RunFolder(run.folder).state() == "running"]


def go(runs) -> None:
    for run in runs:
        run.folder.mkdir(parents=True, exist_ok=True)
        (run.folder / "go").touch()


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_its_run_alone_and_the_next_call_completes_it(scheduler, workers, planned):
    workers(2)
    runs = planned(4)
    with DaskExecutor(scheduler) as pool:
        assert pool.room() == 2
        sweep = InBackground(runs, pool)
        until(lambda: len(running(runs)) == 2, PATIENCE, "the start of two runs")
        lost, kept = running(runs)
        launcher = psutil.Process(json.loads((lost.folder / "running.json").read_text())["pid"])
        os.kill(launcher.ppid(), signal.SIGKILL)                     # the worker; its run follows it
        until(
            lambda: not launcher.is_running() or launcher.status() == psutil.STATUS_ZOMBIE, PATIENCE,
            "the end of the lost run's process",
        )
        go(each for each in runs if each is not lost)
        assert sweep.end() == {
            "done": sorted(each.seed for each in runs if each is not lost), "interrupted": [lost.seed],
        }
        (line,) = [line for line in sweep.said if "interrupted" in line]
        assert f"fg, seed {lost.seed}" in line and "its worker is gone" in line
        times = {each: (each.folder / "result.json").stat().st_mtime_ns for each in runs if each is not lost}
        go([lost])
        again = InBackground(runs, pool)                                 # with the worker that is left
        assert again.end() == {"done": [0, 1, 2, 3]}
    assert {each: (each.folder / "result.json").stat().st_mtime_ns for each in times} == times
    result = json.loads((lost.folder / "result.json").read_text())
    # a run's environment is the runner's wish, not the worker's
    assert result["threads"] == "3" and result["home"] == os.environ["FGDLAB_HOME"]


@pytest.mark.slow
def test_runs_that_want_a_gpu_go_to_workers_that_offer_one(scheduler, workers, planned):
    plain = workers(1)
    with pytest.raises(UserError, match="--cluster must have workers that offer a GPU .*got none at tcp"):
        DaskExecutor(scheduler, gpu=True)
    workers(2, "--resources", "GPU=1")                               # waits until the scheduler knows of two at least
    until(lambda: cards(scheduler) == 2, PATIENCE, "the workers with a card")
    runs = planned(3, "cuda")
    with DaskExecutor(scheduler, gpu=True) as pool:
        assert pool.room() == 2
        sweep = InBackground(runs, pool)
        until(lambda: len(running(runs)) == 2, PATIENCE, "the start of two runs")
        parents = {
            psutil.Process(json.loads((each.folder / "running.json").read_text())["pid"]).ppid()
            for each in running(runs)
        }
        assert len(parents) == 2 and plain[0].pid not in parents
        go(runs)
        assert sweep.end() == {"done": [0, 1, 2]}


def cards(address: str) -> int:
    try:
        with DaskExecutor(address, gpu=True) as pool:
            return pool.room()
    except UserError:
        return 0


@pytest.mark.slow
def test_a_cluster_without_any_worker_left_gives_its_runs_back(scheduler, workers, planned, monkeypatch):
    monkeypatch.setattr(lab_cluster, "PATIENCE", 2)
    (worker,) = workers(1)
    runs = planned(2)
    with DaskExecutor(scheduler) as pool:
        sweep = InBackground(runs, pool)
        until(lambda: running(runs), PATIENCE, "the start of a run")
        worker.kill()
        assert sweep.end() == {"interrupted": [0], "pending": [1]}
    assert (
        sweep.said[-1] == "no worker is left; start some, and the same command goes on"
        and "cancelled" in sweep.said[-2]
    )


# --- real runs --------------------------------------------------------------------------------------------------------

@pytest.mark.slow
def test_a_sweep_on_a_cluster_gives_the_results_of_local_processes_though_a_worker_was_killed(
    scheduler, workers, tmp_path,
):
    local, far = (tmp_path / name for name in ("local", "far"))
    local.mkdir()
    far.mkdir()
    local = SweepCommand(local, ("none", "fg", "split"))
    far = SweepCommand(far, ("none", "fg", "split"), local.home)
    assert local.start().wait(PATIENCE) == 0, local.log()
    workers(2)
    runner = far.start("--cluster", scheduler)
    victim = until(
        lambda: next((run for run in far.runs() if (run / "metrics.jsonl").exists() and worker_of(run)), None),
        PATIENCE,
        "a run in training",
    )
    worker_of(victim).parent().kill()                                 # the worker
    assert runner.wait(PATIENCE) == 1, far.log()
    assert (
        [run for run in far.runs() if RunFolder(run).state() != "done"] == [victim]
        and RunFolder(victim).state() == "interrupted"
    )
    done = far.results()
    assert len(done) == 2
    assert far.start("--cluster", scheduler).wait(PATIENCE) == 0, far.log()
    assert {path: far.results()[path] for path in done} == done
    assert_same_results(far, local)


# --- without a cluster ------------------------------------------------------------------------------------------------

def test_a_run_that_killed_its_worker_is_not_started_by_the_next_one(tmp_path, monkeypatch):
    monkeypatch.setattr(lab_cluster, "launch", lambda folder, environment: 7)
    assert once("a", str(tmp_path), {}) == 7
    with pytest.raises(RuntimeError, match="its worker is gone"):
        once("a", str(tmp_path), {})
    assert once("b", str(tmp_path), {}) == 7                         # another call of the runner


def test_dask_that_is_not_installed_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(
        UserError,
        match=r"--cluster must find the package distributed, got none; install it by `pip install 'fgdlab\[dask\]'`",
    ):
        DaskExecutor("tcp://127.0.0.1:1")


@pytest.mark.slow
def test_a_scheduler_that_does_not_answer_is_one_line():
    with pytest.raises(
        UserError,
        match="address of a Dask scheduler that answers, got 'tcp://127.0.0.1:9' .*start one by `dask scheduler`",
    ):
        DaskExecutor("tcp://127.0.0.1:9")
