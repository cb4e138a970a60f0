"""Sweeps: plan the runs of a table, execute them side by side, collect what they gave.

    YAML --plan--> [PlannedRun] --execute (a process each, resume by default)--> run folders --collect--> results.csv
    plan.py                       this file; states.py, adopt.py, launch.py, slots.py     collect.py

Everything about a run is in its folder, and result.json there is the only sign that it is done. So a sweep that was killed goes on
where it stopped, whatever was killed.
"""
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from ..errors import UserError
from ..io import make_folder, write_json
from .local_executor import LocalExecutor
from .planning import PlannedRun, notebook_path
from .prepare import prepare_shared, prepare_shared_in
from .reuse import reuse_run
from .run_folder import STATES, at_work, outcome, result_of, share_done, state_of
from .worker import cpu_environment, end_children, launch

Say = Callable[[str], None]


def execute(
    runs: list[PlannedRun], *, jobs: int | Callable[[], int] = 2, executor: Executor | None = None, elsewhere: bool = False, retry_failed: bool = False,
    fail_fast: bool = False, say: Say = print,
) -> dict[str, list[PlannedRun]]:
    """Run what is not done yet, ``jobs`` at a time, each in a process of its own. {state: runs} at the end.

    A run that fails takes nobody with it. Runs that failed before stay so unless ``retry_failed``; interrupted ones go on from their checkpoint.
    Ctrl-C once lets the running ones finish and starts no more; twice ends them, and the next call goes on.

    Args:
        jobs: runs at a time; or a function that says how many there is room for now, as where workers come and go.
        executor: where :func:`fgdlab.lab.sweeps.worker.launch` is submitted; None = ``jobs`` slots of this machine.
        elsewhere: what runs share is made in the executor too, for runs see another machine or card than this process does.
    Raises:
        UserError: another runner is at work in the same folder, nothing can be written there, or the result of an earlier run is not whole.
    """
    if not runs:
        return {state: [] for state in STATES}
    with only_runner(make_folder(runs[0].folder.parent)):
        wanted = ("pending", "interrupted", "running", *(["failed"] if retry_failed else []))
        before = states(runs)
        for folder in (each for each, state in before.items() if state == "done"):
            result_of(folder)                                        # a spoilt one is told now, not after hours of others
        todo = [run for run in {run.folder: run for run in runs}.values() if before[run.folder] in wanted]          # equal settings share a folder: one run
        todo = [run for run in todo if not taken_over(run, say)]
        with nullcontext(executor) if executor else LocalExecutor([{}] * jobs) as pool:                                # the caller's own is not ours to shut down
            if todo and isinstance(pool, LocalExecutor):
                pool.warm_up(cpu_environment(todo[0].config.threads), len(todo))
            (partial(prepare_shared_in, pool) if elsewhere else prepare_shared)(todo, say)
            Watch(runs, todo, pool, jobs if callable(jobs) else lambda: jobs, fail_fast, say).go_on()
    after = states(runs)
    return {state: [run for run in runs if after[run.folder] == state] for state in STATES}


def states(runs: list[PlannedRun]) -> dict[Path, str]:
    return {folder: state_of(folder) for folder in {run.folder for run in runs}}


@contextmanager
def only_runner(out: Path) -> Iterator[None]:
    """Hold the lock of a sweep's folder."""
    lock = FileLock(out / ".runner.lock", timeout=2)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(f"{out} must have one runner at a time, and another is at work there; wait for it, or give --out another folder") from None
    except OSError as error:
        raise UserError(f"{out} must be a folder that can be written, got: {error.strerror or error}; choose another folder by --out") from error
    try:
        yield
    finally:
        lock.release()


class Watch:
    """Keeps ``room()`` runs going, one progress line over all of them, until none is left or the user stops."""

    def __init__(self, runs: list[PlannedRun], todo: list[PlannedRun], pool: Executor, room: Callable[[], int], fail_fast: bool, say: Say):
        self.waiting, self.pool, self.room, self.fail_fast = deque(todo), pool, room, fail_fast
        self.going: dict[Future, PlannedRun] = {}
        self.others: set[PlannedRun] = set()                         # a process that is not ours is at work on them: a job, or one that follows its dead runner
        self.begun: list[Path] = []
        self.stopping, self.done_before = False, len(runs) - len(todo)
        self.bar = tqdm(
            total=len(runs), initial=self.done_before, smoothing=0, desc="runs", dynamic_ncols=True, disable=None,
            bar_format="{desc} {n:.1f}/{total} |{bar}| {elapsed} gone, {remaining} left{postfix}",
        )
        self.say = say if self.bar.disable else self.bar.write

    def go_on(self) -> None:
        try:
            while self.going or ((self.waiting or self.others) and not self.stopping):
                try:
                    self.fill()
                    self.empty()
                    self.bar.n = self.done_before + sum(map(share_done, self.begun))
                    self.bar.refresh()
                except KeyboardInterrupt:
                    self.interrupt()
        except BaseException:
            end(self.going)
            raise
        finally:
            self.bar.close()

    def fill(self) -> None:
        """Start what there is room for."""
        while self.waiting and not self.stopping and len(self.going) < self.room():
            run = self.waiting.popleft()
            if state_of(run.folder) == "running":
                self.say(f"    waiting  {run.row}, seed {run.seed}: {at_work(run.folder)} is at work on it")
                self.others.add(run)
            elif not taken_over(run, self.say):                      # another sweep may have done it in the meantime
                self.going[start(run, self.pool)] = run
                self.begun.append(run.folder)
                self.bar.set_postfix_str(", ".join(f"{each.row}/{each.seed}" for each in self.going.values()))
        if self.waiting and not self.going and not self.stopping and not self.room():
            self.say("no worker is left; start some, and the same command goes on")
            self.stopping = True

    def empty(self) -> None:
        """Wait a moment, and tell of what has ended."""
        if self.going:
            wait(self.going, timeout=1, return_when=FIRST_COMPLETED)
        else:
            time.sleep(0.5)
        for future in [each for each in self.going if each.done()]:
            run = self.going.pop(future)
            state = settled(run.folder)
            self.say(f"{state:>11}  {run.row}, seed {run.seed}{outcome(run.folder, state)}{lost(future)}")
            self.stopping = self.stopping or (self.fail_fast and state == "failed")
        for run in [each for each in self.others if state_of(each.folder) != "running"]:
            self.others.remove(run)
            self.waiting.append(run) if state_of(run.folder) != "done" else self.begun.append(run.folder)

    def interrupt(self) -> None:
        """Ctrl-C: first no more starts, then no more runs."""
        if self.stopping:
            self.say("ending the running ones now; the same command goes on from their checkpoints")
            end(self.going)
        else:
            queued = [future for future, run in self.going.items() if state_of(run.folder) != "running" and future.cancel()]         # at a cluster, not begun yet
            self.say(f"starting no more; letting {len(self.going) - len(queued)} running ones finish (Ctrl-C again ends them)")
        self.stopping = True


def end(going: dict[Future, PlannedRun]) -> None:
    """End runs wherever they are: by a signal to those of this machine, by a file that the others look for, and those not begun by taking them back."""
    for future, run in list(going.items()):
        (run.folder / "stop").touch()
        future.cancel()
    end_children()


def settled(folder: Path) -> str:
    """A run's state once its future has ended; the process of a worker that was killed needs a moment to follow it."""
    patience = time.monotonic() + 5
    while (state := state_of(folder)) == "running" and time.monotonic() < patience:
        time.sleep(0.1)
    return state


def lost(future: Future) -> str:
    """What a line adds about a future that gave no exit status."""
    if future.cancelled():
        return " (taken back)"
    error = future.exception()
    return f" ({str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__})" if error else ""


def taken_over(run: PlannedRun, say: Say) -> bool:
    """Whether the run is done now because a sibling of this sweep had done it."""
    source = reuse_run(run.folder, job_of(run)) if state_of(run.folder) != "running" else None
    if source:
        say(f"{'done':>11}  {run.row}, seed {run.seed}: same run, done in {source.parent.parent.name}/{source.parent.name}: taken from there")
    return source is not None


def job_of(run: PlannedRun) -> dict:
    """What job.json says: the notebook, its parameters, the cell of the table, the folder that relative paths start from."""
    return {
        "notebook": str(notebook_path().absolute()), "parameters": {**run.config.dict(), "out": str(run.folder)}, "row": run.row, "seed": run.seed, "cwd": os.getcwd(),
    }


def start(run: PlannedRun, pool: Executor) -> Future:
    run.folder.mkdir(parents=True, exist_ok=True)
    for name in ("failed.json", "stop"):
        (run.folder / name).unlink(missing_ok=True)
    write_json(run.folder / "job.json", job_of(run))
    return pool.submit(launch, str(run.folder), cpu_environment(run.config.threads))
