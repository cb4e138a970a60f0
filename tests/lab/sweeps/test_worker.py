"""One run in a process of its own: what it leaves behind, however it ends.

The notebooks of these tests import nothing but the standard library.
"""
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from fgdlab.lab.errors import UserError
from fgdlab.lab.run.folder import BEAT, RunFolder
from fgdlab.lab.sweeps import worker as lab_launch
from fgdlab.lab.sweeps.worker import PROCESSES, cpu_environment, end_processes, launch
from tests.helpers.waiting import lives, until

PATIENCE = 180  # seconds for a process to start, on the busiest machine
GRACE = 3                                                            # seconds for a process to follow its parent

RUNNERS: list[subprocess.Popen] = []                                 # of the test that runs

ANNOUNCE = """
import json, os, time
from pathlib import Path
Path(out, "params.json").write_text("{}")                            # as run() does first of all
Path(out, ".pid").write_text(str(os.getpid()))
Path(out, ".pid").rename(Path(out, "kernel.pid"))
"""
WAIT = """
while not Path(out, "go").exists():
    time.sleep(0.05)
Path(out, "result.json").write_text(json.dumps({"seed": seed}))
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FGDLAB_HOME", str(tmp_path / "home"))


@pytest.fixture
def folder(tmp_path):
    """Makes a run's folder with job.json and a notebook of these code cells after the parameters; ends what is left of
    its processes."""
    made = tmp_path / "run"

    def make(*cells: str) -> Path:
        made.mkdir()
        first = {
            "cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": 'out = ""\nseed = 0', "outputs": [],
            "execution_count": None,
        }
        others = [
            {"cell_type": "code", "metadata": {}, "source": cell, "outputs": [], "execution_count": None}
            for cell in cells
        ]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        notebook = {"cells": [first, *others], "metadata": kernel, "nbformat": 4, "nbformat_minor": 4}
        (tmp_path / "tiny.ipynb").write_text(json.dumps(notebook))
        job = {
            "notebook": str(tmp_path / "tiny.ipynb"), "parameters": {"out": str(made), "seed": 7}, "row": "fg",
            "seed": 7,
        }
        (made / "job.json").write_text(json.dumps(job))
        return made

    yield make
    for process in [*RUNNERS, *processes_of(made)]:
        process.kill()
    for process in RUNNERS:
        process.wait()
    RUNNERS.clear()


def processes_of(folder: Path) -> list[psutil.Process]:
    """The launch process and the kernel of a run, as far as they have told their ids."""
    ids = []
    if (folder / "kernel.pid").exists():
        ids.append(int((folder / "kernel.pid").read_text()))
    if (folder / "running.json").exists():
        ids.append(json.loads((folder / "running.json").read_text())["pid"])
    return [psutil.Process(pid) for pid in ids if lives(pid)]


def started(folder: Path) -> tuple[int, int]:
    """(launch process, kernel) once the notebook's code runs."""
    until((folder / "kernel.pid").exists, PATIENCE, "the start of a kernel")
    return json.loads((folder / "running.json").read_text())["pid"], int((folder / "kernel.pid").read_text())


def runner(folder: Path, code: str) -> subprocess.Popen:
    """A process that launches a run, in a session of its own as if in its own terminal."""
    code = (
        f"import os, signal, sys, threading\nfrom fgdlab.lab.sweeps.worker import PROCESSES, launch\nfolder = "
        f"{str(folder)!r}\n{code}"
    )
    RUNNERS.append(
        subprocess.Popen([sys.executable, "-c", code], start_new_session=True, cwd=Path(lab_launch.__file__).parents[3])
    )
    return RUNNERS[-1]


# --- ends -------------------------------------------------------------------------------------------------------------

def test_a_notebook_that_raises_leaves_its_error_and_exit_status_1(folder):
    run = folder(ANNOUNCE, "1 / 0")
    assert launch(str(run)) == 1 and RunFolder(run).state() == "failed"
    failed = json.loads((run / "failed.json").read_text())
    assert failed["error"] == "ZeroDivisionError: division by zero"
    assert "\\u001b" not in (run / "failed.json").read_text()  # IPython's colours are gone
    assert "ZeroDivisionError" in (run / "run.ipynb").read_text()   # the broken notebook is kept
    assert not (run / "running.json").exists() and not PROCESSES


def test_a_killed_kernel_is_an_interruption_and_no_failure(folder):
    run = folder(ANNOUNCE, "os.kill(os.getpid(), 9)", "Path(out, 'further').touch()")
    (run / "failed.json").write_text('{"error": "of an earlier try"}')
    assert launch(str(run)) == 2 and RunFolder(run).state() == "interrupted"
    assert not (run / "failed.json").exists() and not (run / "running.json").exists() and not (run / "further").exists()
    assert "the kernel died" in (run / "log.txt").read_text()


def test_a_kernel_that_is_killed_before_it_wrote_anything_is_an_interruption(folder):
    run = folder("import os\nos.kill(os.getpid(), 9)")
    assert launch(str(run)) == 2 and not (run / "params.json").exists()
    assert RunFolder(run).state() == "interrupted"


def test_ctrl_c_in_a_kernel_is_an_interruption_and_no_failure(folder):
    run = folder(ANNOUNCE, "import signal\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)")
    assert launch(str(run)) == 2 and RunFolder(run).state() == "interrupted" and not (run / "failed.json").exists()


def test_a_run_that_another_process_is_at_work_on_is_left_to_it(folder):
    run = folder(ANNOUNCE)
    (run / "running.json").write_text(json.dumps({"pid": 1, "host": "another", "started": time.time()}))
    assert launch(str(run)) == 3 and not (run / "kernel.pid").exists()
    assert json.loads((run / "running.json").read_text())["host"] == "another" and RunFolder(run).state() == "running"


@pytest.mark.parametrize("content", [
    '{"module": "stand_in", "notebook": "x"}', '{"module": "http.server"}', '{"module": ["os"]}',
    '{"module": "fgdlab.lab.commands.cli"}', "[1]", '{"notebook": '])
def test_a_job_that_names_other_code_or_is_cut_off_starts_nothing(folder, content):
    run = folder(ANNOUNCE)
    (run / "job.json").write_text(content)
    with pytest.raises(UserError, match=r"job.json must (name a module that the project starts|be whole)"):
        launch(str(run))
    assert not PROCESSES and not (run / "log.txt").exists()


def test_relative_paths_mean_the_runners_folder_wherever_a_run_is_launched(folder, tmp_path, monkeypatch):
    run = folder(
        "import os\nfrom pathlib import Path\nPath(out, 'result.json').write_text('{\"cwd\": \"%s\"}' % os.getcwd())"
    )
    job = json.loads((run / "job.json").read_text())
    (tmp_path / "project").mkdir()
    (run / "job.json").write_text(json.dumps({**job, "cwd": str(tmp_path / "project")}))
    assert launch(str(run)) == 0 and json.loads((run / "result.json").read_text())["cwd"] == str(tmp_path / "project")


def test_a_run_outlives_ctrl_c_in_its_runners_terminal_and_ends_with_0(folder):
    run = folder(ANNOUNCE, WAIT)
    parent = runner(
        run, "signal.signal(signal.SIGINT, lambda *_: None)\nsys.exit(launch(folder, {'OMP_NUM_THREADS': '1'}))",
    )
    pid, kernel = started(run)
    claim = json.loads((run / "running.json").read_text())
    assert (
        RunFolder(run).state() == "running" and claim["host"] == socket.gethostname()
        and abs(time.time() - claim["created"]) < 2 * PATIENCE
    )
    assert (
        abs(claim["created"] - psutil.Process(pid).create_time()) < 2
        and time.time() - (run / "heartbeat").stat().st_mtime < 2 * BEAT + PATIENCE / 10
    )
    assert psutil.Process(kernel).environ()["OMP_NUM_THREADS"] == "1"
    assert os.getsid(pid) != os.getsid(parent.pid) and os.getsid(kernel) != os.getsid(parent.pid)
    os.killpg(parent.pid, signal.SIGINT)                             # what a terminal does
    time.sleep(0.5)
    assert lives(pid) and lives(kernel)
    (run / "go").touch()
    assert parent.wait(PATIENCE) == 0
    assert json.loads((run / "result.json").read_text()) == {"seed": 7}
    assert not any((run / name).exists() for name in ("running.json", "heartbeat", "failed.json"))
    until(lambda: not lives(kernel), GRACE, "the end of the kernel")


# --- no orphans -------------------------------------------------------------------------------------------------------

def gone(run: Path, pid: int, kernel: int) -> None:
    until(lambda: not lives(pid) and not lives(kernel), GRACE, "the end of the launch process and its kernel")
    # a zombie counts as alive until it is reaped
    until(lambda: RunFolder(run).state() == "interrupted", GRACE, "the notice of it")
    assert not (run / "failed.json").exists()


def test_a_run_ends_within_3_seconds_of_its_killed_runner_and_its_kernel_with_it(folder):
    run = folder(ANNOUNCE, WAIT)
    parent = runner(run, "launch(folder)")
    pid, kernel = started(run)
    parent.kill()
    parent.wait()
    gone(run, pid, kernel)


def test_a_kernel_ends_within_3_seconds_of_its_killed_launch_process(folder):
    run = folder(ANNOUNCE, WAIT)
    status = []
    thread = threading.Thread(target=lambda: status.append(launch(str(run))))
    thread.start()
    pid, kernel = started(run)
    os.kill(pid, signal.SIGKILL)
    gone(run, pid, kernel)
    thread.join(PATIENCE)
    assert status == [-signal.SIGKILL] and not PROCESSES


def test_end_processes_ends_every_run_that_is_waited_for(folder):
    run = folder(ANNOUNCE, WAIT)
    status = []
    thread = threading.Thread(target=lambda: status.append(launch(str(run))))
    thread.start()
    pid, kernel = started(run)
    assert [child.pid for child in PROCESSES] == [pid]
    end_processes()
    gone(run, pid, kernel)
    thread.join(PATIENCE)
    assert status == [-signal.SIGTERM] and not PROCESSES


def test_a_file_named_stop_ends_a_run_that_no_signal_of_its_runner_reaches(folder):
    run = folder(ANNOUNCE, WAIT)
    status = []
    thread = threading.Thread(target=lambda: status.append(launch(str(run))))
    thread.start()
    pid, kernel = started(run)
    (run / "stop").touch()
    gone(run, pid, kernel)
    thread.join(PATIENCE)
    assert status == [1] and not (run / "running.json").exists()


def test_a_runner_that_is_killed_at_once_leaves_no_orphan_either(folder):
    """Killed before the new process has asked who its parent is: the parent's id must come from the parent."""
    run = folder(ANNOUNCE, WAIT)
    kill_early = "threading.Thread(target=launch, args=(folder,)).start()\nwhile not PROCESSES: pass\n"
    kill_early += "print(next(iter(PROCESSES)).pid, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)"
    code = (
        f"import os, signal, threading\nfrom fgdlab.lab.sweeps.worker import PROCESSES, launch\nfolder = "
        f"{str(run)!r}\n{kill_early}"
    )
    root = Path(lab_launch.__file__).parents[3]
    parent = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=root, timeout=PATIENCE)
    pid = int(parent.stdout)
    assert parent.returncode == -signal.SIGKILL
    try:
        until(lambda: not lives(pid), 15, "the end of the launch process")      # it has to start first
        assert not (run / "kernel.pid").exists()
    finally:
        if lives(pid):
            os.kill(pid, signal.SIGKILL)


# --- what is around a run ---------------------------------------------------------------------------------------------

def test_a_run_on_the_cpu_has_the_threads_of_its_settings_in_every_library():
    assert cpu_environment(3) == {"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3"}


def test_launching_imports_no_torch():
    code = "import sys, fgdlab.lab.sweeps.worker; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(lab_launch.__file__).parents[3]).returncode == 0
