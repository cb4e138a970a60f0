"""Execute the runs of a sweep side by side, each in its own process; a killed sweep goes on where it stopped."""
import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import nullcontext
from functools import partial

from tqdm import tqdm

from ..errors import UserError
from ..io import lock_file, make_folder
from ..run import STATES, RunFolder
from .local_executor import LocalExecutor
from .planning import PlannedRun, notebook_path
from .prepare import prepare_shared, prepare_shared_in
from .worker import cpu_environment, end_processes, launch

Say = Callable[[str], None]


def execute(
    runs: list[PlannedRun], *, jobs: int | Callable[[], int] = 2, executor: Executor | None = None,
    elsewhere: bool = False, retry_failed: bool = False, keep_stale: bool = False, fail_fast: bool = False,
    say: Say = print,
) -> dict[str, list[PlannedRun]]:
    """Run what is not done yet, ``jobs`` at a time, each in a process of its own. Returns {state: runs} at the end.

    A run that fails does not stop the others. Ctrl-C once starts no more; twice ends the running ones.

    Args:
        jobs: runs at a time; or a function that returns how many there is room for now, where workers come and go.
        executor: where :func:`fgdlab.lab.sweeps.worker.launch` is submitted; None = ``jobs`` slots of this machine.
        elsewhere: data and teacher are made in the executor, too.
        retry_failed: run failed ones again. keep_stale: leave runs of other code or another teacher as they are.
    """
    if not runs:
        return {state: [] for state in STATES}
    out = make_folder(runs[0].folder.parent)
    busy = "and another is at work there; wait for it, or give --out another folder"
    with lock_file(out / ".runner.lock", 2, f"{out} must have one runner at a time, {busy}"):
        runs_by_folder = {run.folder: run for run in runs}  # runs with equal settings share a folder: one run
        before = {folder: run.state() for folder, run in runs_by_folder.items()}
        for run in runs_by_folder.values():
            if before[run.folder] == "done":
                run.here.result()  # a damaged one is reported now, not after hours of other runs
        if not keep_stale:
            set_stale_aside([run for run in runs_by_folder.values() if before[run.folder] == "stale"], say)
        ended = {"done", *["stale"] * keep_stale, *["failed"] * (not retry_failed)}
        todo = [run for run in runs_by_folder.values() if before[run.folder] not in ended and not reused(run, say)]
        # the caller closes an executor that it gave
        with nullcontext(executor) if executor else LocalExecutor([{}] * jobs) as pool:
            (partial(prepare_shared_in, pool) if elsewhere else prepare_shared)(todo, say)
            Runner(runs, todo, pool, jobs if callable(jobs) else lambda: jobs, fail_fast, say).go_on()
        after = {folder: run.state() for folder, run in runs_by_folder.items()}
    if keep_stale:
        kept = {folder for folder, state in before.items() if state == "stale"}
        after = {folder: "done" if folder in kept else state for folder, state in after.items()}
    return {state: [run for run in runs if after[run.folder] == state] for state in STATES}


def set_stale_aside(stale: list[PlannedRun], say: Say) -> None:
    for run in stale:
        reasons = ", ".join(run.stale_reasons())
        say(f"{'stale':>11}  {run}: changed since it ran: {reasons}; it is run again, the old one "
            f"is {run.here.set_aside()}")


class Runner:
    """Keeps ``room()`` runs going, with one progress bar, until none is left or the user stops."""

    def __init__(
        self, runs: list[PlannedRun], todo: list[PlannedRun], pool: Executor, room: Callable[[], int], fail_fast: bool,
        say: Say,
    ):
        self.waiting, self.pool, self.room, self.fail_fast = deque(todo), pool, room, fail_fast
        self.going: dict[Future, PlannedRun] = {}
        self.others: set[PlannedRun] = set()  # at work in a process that is not ours, such as a Slurm job
        self.begun: list[RunFolder] = []
        self.stopping, self.done_before = False, len(runs) - len(todo)
        self.bar = tqdm(
            total=len(runs), initial=self.done_before, smoothing=0, desc="runs", dynamic_ncols=True, disable=None,
            bar_format="{desc} {n:.1f}/{total} |{bar}| {elapsed} elapsed, {remaining} left{postfix}",
        )
        self.say = say if self.bar.disable else self.bar.write

    def go_on(self) -> None:
        try:
            while self.going or ((self.waiting or self.others) and not self.stopping):
                try:
                    self.fill()
                    self.empty()
                    self.bar.n = self.done_before + sum(here.progress() for here in self.begun)
                    self.bar.refresh()
                except KeyboardInterrupt:
                    self.interrupt()
        except BaseException:
            end(self.going)
            raise
        finally:
            self.bar.close()

    def fill(self) -> None:
        while self.waiting and not self.stopping and len(self.going) < self.room():
            run = self.waiting.popleft()
            if run.state() == "running":
                self.say(f"    waiting  {run}: {run.here.at_work()} is at work on it")
                self.others.add(run)
            elif not reused(run, self.say):  # another sweep may have done it in the meantime
                self.going[start(run, self.pool)] = run
                self.begun.append(run.here)
                self.bar.set_postfix_str(", ".join(f"{each.row}/{each.seed}" for each in self.going.values()))
        if self.waiting and not self.going and not self.stopping and not self.room():
            self.say("no worker is left; start some, and the same command goes on")
            self.stopping = True

    def empty(self) -> None:
        if self.going:
            wait(self.going, timeout=1, return_when=FIRST_COMPLETED)
        else:
            time.sleep(0.5)
        for future in [each for each in self.going if each.done()]:
            run = self.going.pop(future)
            state = state_at_end(run)
            self.say(f"{state:>11}  {run}{outcome_text(run.here, state)}{error_text(future)}")
            self.stopping = self.stopping or (self.fail_fast and state == "failed")
        for run in [each for each in self.others if each.state() != "running"]:
            self.others.remove(run)
            self.waiting.append(run) if run.state() != "done" else self.begun.append(run.here)

    def interrupt(self) -> None:
        """Ctrl-C: first no more starts, then no more runs."""
        if self.stopping:
            self.say("ending the running ones now; the same command goes on from their checkpoints")
            end(self.going)
        else:
            queued = [future for future, run in self.going.items() if run.state() != "running" and future.cancel()]
            count = len(self.going) - len(queued)
            self.say(f"starting no more; letting {count} running ones finish (Ctrl-C again ends them)")
        self.stopping = True


def end(going: dict[Future, PlannedRun]) -> None:
    for future, run in list(going.items()):
        run.here.ask_to_stop()
        future.cancel()
    end_processes()


def state_at_end(run: PlannedRun) -> str:
    """Once its future has ended; the process of a killed worker needs a moment to end, too."""
    deadline = time.monotonic() + 5
    while (state := run.state()) == "running" and time.monotonic() < deadline:
        time.sleep(0.1)
    return state


def outcome_text(here: RunFolder, state: str) -> str:
    if state == "done":
        try:
            result = here.result()
        except UserError as error:  # reported again at the end; the other runs go on
            return f": {error}"
        scores = ("–" if result[name] is None else f"{result[name]:.1f}" for name in ("AP", "AR"))
        return ": AP {}, AR {}, {:.0f} s".format(*scores, result["seconds"] or 0)
    if state == "failed":
        return f": {here.error() or 'the error is not known'} (see {here.path / 'run.ipynb'})"
    return f": no result (see {here.path / 'log.txt'})"


def error_text(future: Future) -> str:
    if future.cancelled():
        return " (cancelled)"
    error = future.exception()
    return f" ({str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__})" if error else ""


def reused(run: PlannedRun, say: Say) -> bool:
    """Whether another sweep has done the run, so that its folder is now a copy."""
    source = run.done_elsewhere() if run.state() != "running" else None
    if source is None or not run.here.copy_from(source, job_of(run)):
        return False
    place = f"{source.parent.parent.name}/{source.parent.name}"
    say(f"{'done':>11}  {run}: copied from {place}, which has done this run")
    return True


def job_of(run: PlannedRun) -> dict:
    return {
        "notebook": str(notebook_path().absolute()), "parameters": {**run.config.dict(), "out": str(run.folder)},
        "row": run.row, "seed": run.seed, "cwd": os.getcwd(),
    }


def start(run: PlannedRun, pool: Executor) -> Future:
    run.here.request(job_of(run))
    return pool.submit(launch, str(run.folder), cpu_environment(run.config.threads))
