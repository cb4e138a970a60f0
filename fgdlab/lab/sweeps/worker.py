"""One run of a sweep in a process of its own: papermill executes the notebook, a watchdog ends it with its runner.

    python -m fgdlab.lab.sweeps.worker RUN_FOLDER RUNNER_PID     reads job.json there, writes run.ipynb, and failed.json if the notebook raised

Nothing here decides that a run is done: that is result.json, which the notebook's own training writes last.
"""
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import UserError
from ..io import checked_read, write_json
from .run_folder import BEAT, alive, claim_of, this_process

MODULES = ("fgdlab.lab.sweeps.worker", "fgdlab.lab.sweeps.prepare")      # what a job may start; a job.json is a file, and no file names code here
CHILDREN: set[subprocess.Popen] = set()                              # runs that this process waits for
COLOUR = re.compile(r"\x1b\[[0-9;]*m")                               # IPython paints its tracebacks


def launch(folder: str, environment: dict[str, str] | None = None) -> int:
    """Start what a folder's job.json asks for in a new process and wait for it. The exit status; the folder says the rest.

    The child gets a session of its own, so that Ctrl-C in a terminal reaches the runner alone, which decides what to end; and the current
    folder of the runner, wherever this is called, so that paths in the settings mean the same.

    Raises:
        UserError: job.json is not whole, or names a module that is none of ``MODULES``.
    """
    job = job_of(Path(folder))
    with open(Path(folder) / "log.txt", "ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", job["module"], folder, str(os.getpid())], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True, cwd=job.get("cwd"), env={**os.environ, **(environment or {})},
        )
    CHILDREN.add(child)
    try:
        return child.wait()
    finally:
        CHILDREN.discard(child)


def job_of(folder: Path) -> dict:
    """What a folder's job.json asks for: its module, one of ``MODULES``, and what that wants to know."""
    path = folder / "job.json"
    with checked_read(path):
        job = {"module": MODULES[0], **json.loads(path.read_text(encoding="utf-8"))}
    if job["module"] not in MODULES:
        raise UserError(f"{path} must name a module that the project starts, {' or '.join(MODULES)}, got {job['module']!r}; delete it, and it is made again")
    return job


def end_children() -> None:
    """Terminate every run that :func:`launch` waits for; their kernels see it and end within a second."""
    for child in list(CHILDREN):
        child.send_signal(signal.SIGTERM)


def cpu_environment(threads: int) -> dict[str, str]:
    """What a run on the CPU needs around it: as many threads as its settings say, in every library that has threads."""
    return {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


def stay_with(parent: int, folder: Path) -> None:
    """Touch the folder's heartbeat until this process ends, and end it soon after its parent has ended, even before this was called, or after
    somebody put a file named stop there; papermill's kernel then ends as well."""
    def watch() -> None:
        last = -BEAT
        while os.getppid() == parent and not (folder / "stop").exists():
            if time.monotonic() - last >= BEAT and (folder / "running.json").exists():
                (folder / "heartbeat").touch()
                last = time.monotonic()
            time.sleep(0.5)
        release(folder)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def claim(folder: Path) -> bool:
    """Write running.json for this process; False if another one is at work in the folder."""
    try:
        with FileLock(folder / "lock", timeout=30):                  # the kernel of a run whose runner was killed needs a moment to die
            if alive(folder / "running.json"):
                return False
            write_json(folder / "running.json", this_process())
    except Timeout:
        return False
    (folder / "heartbeat").touch()
    (folder / "failed.json").unlink(missing_ok=True)
    return True


def release(folder: Path) -> None:
    """Take this process's claim back. The heartbeat of a run that did not end well stays: it was begun."""
    claim = claim_of(folder / "running.json")
    if claim is not None and claim["pid"] == os.getpid():
        (folder / "running.json").unlink(missing_ok=True)


def failed(folder: Path, error: str, cell: int | None = None, traceback: list[str] | None = None) -> None:
    """Write failed.json: what the notebook raised and where, as plain text."""
    write_json(folder / "failed.json", {"error": COLOUR.sub("", error), "cell": cell, "traceback": [COLOUR.sub("", line) for line in traceback or []]})


def execute(folder: Path, kernels: type | None = None) -> int:
    """Run the notebook with the parameters of job.json, in a kernel of its own; ``kernels``: a kernel manager's class that has one waiting.

    0 when it ended well; 1 when it raised (failed.json says what); 2 when its kernel died or was interrupted; 3 when another process is at work here.
    """
    sys.modules.setdefault("rfc3987_syntax", None)                   # jsonschema would compile its grammar for two seconds; no field of a notebook needs it
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    job = job_of(folder)
    if not claim(folder):
        print("another process is at work in this folder; nothing done", flush=True)
        return 3
    try:
        papermill.execute_notebook(
            job["notebook"], str(folder / "run.ipynb"), job["parameters"], kernel_name="python3", progress_bar=False, start_timeout=180,
            request_save_on_cell_execute=False, extra_arguments=["--IPKernelApp.log_level=40"],
            **({"kernel_manager_class": kernels} if kernels else {}),
        )
        (folder / "heartbeat").unlink(missing_ok=True)
    except PapermillExecutionError as error:
        if error.ename == "KeyboardInterrupt":                       # somebody ended it; nothing in it is wrong
            print("the kernel was interrupted", flush=True)
            return 2
        failed(folder, f"{error.ename}: {error.evalue}", error.exec_count, error.traceback[-20:])
        return 1
    except (DeadKernelError, CellTimeoutError, RuntimeError) as error:           # killed, out of memory, or never started: interrupted, not failed
        print(f"the kernel died: {error}", flush=True)
        return 2
    finally:
        release(folder)
    return 0


if __name__ == "__main__":
    stay_with(int(sys.argv[2]), Path(sys.argv[1]))
    sys.exit(execute(Path(sys.argv[1])))
