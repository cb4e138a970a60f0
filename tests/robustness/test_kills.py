"""A sweep that is killed repeatedly ends with the numbers of an undisturbed one, and leaves no process behind.

Real processes and real training, at smoke scale on tiny images. This file makes three random kills;
``python -m tests.robustness.kill_matrix --kills 30`` makes thirty.
"""
import json
import random
import signal
import time
from pathlib import Path

import pytest

from fgdlab.lab.run import RunFolder
from tests.robustness.kill_matrix import (
    GRACE,
    PATIENCE,
    KillMatrix,
    SweepCommand,
    assert_same_results,
    kernel_of,
    kill,
    until,
    worker_of,
)

pytestmark = pytest.mark.slow
ROWS = ("none", "fg", "split")


def logged(run: Path) -> int:
    """Steps in a run's metrics.jsonl."""
    path = run / "metrics.jsonl"
    return path.read_text().count('"total"') if path.exists() else 0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A sweep that nobody kills, and the seconds that it took."""
    sweep = SweepCommand(tmp_path_factory.mktemp("undisturbed"), ROWS)
    return sweep, sweep.to_the_end()


@pytest.fixture
def disturbed(tmp_path):
    """Another one, with an empty cache; whatever lives on after the test is ended."""
    sweep = SweepCommand(tmp_path, ROWS)
    yield sweep
    for process in sweep.processes():
        kill(process)


def test_three_random_kills_change_no_number_and_no_run_is_done_twice(undisturbed, tmp_path):
    seed = random.SystemRandom().randrange(10**6)
    matrix = KillMatrix(tmp_path, 3, seed, ROWS)
    matrix.run(*undisturbed)
    assert sum(matrix.counts.values()) == 3, f"moments by seed {seed}"


def test_a_sweep_killed_at_random_moments_ends_with_the_numbers_of_an_undisturbed_one(undisturbed, disturbed):
    seed = random.SystemRandom().randrange(10**6)
    draw = random.Random(seed)
    done: dict[Path, int] = {}

    def check(when: str) -> None:
        """Finished runs are unchanged, and no process is left."""
        now = disturbed.results()
        assert {
            path: now.get(path) for path in done
        } == done, f"{when}: a finished run was run again (moments by seed {seed})"
        done.update(now)
        until(lambda: not disturbed.processes(), seconds=GRACE)

    # the runner, while it makes data or teacher
    runner = disturbed.start()
    time.sleep(draw.uniform(1, 6))
    kill(runner)
    runner.wait()
    check("runner killed early")

    # a kernel in the middle of its training, a worker, and the runner after the first result
    runner = disturbed.start()
    trained = until(
        lambda: next((run for run in disturbed.runs() if 3 <= logged(run) < 25 and kernel_of(run)), None), runner,
    )
    assert trained, disturbed.log()
    steps = logged(trained)
    assert kill(kernel_of(trained))
    other = until(
        lambda: next((run for run in disturbed.runs() if run != trained and RunFolder(run).state() == "running"), None),
        runner,
    )
    assert other, disturbed.log()
    time.sleep(draw.uniform(0, 3))
    kill(worker_of(other))
    until(disturbed.results, runner)
    until(lambda: RunFolder(trained).state() != "running", runner)  # papermill checks its kernel every few seconds
    assert (
        not (trained / "result.json").exists() and RunFolder(trained).state() == "interrupted"
        and not (trained / "failed.json").exists()
    )
    time.sleep(draw.uniform(0, 4))
    kill(runner)
    runner.wait()
    check("kernel, worker and runner killed")

    # any process, at any moment
    runner = disturbed.start()
    until(lambda: any(RunFolder(run).state() == "running" for run in disturbed.runs()), runner)
    time.sleep(draw.uniform(0, 5))
    kill(draw.choice(sorted(disturbed.processes(), key=lambda each: each.pid)))
    assert runner.wait(PATIENCE) in (-signal.SIGKILL, 0, 1)
    check("any process killed")

    # the same command until it succeeds
    for _ in range(3):
        if disturbed.start().wait(PATIENCE) == 0:
            break
        check("undisturbed")
    assert len(disturbed.results()) == 3, disturbed.log()
    check("completed")
    assert "Traceback" not in disturbed.log()
    result = json.loads((trained / "result.json").read_text())
    assert result["resumed_at"] >= min(steps, result["steps"]) - 1   # from its checkpoint, not from the start

    # and once more: nothing to do
    started = time.monotonic()
    assert disturbed.start().wait(PATIENCE) == 0
    assert disturbed.results() == done
    check(f"nothing to do, {time.monotonic() - started:.0f} s")

    assert_same_results(disturbed, undisturbed[0])
