"""Runs as Slurm jobs (extra ``slurm``): runs that are submitted together become one job array, by submitit.

All machines share the folder of a run, which holds the outcome.
"""
import threading
import time
from concurrent.futures import Executor, Future, InvalidStateError
from contextlib import suppress
from pathlib import Path

from ..errors import UserError

QUIET = 0.5  # seconds without a new submission after which the waiting ones become one array


class SlurmExecutor(Executor):
    """Submits through submitit and follows the jobs.

    folder: submitit's scripts and logs; every machine must see it. minutes: time limit of a job. gpus, cpus: per run.
    at_once: most jobs at a time; 0 leaves it to Slurm. cluster: "slurm"; tests use submitit's "local".
    """

    def __init__(
        self, folder: Path, *, partition: str = "", minutes: int = 1440, gpus: int = 0, cpus: int = 1, at_once: int = 0,
        cluster: str = "slurm",
    ):
        try:
            import submitit
        except ImportError:
            raise UserError(
                "--slurm must find the package submitit, got none; install it by `pip install 'fgdlab[slurm]'`"
            ) from None
        try:
            self.submitter = submitit.AutoExecutor(folder=folder, cluster=cluster)
        except RuntimeError as error:
            raise UserError(
                f"--slurm must find Slurm's commands here, got: {error}; run it on a machine that has sbatch") from None
        self.submitter.update_parameters(
            name="fgdlab", timeout_min=minutes, cpus_per_task=cpus, **({"gpus_per_node": gpus} if gpus else {}),
            **({"slurm_partition": partition} if partition else {}),
            **({"slurm_array_parallelism": at_once} if at_once else {}),
        )
        self.queue: list[tuple[Future, tuple]] = []
        self.jobs: dict[Future, object] = {}
        self.last, self.open, self.lock = 0.0, True, threading.Lock()
        self.thread = threading.Thread(target=self.follow, daemon=True)
        self.thread.start()

    def submit(self, call, /, *arguments) -> Future:
        future: Future = Future()
        with self.lock:
            self.queue.append((future, (call, *arguments)))
            self.last = time.monotonic()
        return future

    def follow(self) -> None:
        while self.open or self.jobs or self.queue:
            with self.lock:
                ready, self.queue = (self.queue, []) if time.monotonic() - self.last > QUIET else ([], self.queue)
            self.send([each for each in ready if not each[0].cancelled()])
            for future, job in list(self.jobs.items()):
                if future.cancelled():
                    job.cancel(check=False)
                elif not job.done():
                    continue
                else:  # its outcome is in the run's folder
                    lost = f"job {job.job_id} ended without a result, see {job.paths.stderr}"
                    settle(future, None if job.paths.result_pickle.exists() else RuntimeError(lost))
                del self.jobs[future]
            time.sleep(QUIET / 2)

    def send(self, calls: list[tuple[Future, tuple]]) -> None:
        if not calls:
            return
        try:
            with self.submitter.batch():
                jobs = [self.submitter.submit(*call) for _, call in calls]
        except Exception as error:  # sbatch refused; submitit raises many types
            for future, _ in calls:
                settle(future, RuntimeError(f"Slurm took no job: {error}"))
        else:
            self.jobs.update(zip([future for future, _ in calls], jobs, strict=True))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.open = False
        if wait:
            self.thread.join()


def settle(future: Future, error: Exception | None) -> None:
    with suppress(InvalidStateError):
        future.set_exception(error) if error else future.set_result(None)
