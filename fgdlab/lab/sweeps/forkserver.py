"""Runs that start warm: one process a slot imports what every run imports, and each run of the slot is forked from it.

    runner --folder--> nursery (imports once, one thread) --fork--> launch process --fork--> kernel
           <-- pid, exit status --

A fork copies the thread that calls it and no other, so nothing here starts a thread before the last fork, and a nursery is used only where
every library has one thread. The kernel is forked first of all in a launch process and waits there until papermill wants one.

    python -m fgdlab.lab.sweeps.forkserver RUNNER_PID MODULE...         a folder a line on stdin; its process's id, then its exit status, on stdout
"""
import atexit
import gc
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path

# What the notebook of a run and papermill import; what is left out here is imported by each run, as without a nursery.
OF_A_RUN = (
    "papermill", "nbclient", "jupyter_client", "ipykernel.kernelapp", "ipykernel.ipkernel", "pandas", "fgdlab.lab.run", "fgdlab.lab.plots.attention_maps", "fgdlab.lab.sweeps.precompile",
)
BACKEND = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}           # which ipykernel sets too, but after matplotlib has been imported here
PATIENCE = 0.05                                                      # seconds between two looks whether a run, or the runner, has ended


class Child:
    """A process that this one did not start with subprocess, with as much of ``Popen`` as is asked for."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int):
        self.pid, self.returncode = pid, None

    def poll(self) -> int | None:
        """Its exit status; None while it runs. For a child of this process."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self) -> int:
        while self.poll() is None:
            time.sleep(PATIENCE)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The runner's end. ``launch(folder)`` is :func:`fgdlab.lab.sweeps.worker.launch` for runs that are content with ``environment``."""

    def __init__(self, environment: dict[str, str], modules: tuple[str, ...] = OF_A_RUN):
        self.environment = environment
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fgdlab.lab.sweeps.forkserver", str(os.getpid()), *modules], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            start_new_session=True, env={**os.environ, **BACKEND, **environment},
        )

    def launch(self, folder: str) -> int:
        """Fork a run and wait for it. Its exit status; that of a killed process where the nursery itself ends."""
        from .worker import CHILDREN, MODULES, job_of, launch

        if job_of(Path(folder))["module"] != MODULES[0]:             # not a run
            return launch(folder, self.environment)
        try:
            self.process.stdin.write(f"{Path(folder).absolute()}\n")
            self.process.stdin.flush()
            child = Child(int(self.process.stdout.readline()))
        except (ValueError, OSError):                                # it is gone: no answer, a closed pipe
            return -signal.SIGKILL
        CHILDREN.add(child)
        try:
            return int(self.process.stdout.readline() or -signal.SIGKILL)
        finally:
            CHILDREN.discard(child)

    @property
    def lives(self) -> bool:
        return self.process.poll() is None

    def close(self) -> None:
        """End it; a run that is under way follows it."""
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


# --- the nursery's end ------------------------------------------------------------------------------------------------------------

def tend(runner: int, modules: list[str]) -> None:
    """Import, then fork a run for every folder that the runner names, one after the other, until the runner ends or has no more."""
    sys.modules.setdefault("rfc3987_syntax", None)                   # as in launch.execute
    for name in modules:
        import_module(name)
    gc.collect()
    gc.freeze()                                                      # a child's collector need not look at all this again, and pages stay shared
    while folder := sys.stdin.readline().strip():
        answers, me = os.dup(1), os.getpid()
        pid = os.fork()
        if pid == 0:
            os.close(answers)
            begin(Path(folder), me)
        answer(answers, pid)
        child = Child(pid)
        while child.poll() is None:
            if os.getppid() != runner:                               # the runner was killed: the run sees that this process is gone, and follows
                os._exit(1)
            time.sleep(PATIENCE)
        answer(answers, child.returncode)
        os.close(answers)
    os._exit(0)                                                      # nothing here needs an orderly end


def answer(where: int, number: int) -> None:
    """A line to the runner; if that was killed meanwhile, this process ends, and the run follows it."""
    try:
        os.write(where, f"{number}\n".encode())
    except BrokenPipeError:
        os._exit(1)


def begin(folder: Path, nursery: int) -> None:
    """Become the launch process of a run, as if started by :func:`fgdlab.lab.sweeps.worker.launch`. Ends the process."""
    from .worker import execute, job_of, stay_with

    os.setsid()
    redirect(0, os.devnull, os.O_RDONLY)
    for number in (1, 2):
        redirect(number, folder / "log.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    if cwd := job_of(folder).get("cwd"):
        os.chdir(cwd)
    kernels = waiting_kernel()
    stay_with(nursery, folder)
    leave(execute(folder, kernels))


def redirect(number: int, path: Path | str, how: int) -> None:
    """Make a file what a standard stream reads or writes."""
    opened = os.open(path, how, 0o666)
    os.dup2(opened, number)
    os.close(opened)


def waiting_kernel() -> type:
    """Fork the kernel-to-be, and return the kernel manager that will tell it what to be: papermill takes a class, and the one kernel is its own."""
    from jupyter_client import AsyncKernelManager

    hears, tells = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(tells)
        with open(hears) as orders:
            order = orders.read()
        if not order:                                                # the launch process ended without one
            os._exit(0)
        become(**json.loads(order))
    os.close(hears)

    class WarmKernels(AsyncKernelManager):
        """Starts the kernel that waits; any further one, or one of another Python, in the usual way."""

        waiting = [Child(pid)]

        async def _async_launch_kernel(self, kernel_cmd: list[str], **kw) -> None:
            usual = kernel_cmd[:3] == [sys.executable, "-m", "ipykernel_launcher"]
            if not (usual and self.waiting):
                return await super()._async_launch_kernel(kernel_cmd, **kw)
            order = {"arguments": kernel_cmd[3:], "environment": {**kw["env"], "JPY_PARENT_PID": str(os.getpid())}, "cwd": str(kw.get("cwd") or os.getcwd())}
            with open(tells, "w") as orders:
                orders.write(json.dumps(order))
            kernel = self.provisioner.process = self.waiting.pop()
            self.provisioner.pid = self.provisioner.pgid = kernel.pid            # the leader of its own session
            self.provisioner.cwd = order["cwd"]
            self._reconcile_connection_info(self.provisioner.connection_info)

    return WarmKernels


def become(arguments: list[str], environment: dict[str, str], cwd: str) -> None:
    """Be the kernel that ``python -m ipykernel_launcher ARGUMENTS`` would be. Ends the process."""
    from ipykernel import kernelapp

    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["ipykernel_launcher", *arguments, f"--IPKernelApp.parent_handle={environment['JPY_PARENT_PID']}"]         # read once, when ipykernel is imported
    kernelapp.launch_new_instance()
    leave(0)


def leave(status: int) -> None:
    """End this process: what asked to be called at the end is called, streams are flushed. The rest goes with the process: to take apart what
    the nursery imported would take a run a second and a half, twice."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    tend(int(sys.argv[1]), sys.argv[2:])
