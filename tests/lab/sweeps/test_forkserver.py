"""Runs forked from a process that has imported what they need. The notebooks of these tests import nothing but the standard library."""
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from fgdlab.lab.sweeps import worker as lab_launch
from fgdlab.lab.sweeps.forkserver import OF_A_RUN, Nursery
from fgdlab.lab.sweeps.local_executor import LocalExecutor
from fgdlab.lab.sweeps.run_folder import state_of
from fgdlab.lab.sweeps.worker import CHILDREN, cpu_environment, end_children, launch
from tests.helpers.waiting import lives, until

FEW = ("papermill", "nbclient", "jupyter_client", "ipykernel.kernelapp", "ipykernel.ipkernel")
PATIENCE = 180                                                       # seconds for a process to start, on the busiest machine
GRACE = 10                                                           # seconds for a process to follow its parent

TELL = """
import json, os, sys
from pathlib import Path
told = {"pid": os.getpid(), "launch": os.getppid(), "session": os.getsid(0), "cwd": os.getcwd(), "threads": os.environ["OMP_NUM_THREADS"], "seed": seed}
Path(out, "params.json").write_text("{}")
Path(out, ".told").write_text(json.dumps(told))
Path(out, ".told").rename(Path(out, "told.json"))
"""
STAY = "import time\nwhile not Path(out, 'go').exists(): time.sleep(0.05)"


@pytest.fixture
def folder(tmp_path):
    """Makes a run's folder with job.json and a notebook of these code cells after the parameters."""
    def make(name: str, *cells: str) -> Path:
        made = tmp_path / name
        made.mkdir()
        first = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": 'out = ""\nseed = 0', "outputs": [], "execution_count": None}
        others = [{"cell_type": "code", "metadata": {}, "source": cell, "outputs": [], "execution_count": None} for cell in cells]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        (tmp_path / f"{name}.ipynb").write_text(json.dumps({"cells": [first, *others], "metadata": kernel, "nbformat": 4, "nbformat_minor": 4}))
        job = {"notebook": str(tmp_path / f"{name}.ipynb"), "parameters": {"out": str(made), "seed": 7}, "row": "fg", "seed": 7, "cwd": str(tmp_path)}
        (made / "job.json").write_text(json.dumps(job))
        return made

    return make


@pytest.fixture
def nursery():
    made = Nursery(cpu_environment(1), FEW)
    yield made
    made.close()


def told(run: Path) -> dict:
    until((run / "told.json").exists, PATIENCE, "the start of a kernel")
    return json.loads((run / "told.json").read_text())


def in_the_background(nursery: Nursery, run: Path) -> tuple[threading.Thread, list]:
    status = []
    thread = threading.Thread(target=lambda: status.append(nursery.launch(str(run))))
    thread.start()
    return thread, status


def test_runs_of_a_nursery_end_as_those_that_start_cold(folder, nursery, tmp_path):
    good, bad, dead = folder("good", TELL, "7 * 6"), folder("bad", "1 / 0"), folder("dead", TELL, "os.kill(os.getpid(), 9)")
    assert [nursery.launch(str(run)) for run in (good, bad, dead)] == [0, 1, 2]
    said, other = told(good), told(dead)
    assert said["cwd"] == str(tmp_path) and said["threads"] == "1" and said["seed"] == 7
    assert said["pid"] != other["pid"] and said["launch"] != other["launch"] and said["session"] == said["pid"]
    assert '"42"' in (good / "run.ipynb").read_text()
    assert json.loads((bad / "failed.json").read_text())["error"] == "ZeroDivisionError: division by zero"
    assert state_of(dead) == "interrupted" and "the kernel died" in (dead / "log.txt").read_text()
    assert not any((run / "running.json").exists() for run in (good, bad, dead)) and not CHILDREN
    until(lambda: not any(lives(pid) for pid in (said["pid"], said["launch"], other["pid"])), GRACE, "the end of all processes")


@pytest.mark.slow
def test_a_run_ends_with_its_nursery_and_its_kernel_with_it(folder, nursery):
    run = folder("run", TELL, STAY)
    thread, status = in_the_background(nursery, run)
    said = told(run)
    assert psutil.Process(said["launch"]).ppid() == nursery.process.pid
    os.kill(nursery.process.pid, signal.SIGKILL)
    thread.join(GRACE)
    assert status == [-signal.SIGKILL] and not CHILDREN
    until(lambda: not lives(said["launch"]) and not lives(said["pid"]), GRACE, "the end of the run")
    until(lambda: state_of(run) == "interrupted", GRACE, "the notice of it")


def test_what_a_cell_asked_to_be_called_at_the_end_is_called(folder, nursery):
    run = folder("run", "import atexit\nfrom pathlib import Path\natexit.register(Path(out, 'called').touch)\nprint('said', flush=False)")
    assert nursery.launch(str(run)) == 0
    until((run / "called").exists, GRACE, "the call")
    assert "said" in (run / "run.ipynb").read_text()


def test_end_children_reaches_a_forked_run(folder, nursery):
    run = folder("run", TELL, STAY)
    thread, status = in_the_background(nursery, run)
    said = told(run)
    assert [child.pid for child in CHILDREN] == [said["launch"]]
    end_children()
    thread.join(GRACE)
    assert status == [-signal.SIGTERM] and nursery.lives
    until(lambda: not lives(said["pid"]), GRACE, "the end of the kernel")


@pytest.mark.slow
def test_nursery_and_run_end_with_a_killed_runner(folder, tmp_path):
    run = folder("run", TELL, STAY)
    code = f"from fgdlab.lab.sweeps.forkserver import Nursery\nfrom fgdlab.lab.sweeps.worker import cpu_environment\nNursery(cpu_environment(1), {FEW!r}).launch({str(run)!r})"
    runner = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, cwd=Path(lab_launch.__file__).parents[3])
    said = told(run)
    nursery = psutil.Process(said["launch"]).ppid()
    runner.kill()
    runner.wait()
    until(lambda: not any(map(lives, (nursery, said["launch"], said["pid"]))), GRACE, "the end of nursery, launch process and kernel")
    until(lambda: state_of(run) == "interrupted", GRACE, "the notice of it")


@pytest.fixture
def made(monkeypatch) -> list:
    """Nurseries that the slots made, as stubs that end with a run named kills."""
    made = []

    class Stub:
        def __init__(self, environment):
            self.environment, self.lives, self.closed = environment, True, False
            made.append(self)

        def launch(self, folder):
            self.lives = folder != "kills"
            return 0

        def close(self):
            self.closed = True

    monkeypatch.setattr("fgdlab.lab.sweeps.local_executor.Nursery", Stub)
    return made


def test_a_slot_forks_its_runs_from_one_nursery_and_makes_a_new_one_if_that_has_died(made):
    with LocalExecutor([{}]) as pool:
        for folder in ("a", "b", "kills", "c"):
            assert pool.submit(launch, folder, cpu_environment(1)).result(10) == 0
        assert pool.submit(lambda folder, environment: environment, "d", cpu_environment(2)).result(10) == cpu_environment(2)     # not a run: nothing is forked
    assert len(made) == 2 and all(each.closed for each in made) and made[0].environment == cpu_environment(1)


def test_slots_that_runs_will_take_start_before_the_runs_do(made):
    with LocalExecutor([{"CUDA_VISIBLE_DEVICES": str(card)} for card in range(3)]) as pool:
        pool.warm_up(cpu_environment(2), runs=9)
        assert not made                                              # a library with threads must not be forked
        pool.warm_up(cpu_environment(1), runs=2)
        assert [each.environment["CUDA_VISIBLE_DEVICES"] for each in made] == ["0", "1"]
        assert pool.submit(launch, "a", cpu_environment(1)).result(10) == 0 and len(made) == 2
    assert all(each.closed for each in made)


@pytest.mark.slow
def test_runs_with_several_threads_start_cold(monkeypatch, folder):
    monkeypatch.setattr("fgdlab.lab.sweeps.local_executor.Nursery", lambda *_: pytest.fail("a library with threads must not be forked"))
    with LocalExecutor([{}]) as pool:
        assert pool.submit(launch, str(folder("bad", "1 / 0")), cpu_environment(2)).result(PATIENCE) == 1


@pytest.mark.slow
def test_nothing_that_a_run_imports_starts_a_thread():
    """A fork copies one thread: a library's own would be missing in every run."""
    code = f"import sys, importlib, psutil\nfor name in {OF_A_RUN!r}: importlib.import_module(name)\nprint(psutil.Process().num_threads(), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **cpu_environment(1)}, capture_output=True, text=True, timeout=PATIENCE)
    assert done.stdout.split() == ["1", "True"], done.stderr
