"""Many runs in sequence: memory, file handles, threads and child processes of the runner must not grow.

    python -m tests.robustness.leaks --runs 50

There are two runners. A sweep starts a process per run, as `fgdlab sweep` does; its notebook only writes a result. One
process trains again and again, with and without a teacher, as a notebook may. Prints the numbers ten times; the exit
status is 1 if one of them grew or a process was left.
"""
import argparse
import contextlib
import gc
import io
import json
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
MARK = "FGDLAB_TEST_MARK"  # in the environment of every descendant of this process
TINY = {
    "train_images": 4, "eval_images": 2, "image_size": 64, "epochs": 1, "batch_size": 2, "teacher": "compact_s",
    "teacher_epochs": 1,
    "teacher_batch_size": 2, "device": "cpu",
}
GROWTH_MB = 40                                                       # largest change of resident memory
SWEEP = """
title: leaks
question: does anything grow?
baseline: none
rows: {none: {}}
seeds: [0]
"""
CELL = """
from fgdlab.lab.run import RunFolder

RunFolder(out).begin({"method": method}, {})
RunFolder(out).finish({"AP": 0.0, "AR": 0.0, "seconds": 0.0})
"""


def sample() -> dict[str, float]:
    """Resources of this process now. memory_mb: resident; handles: open files, sockets and pipes."""
    gc.collect()
    me = psutil.Process()
    children = len(me.children(recursive=True))
    return {
        "memory_mb": me.memory_info().rss / 1e6, "handles": me.num_fds(), "threads": me.num_threads(),
        "children": children,
    }


def prepare(folder: Path) -> None:
    """A project's folder with the sweep above; its notebook has the parameters of the project's own, and the cell
    above."""
    (folder / "ablations/sweeps").mkdir(parents=True)
    (folder / "ablations/sweeps/leaks.yaml").write_text(SWEEP)
    notebook = json.loads((ROOT / "ablations/run_one.ipynb").read_text(encoding="utf-8"))
    notebook["cells"] = [cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", [])]
    notebook["cells"].append(
        {
            "cell_type": "code", "id": "result", "metadata": {}, "source": CELL.splitlines(keepends=True),
            "outputs": [], "execution_count": None,
        }
    )
    (folder / "ablations/run_one.ipynb").write_text(json.dumps(notebook))


def by_a_sweep(runs: int, folder: Path) -> list[dict[str, float]]:
    """Samples of a runner after each of so many runs, each in a process of its own."""
    from fgdlab.lab.sweeps.execution import execute
    from fgdlab.lab.sweeps.planning import plan
    from fgdlab.lab.sweeps.spec import load_sweep

    samples: list[dict[str, float]] = []
    planned = plan(load_sweep("leaks").at("laptop", list(range(runs))), folder / "runs", overrides=TINY)

    def note(line: str) -> None:
        if line.split()[:1] == ["done"]:
            samples.append(sample())

    states = execute(planned, jobs=1, say=note)
    assert len(states["done"]) == runs, {state: len(found) for state, found in states.items()}
    return samples


def in_a_process(runs: int, folder: Path) -> list[dict[str, float]]:
    """Samples of this process after each of so many runs in it: students with and without a teacher, in turn."""
    from fgdlab.lab.config.run_config import RunConfig
    from fgdlab.lab.run import run

    samples = []
    for number in range(runs):
        run(
            RunConfig.of({**TINY, "method": ("none", "fgd")[number % 2], "seed": number}), folder / f"{number}",
            progress="off",
        )
        samples.append(sample())
        shutil.rmtree(folder / f"{number}")
    return samples


def left_over(mark: str) -> list[psutil.Process]:
    """Processes that descend from this one and are still there, this one aside."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if (
                process.pid != os.getpid() and process.environ().get(MARK) == mark
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                found.append(process)
    return found


def grown(samples: list[dict[str, float]]) -> dict[str, float]:
    """Growth from the second tenth of the samples to the last; the first runs fill caches that stay."""
    tenth = max(len(samples) // 10, 1)
    early, late = samples[min(tenth, len(samples) - 1):][:tenth], samples[-tenth:]
    return {name: min(each[name] for each in late) - max(each[name] for each in early) for name in samples[0]}


def faults(growth: dict[str, float]) -> list[str]:
    return [name for name, more in growth.items() if more > (GROWTH_MB if name == "memory_mb" else 0)]


@contextlib.contextmanager
def temporary_project() -> Iterator[tuple[Path, str]]:
    """A current folder with an empty cache, and a mark in the environment of all processes; both are temporary."""
    folder, mark, before, here = Path(tempfile.mkdtemp()), uuid.uuid4().hex, dict(os.environ), Path.cwd()
    try:
        os.environ |= {"FGDLAB_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", MARK: mark}
        prepare(folder)
        os.chdir(folder)
        yield folder, mark
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(folder, ignore_errors=True)


def check(runs: int, say=print) -> bool:
    """Both runners; True if nothing grew and no process was left."""
    well = True
    for who, runner in (("a sweep, a process for each run", by_a_sweep), ("one process", in_a_process)):
        with temporary_project() as (folder, mark):
            with contextlib.redirect_stderr(io.StringIO()):
                samples = runner(runs, folder)
            orphans = left_over(mark)
        say(f"{who}: {runs} runs")
        for number in sorted({1, *range(max(runs // 5, 1), runs + 1, max(runs // 5, 1)), runs}):
            each = samples[number - 1]
            say(f"    after {number:3d}: " + "  ".join(f"{name} {value:.0f}" for name, value in each.items()))
        bad = faults(grown(samples))
        growth = ", ".join(f"{name} {more:+.0f}" for name, more in grown(samples).items())
        say(
            f"    grown: {growth}; processes left over: {len(orphans)}   "
            f"{'FAILED: ' + ', '.join(bad) if bad or orphans else 'well'}"
        )
        well = well and not bad and not orphans
    return well


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=50)
    sys.exit(0 if check(parser.parse_args().runs) else 1)
