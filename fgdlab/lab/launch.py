"""One run of a sweep in a process of its own: papermill executes the notebook, a watchdog ends it with its runner.

    python -m fgdlab.lab.launch RUN_FOLDER RUNNER_PID     reads job.json there, writes run.ipynb, and failed.json if the notebook raised

Nothing here decides that a run is done: that is result.json, which the notebook's own training writes last.
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

from .disk import write_json

CHILDREN: set[subprocess.Popen] = set()                              # runs that this process waits for


def launch(folder: str, environment: dict[str, str] | None = None) -> int:
    """Start a run in a new process and wait for it. The exit status; the folder says the rest.

    The child gets a session of its own, so that Ctrl-C in a terminal reaches the runner alone, which decides what to end.
    """
    with open(Path(folder) / "log.txt", "ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "fgdlab.lab.launch", folder, str(os.getpid())], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
    CHILDREN.add(child)
    try:
        return child.wait()
    finally:
        CHILDREN.discard(child)


def end_children() -> None:
    """Terminate every run that :func:`launch` waits for; their kernels see it and end within a second."""
    for child in list(CHILDREN):
        child.send_signal(signal.SIGTERM)


def cpu_environment(threads: int) -> dict[str, str]:
    """What a run on the CPU needs around it: as many threads as its settings say, in every library that has threads."""
    return {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


def die_with(parent: int) -> None:
    """End this process soon after the given parent has ended, even before this was called; papermill's kernel then ends as well."""
    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def execute(folder: Path) -> int:
    """Run the notebook with the parameters of job.json. 0 when it ended well, 1 when it raised (failed.json says what), 2 when its kernel died."""
    sys.modules.setdefault("rfc3987_syntax", None)                   # jsonschema would compile its grammar for two seconds; no field of a notebook needs it
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    job = json.loads((folder / "job.json").read_text())
    write_json(folder / "running.json", {"pid": os.getpid(), "host": socket.gethostname(), "started": time.time()})
    (folder / "failed.json").unlink(missing_ok=True)
    try:
        papermill.execute_notebook(
            job["notebook"], str(folder / "run.ipynb"), job["parameters"], kernel_name="python3", progress_bar=False, start_timeout=180,
            request_save_on_cell_execute=False, extra_arguments=["--IPKernelApp.log_level=40"],
        )
    except PapermillExecutionError as error:
        write_json(folder / "failed.json", {"error": f"{error.ename}: {error.evalue}", "cell": error.exec_count, "traceback": error.traceback[-20:]})
        return 1
    except (DeadKernelError, CellTimeoutError, RuntimeError) as error:           # killed, out of memory, or never started: interrupted, not failed
        print(f"the kernel died: {error}", flush=True)
        return 2
    finally:
        (folder / "running.json").unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    die_with(int(sys.argv[2]))
    sys.exit(execute(Path(sys.argv[1])))
