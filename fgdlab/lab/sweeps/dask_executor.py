"""Runs on a Dask cluster (extra ``dask``): workers of a scheduler, on machines that share the folders.

    dask scheduler --port 8786
    CUDA_VISIBLE_DEVICES=0 dask worker tcp://HOST:8786 --nthreads 1 --memory-limit 0 --resources GPU=1
    fgdlab sweep NAME --cluster tcp://HOST:8786

One worker per GPU; without ``--resources`` on the CPU.
"""
import os
import time
import uuid
from concurrent.futures import Executor, Future
from pathlib import Path
from weakref import WeakSet

from ..errors import UserError, reason
from .worker import launch

PATIENCE = 30  # seconds without any worker after which runs are cancelled


class DaskExecutor(Executor):
    def __init__(self, address: str, gpu: bool = False):
        try:
            from distributed import Client
        except ImportError:
            raise UserError(
                "--cluster must find the package distributed, got none; install it by `pip install 'fgdlab[dask]'`"
            ) from None
        try:
            self.client = Client(address, timeout=10, set_as_default=False)
        except (OSError, ValueError) as error:
            raise UserError(
                f"--cluster must be the address of a Dask scheduler that answers, got {address!r} ({reason(error)}); "
                "start one by `dask scheduler`") from None
        self.resources = {"GPU": 1} if gpu else {}
        self.pool = self.client.get_executor(pure=False, retries=0, **({"resources": self.resources} if gpu else {}))
        self.futures: WeakSet[Future] = WeakSet()
        self.seen, self.count, self.asked = time.monotonic(), 0, 0.0
        if not self.room():
            self.shutdown()
            offering = " that offer a GPU (`dask worker ... --resources GPU=1`)" if gpu else ""
            raise UserError(
                f"--cluster must have workers{offering}, got none at {address}; start some by `dask worker {address} "
                "--nthreads 1`")

    def room(self) -> int:
        """How many runs the workers have room for, asked once per second. PATIENCE without one cancels all."""
        if time.monotonic() - self.asked < 1:
            return self.count
        try:
            workers = self.client.scheduler_info()["workers"].values() if self.client.status == "running" else []
        except OSError:  # the scheduler is gone
            workers = []
        counts = (int(each["resources"].get("GPU", 0)) if self.resources else each["nthreads"] for each in workers)
        self.count, self.asked = sum(counts), time.monotonic()
        if self.count:
            self.seen = self.asked
        elif self.asked - self.seen > PATIENCE:
            for future in list(self.futures):
                future.cancel()
        return self.count

    def submit(self, call, /, folder: str, environment: dict[str, str]) -> Future:
        home = {"FGDLAB_HOME": os.environ["FGDLAB_HOME"]} if os.environ.get("FGDLAB_HOME") else {}
        future = self.pool.submit(once, uuid.uuid4().hex, folder, {**home, **environment})
        self.futures.add(future)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.client.close(timeout=5)


def once(ticket: str, folder: str, environment: dict[str, str]) -> int:
    """Launch, but only on the first worker that gets the ticket.

    Dask gives the task of a dead worker to the next one: a run that kills its worker would kill them all.
    """
    seen = Path(folder) / "ticket"
    if seen.exists() and seen.read_text() == ticket:
        raise RuntimeError("its worker is gone")
    seen.write_text(ticket)
    return launch(folder, environment)
