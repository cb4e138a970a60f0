"""The process of one run: papermill executes the notebook, and a watchdog ends it when its runner ends.

A run is done when the training in the notebook has written result.json, last of all.
"""
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from ..errors import UserError
from ..run import BEAT, RunFolder

# what a job may start; job.json is a file and must not name other code
MODULES = ("fgdlab.lab.sweeps.worker", "fgdlab.lab.sweeps.prepare")
KERNEL = {"kernel_name": "python3", "progress_bar": False, "extra_arguments": ["--IPKernelApp.log_level=40"]}
PROCESSES: set[subprocess.Popen] = set()  # runs that this process waits for


def launch(folder: str, environment: dict[str, str] | None = None) -> int:
    """Start what job.json in the folder asks for in a new process, and wait for it. Returns the exit status.

    A session of its own lets Ctrl-C in a terminal reach the runner alone, which decides what to end. The current folder
    is the runner's, so that paths mean the same. UserError: job.json is damaged, or names none of ``MODULES``.
    """
    job = job_of(Path(folder))
    with open(Path(folder) / "log.txt", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", job["module"], folder, str(os.getpid())], stdin=subprocess.DEVNULL, stdout=log,
            stderr=log, start_new_session=True, cwd=job.get("cwd"), env={**os.environ, **(environment or {})},
        )
    PROCESSES.add(process)
    try:
        return process.wait()
    finally:
        PROCESSES.discard(process)


def job_of(folder: Path) -> dict:
    job = {"module": MODULES[0], **RunFolder(folder).read("job.json")}
    if job["module"] not in MODULES:
        raise UserError(
            f"{folder / 'job.json'} must name a module that the project starts, {' or '.join(MODULES)}, got "
            f"{job['module']!r}; delete it, and it is made again")
    return job


def end_processes() -> None:
    """Terminate every run that :func:`launch` waits for; their kernels notice it and end within a second."""
    for process in list(PROCESSES):
        process.send_signal(signal.SIGTERM)


def cpu_environment(threads: int) -> dict[str, str]:
    return {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


def stay_with(parent: int, here: RunFolder) -> None:
    """Touch the heartbeat until this process ends, soon after its parent has ended or a file named stop appeared."""
    def watch() -> None:
        last = -BEAT
        while os.getppid() == parent and not here.has("stop"):
            if time.monotonic() - last >= BEAT:
                here.beat()
                last = time.monotonic()
            time.sleep(0.5)
        here.release()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def load_papermill():
    # jsonschema would compile its grammar for two seconds; no notebook field needs it
    sys.modules.setdefault("rfc3987_syntax", None)
    import papermill

    return papermill


def execute_notebook(here: RunFolder) -> int:
    """Run the notebook with the parameters of job.json, in a kernel of its own.

    Returns 0 after a good end; 1 when it raised (failed.json says what); 2 when its kernel died or was interrupted; 3
    when another process is at work in the folder.
    """
    papermill, job, ended_well = load_papermill(), job_of(here.path), False
    if not here.claim():
        print("another process is at work in this folder; nothing done", flush=True)
        return 3
    try:
        papermill.execute_notebook(
            job["notebook"], str(here.path / "run.ipynb"), job["parameters"], start_timeout=180,
            request_save_on_cell_execute=False, **KERNEL)
        ended_well = True
    except papermill.exceptions.PapermillExecutionError as error:
        if error.ename == "KeyboardInterrupt":  # somebody ended it; the notebook is not wrong
            print("the kernel was interrupted", flush=True)
            return 2
        here.fail(f"{error.ename}: {error.evalue}")
        return 1
    # killed, out of memory, or never started: interrupted, not failed
    except (RuntimeError, TimeoutError) as error:
        print(f"the kernel died: {error}", flush=True)
        return 2
    finally:
        here.release(ended_well)
    return 0


if __name__ == "__main__":
    folder = RunFolder(sys.argv[1])
    stay_with(int(sys.argv[2]), folder)
    sys.exit(execute_notebook(folder))
