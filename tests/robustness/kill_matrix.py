"""Kills smoke sweeps at random moments by SIGKILL, SIGTERM and SIGINT: the runner, a worker or a kernel.

    python -m tests.robustness.kill_matrix --kills 30

After each kill the same command is repeated until it succeeds. Then every run is done, with the numbers and weights of
an undisturbed sweep; no run was done twice; no process is left. The processes and the training are real, on tiny
images. Prints how often each process was killed by each signal.
"""
import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path

import pandas as pd
import psutil

import fgdlab
from fgdlab.lab.run import RunFolder

ROOT = Path(fgdlab.__file__).parents[1]
SETTINGS = {
    "image_size": 64, "train_images": 16, "eval_images": 8, "batch_size": 4, "teacher_batch_size": 4, "epochs": 24,
    "checkpoint_every": 1, "log_every": 1,
}
TIMES = [
    "seconds", "train_seconds", "eval_seconds", "images_per_second", "peak_memory_gb", "finished", "commit", "dirty",
]
TIMED = ["teacher_weights"]  # hash of a file that holds the seconds of the teacher's training
PATIENCE = 600                                                       # seconds for any step, on the busiest machine
GRACE = 30  # seconds until all processes have ended after a killed runner
TARGETS, SIGNALS = ("runner", "worker", "kernel"), (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


class SweepCommand:
    """The same ``fgdlab sweep`` again and again, in a folder, a cache and with a mark of its own, by which its
    processes are found."""

    def __init__(self, folder: Path, rows: tuple[str, ...] = (), home: Path | None = None):
        self.folder, self.mark, self.home = folder, uuid.uuid4().hex, home or folder / "home"
        # nobody edits these while the test runs
        shutil.copytree(ROOT / "ablations/sweeps", folder / "ablations/sweeps")
        notebook = json.loads((ROOT / "ablations/run_one.ipynb").read_text())
        # figures take longer than these runs
        notebook["cells"] = [cell for cell in notebook["cells"] if "plots." not in "".join(cell["source"])]
        (folder / "ablations/run_one.ipynb").write_text(json.dumps(notebook))
        name = "table1_areas"
        if rows:
            name = "some_rows"
            import yaml

            content = yaml.safe_load((folder / "ablations/sweeps/table1_areas.yaml").read_text())
            content |= {"rows": {row: content["rows"][row] for row in rows}, "contrasts": [], "scales": {}}
            (folder / f"ablations/sweeps/{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        self.out = folder / f"runs/{name}-smoke"
        self.command = [sys.executable, "-m", "fgdlab", "sweep", name, "--scale", "smoke", "--seeds", "0"]
        for key, value in SETTINGS.items():
            self.command += ["--set", f"{key}={value}"]

    def start(self, *where: str) -> subprocess.Popen:
        """The command with two jobs, or with other options that say where its runs go."""
        places = {"FGDLAB_HOME": str(self.home), "PYTHONPATH": str(ROOT), "FGDLAB_TEST_MARK": self.mark}
        with open(self.folder / "log.txt", "ab") as log:
            return subprocess.Popen(
                [*self.command, *(where or ("--jobs", "2"))], cwd=self.folder, env={**os.environ, **places},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=accept_interrupts,
            )

    def to_the_end(self) -> float:
        """Run the whole sweep. The seconds that it took."""
        started = time.monotonic()
        assert self.start().wait(PATIENCE) == 0, self.log()
        return time.monotonic() - started

    def processes(self) -> list[psutil.Process]:
        """Every living process that descends from this sweep."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("FGDLAB_TEST_MARK") == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
        return found

    def log(self) -> str:
        return (self.folder / "log.txt").read_text()

    def runs(self) -> list[Path]:
        return sorted(path.parent for path in self.out.glob("*/job.json"))

    def results(self) -> dict[Path, int]:
        """The result.json files that are there, with the moment of their last change."""
        return {path: path.stat().st_mtime_ns for path in self.out.glob("*/result.json")}

    def table(self) -> pd.DataFrame:
        return pd.read_csv(self.out / "results.csv").drop(columns=[*TIMES, *TIMED])


def accept_interrupts() -> None:
    """React to SIGINT: a shell that starts this in the background would make all processes ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def until(true, process: subprocess.Popen | None = None, seconds: float = PATIENCE):
    """The first true value of ``true()``, or None once ``process`` has ended."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        if process is not None and process.poll() is not None:
            return None
        assert time.monotonic() < deadline, f"waited {seconds} s without success"
        time.sleep(0.05)
    return found


def worker_of(run: Path) -> psutil.Process | None:
    """The worker process of a run, if it lives."""
    try:
        return psutil.Process(json.loads((run / "running.json").read_text())["pid"])
    except (OSError, ValueError, psutil.NoSuchProcess):
        return None


def kernel_of(run: Path) -> psutil.Process | None:
    parent = worker_of(run)
    try:
        return next(iter(parent.children()), None) if parent else None
    except psutil.NoSuchProcess:
        return None


def kill(process: psutil.Process | subprocess.Popen | None, how: int = signal.SIGKILL) -> bool:
    """Send the signal, if the process is still there."""
    try:
        if process is not None:
            process.send_signal(how)
        return process is not None
    except psutil.NoSuchProcess:
        return False


def assert_same_results(disturbed: SweepCommand, undisturbed: SweepCommand) -> None:
    """All runs are done, tables are equal except for times, weights are equal to the last bit."""
    table = disturbed.table()
    assert set(table["state"]) == {"done"} and table[["AP", "AR"]].notna().all().all()
    pd.testing.assert_frame_equal(table, undisturbed.table(), check_exact=True)
    assert [run.name for run in disturbed.runs()] == [run.name for run in undisturbed.runs()]
    differ = [
        run.name
        for run in disturbed.runs()
        if (run / "student.safetensors").read_bytes() != (
            undisturbed.out / run.name / "student.safetensors"
        ).read_bytes()
    ]
    assert differ == [], f"weights differ: {differ}"


class KillMatrix:
    """A number of kills, spread over as many sweeps as needed.

    ``counts``: kills per process and signal; ``facts``: numbers of sweeps and calls.
    """

    def __init__(self, folder: Path, kills: int, seed: int, rows: tuple[str, ...] = ("none", "fg", "split"), say=print):
        self.folder, self.draw, self.rows, self.say = folder, random.Random(seed), rows, say
        combinations = [(target, number) for target in TARGETS for number in SIGNALS]
        self.left: list[tuple[str, signal.Signals]] = []
        while len(self.left) < kills:
            self.left += self.draw.sample(combinations, len(combinations))
        del self.left[kills:]
        self.counts, self.facts = Counter(), Counter(sweeps=0, calls=0, **{"most calls for a sweep": 0})

    def new_command(self, name: str, home: Path | None = None) -> SweepCommand:
        (self.folder / name).mkdir(parents=True)
        return SweepCommand(self.folder / name, self.rows, home)

    def run(self, undisturbed: SweepCommand, length: float) -> None:
        """Kill and compare with a sweep that nobody disturbed, which took ``length`` seconds."""
        self.length = length
        self.run_length = max(json.loads(path.read_text())["seconds"] for path in undisturbed.results())
        while self.left:
            # the first sweep makes data and teacher itself, and may be killed meanwhile
            home = None if self.facts["sweeps"] == 0 else undisturbed.home
            disturbed = self.new_command(f"disturbed_{self.facts['sweeps']}", home)
            try:
                self.disturb(disturbed)
                assert_same_results(disturbed, undisturbed)
                assert all(
                    "KeyboardInterrupt" in block for block in disturbed.log().split("Traceback")[1:]
                ), disturbed.log()
            finally:
                for process in disturbed.processes():
                    kill(process)
            self.facts["sweeps"] += 1

    def disturb(self, sweep: SweepCommand) -> None:
        """Repeat the same command until it succeeds, with one kill per call while kills are left."""
        done: dict[Path, int] = {}
        calls = 0
        while True:
            calls += 1
            assert calls < 20, sweep.log()
            runner = sweep.start()
            if self.left:
                self.kill_once(sweep, runner)
            status = runner.wait(PATIENCE)
            until(lambda: not sweep.processes(), seconds=GRACE)      # no orphan
            now = sweep.results()
            assert {path: now.get(path) for path in done} == done, "a finished run was run again"
            done.update(now)
            if status == 0:
                break
        self.facts["calls"] += calls
        self.facts["most calls for a sweep"] = max(self.facts["most calls for a sweep"], calls)

    def kill_once(self, sweep: SweepCommand, runner: subprocess.Popen) -> None:
        """Kill one process at a random moment of this call, unless it has ended before."""
        target, signal_sent = self.left[0]
        if target == "runner":
            time.sleep(self.draw.uniform(0.2, self.length))
            process = runner if runner.poll() is None else None
        else:
            process_of = worker_of if target == "worker" else kernel_of

            def one_that_runs() -> Path | None:
                runs = sweep.runs()                       # read once: the sweep adds folders at any moment
                self.draw.shuffle(runs)
                return next(
                    (run for run in runs if RunFolder(run).state() == "running" and process_of(run)), None,
                )

            run = until(one_that_runs, runner)
            time.sleep(self.draw.uniform(0, self.run_length) if run else 0)
            process = process_of(run) if run else None
        if not kill(process, signal_sent):
            return
        self.left.pop(0)
        self.counts[f"{target}, {signal_sent.name}"] += 1
        self.say(
            f"{len(self.left):3d} left: {target} {signal_sent.name}, {len(sweep.results())} of {len(self.rows)} runs "
            f"done"
        )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--kills", type=int, default=30)
    options.add_argument(
        "--seed", type=int, default=random.SystemRandom().randrange(10**6),
        help="seed of moments and order; random by default",
    )
    arguments = options.parse_args()
    print(f"{arguments.kills} kills, moments by seed {arguments.seed}", flush=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        matrix = KillMatrix(Path(folder), arguments.kills, arguments.seed, say=lambda line: print(line, flush=True))
        undisturbed = matrix.new_command("undisturbed")
        matrix.run(undisturbed, undisturbed.to_the_end())
    for name, count in sorted(matrix.counts.items()):
        print(f"{count:4d}  {name}")
    facts = matrix.facts
    print(f"{sum(matrix.counts.values())} kills in {facts['sweeps']} sweeps of {len(matrix.rows)} runs, "
          f"{facts['calls']} calls, at most {facts['most calls for a sweep']} per sweep, "
          f"{time.monotonic() - started:.0f} s: every sweep completed with the numbers of the undisturbed one, "
          f"no run was done twice, no process was left")


if __name__ == "__main__":
    main()
