"""A sweep that is killed again and again ends with the very numbers of one that was left alone, and leaves no process behind.

Real processes, real training, at smoke scale on tiny images: Table 1 with one seed, once undisturbed and once disturbed.
"""
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pandas as pd
import psutil
import pytest

import fgdlab
from fgdlab.lab.sweep import SCORE_COLUMNS, state_of

pytestmark = pytest.mark.slow

ROOT = Path(fgdlab.__file__).parents[1]
SETTINGS = {
    "image_size": 64, "train_images": 16, "eval_images": 8, "batch_size": 4, "teacher_batch_size": 4, "epochs": 8, "checkpoint_every": 1, "log_every": 1,
}
TIMES = ["seconds", "train_seconds", "eval_seconds", "images_per_second", "peak_memory_gb", "finished", "commit", "dirty"]
TIMED = ["teacher_weights"]                                          # hashes a file that holds the seconds of the teacher's training
PATIENCE = 300                                                       # seconds for any step, on the busiest machine
GRACE = 10                                                           # seconds for everything to follow a killed runner, kernels in training among it


class Sweeping:
    """The same ``fgdlab sweep`` again and again, in a folder, a cache and with a mark of its own, by which its processes are found."""

    def __init__(self, folder: Path):
        self.folder, self.mark = folder, uuid.uuid4().hex
        shutil.copytree(ROOT / "ablations/sweeps", folder / "ablations/sweeps")                 # nobody edits these while the test runs
        notebook = json.loads((ROOT / "ablations/run_one.ipynb").read_text())
        notebook["cells"] = [cell for cell in notebook["cells"] if "viz." not in "".join(cell["source"])]       # figures take longer than these runs
        (folder / "ablations/run_one.ipynb").write_text(json.dumps(notebook))
        self.out = folder / "runs/table1_areas-smoke"
        self.command = [sys.executable, "-m", "fgdlab", "sweep", "table1_areas", "--scale", "smoke", "--jobs", "2"]
        for name, value in SETTINGS.items():
            self.command += ["--set", f"{name}={value}"]

    def start(self) -> subprocess.Popen:
        places = {"FGDLAB_HOME": str(self.folder / "home"), "PYTHONPATH": str(ROOT), "FGDLAB_TEST_MARK": self.mark}
        with open(self.folder / "log.txt", "ab") as log:
            return subprocess.Popen(self.command, cwd=self.folder, env={**os.environ, **places}, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def processes(self) -> list[psutil.Process]:
        """Every living process that descends from this sweep."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("FGDLAB_TEST_MARK") == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
        return found

    def log(self) -> str:
        return (self.folder / "log.txt").read_text()

    def runs(self) -> list[Path]:
        return sorted(path.parent for path in self.out.glob("*/job.json"))

    def results(self) -> dict[Path, int]:
        """The result.json files that are there, with the moment of their last change."""
        return {path: path.stat().st_mtime_ns for path in self.out.glob("*/result.json")}

    def table(self) -> pd.DataFrame:
        return pd.read_csv(self.out / "results.csv").drop(columns=[*TIMES, *TIMED])


def until(true, process: subprocess.Popen | None = None, seconds: float = PATIENCE):
    """What ``true()`` gives as soon as it gives something, or None once ``process`` has ended."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        if process is not None and process.poll() is not None:
            return None
        assert time.monotonic() < deadline, f"waited {seconds} s in vain"
        time.sleep(0.05)
    return found


def launcher(run: Path) -> psutil.Process | None:
    """The launch process of a run, if it lives."""
    try:
        return psutil.Process(json.loads((run / "running.json").read_text())["pid"])
    except (OSError, ValueError, psutil.NoSuchProcess):
        return None


def kernel(run: Path) -> psutil.Process | None:
    parent = launcher(run)
    try:
        return next(iter(parent.children()), None) if parent else None
    except psutil.NoSuchProcess:
        return None


def kill(process: psutil.Process | subprocess.Popen | None) -> bool:
    """SIGKILL, if it is still there."""
    try:
        if process is not None:
            process.send_signal(signal.SIGKILL)
        return process is not None
    except psutil.NoSuchProcess:
        return False


def logged(run: Path) -> int:
    """Steps in a run's metrics.jsonl."""
    path = run / "metrics.jsonl"
    return path.read_text().count('"total"') if path.exists() else 0


@pytest.fixture
def sweeping(tmp_path):
    """sweeping(name) -> Sweeping; whatever lives on after the test is ended."""
    made = []

    def make(name: str) -> Sweeping:
        (tmp_path / name).mkdir()
        made.append(Sweeping(tmp_path / name))
        return made[-1]

    yield make
    for each in made:
        for process in each.processes():
            kill(process)


def test_a_sweep_killed_at_random_moments_ends_with_the_numbers_of_an_undisturbed_one(sweeping):
    undisturbed, disturbed = sweeping("undisturbed"), sweeping("disturbed")
    assert undisturbed.start().wait(PATIENCE) == 0, undisturbed.log()
    seed = random.SystemRandom().randrange(10**6)
    draw = random.Random(seed)
    done: dict[Path, int] = {}

    def check(when: str) -> None:
        """What was done once is untouched, and nothing lives on."""
        now = disturbed.results()
        assert {path: now.get(path) for path in done} == done, f"{when}: a finished run was run again (moments by seed {seed})"
        done.update(now)
        until(lambda: not disturbed.processes(), seconds=GRACE)

    # the runner, while it makes data or teacher
    runner = disturbed.start()
    time.sleep(draw.uniform(1, 6))
    kill(runner)
    runner.wait()
    check("runner killed early")

    # a kernel in the middle of its training, a launch process, and the runner after the first result
    runner = disturbed.start()
    trained = until(lambda: next((run for run in disturbed.runs() if 3 <= logged(run) < 25 and kernel(run)), None), runner)
    assert trained, disturbed.log()
    steps = logged(trained)
    assert kill(kernel(trained))
    other = until(lambda: next((run for run in disturbed.runs() if run != trained and state_of(run) == "running"), None), runner)
    assert other, disturbed.log()
    time.sleep(draw.uniform(0, 3))
    kill(launcher(other))
    until(disturbed.results, runner)
    until(lambda: state_of(trained) != "running", runner)            # papermill looks after its kernel every few seconds
    assert not (trained / "result.json").exists() and state_of(trained) == "interrupted" and not (trained / "failed.json").exists()
    time.sleep(draw.uniform(0, 4))
    kill(runner)
    runner.wait()
    check("kernel, launch process and runner killed")

    # anybody, at any moment
    runner = disturbed.start()
    until(lambda: any(state_of(run) == "running" for run in disturbed.runs()), runner)
    time.sleep(draw.uniform(0, 5))
    kill(draw.choice(sorted(disturbed.processes(), key=lambda each: each.pid)))
    assert runner.wait(PATIENCE) in (-signal.SIGKILL, 0, 1)
    check("anybody killed")

    # the same command until it is content
    for _ in range(3):
        if disturbed.start().wait(PATIENCE) == 0:
            break
        check("left alone")
    assert len(disturbed.results()) == 5, disturbed.log()
    check("completed")
    assert "Traceback" not in disturbed.log()
    result = json.loads((trained / "result.json").read_text())
    assert result["resumed_at"] >= min(steps, result["steps"]) - 1   # from its checkpoint, not from the start

    # and once more: nothing to do
    started = time.monotonic()
    assert disturbed.start().wait(PATIENCE) == 0
    assert disturbed.results() == done
    check(f"nothing to do, {time.monotonic() - started:.0f} s")

    table = disturbed.table()
    assert set(table["state"]) == {"done"} and table[["AP", "AR"]].notna().all().all() and {*SCORE_COLUMNS} <= set(table)
    pd.testing.assert_frame_equal(table, undisturbed.table(), check_exact=True)
    assert [run.name for run in disturbed.runs()] == [run.name for run in undisturbed.runs()]
    differ = [run.name for run in disturbed.runs() if (run / "student.safetensors").read_bytes() != (undisturbed.out / run.name / "student.safetensors").read_bytes()]
    assert differ == [], f"weights differ (moments by seed {seed})"
