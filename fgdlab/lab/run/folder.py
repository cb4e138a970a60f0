"""The folder of a run: its marker files, and the states that they mean.

    job.json        what the runner asked for: notebook, parameters, row, seed
    params.json     the run's settings, written before the first step, with
    code.json       hashes of the source files that the run executes, and
    identity.json   settings that decide numbers, and hashes of data and teacher's file
    running.json    the process at work: pid, host, creation time; it touches ``heartbeat`` every BEAT seconds
    stop            the runner asks that process to end
    failed.json     what the notebook raised
    result.json     scores and provenance; written last, and the only sign that a run is done
"""
import json
import os
import re
import shutil
import socket
import time
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from ..errors import UserError
from ..io import atomic_write, checked_read, lock_file, make_folder, write_json
from ..provenance import changed_files, code_of

STATES = ("done", "stale", "running", "failed", "interrupted", "pending")
BEAT, SILENCE = 5, 60  # seconds between two heartbeats; a process on another host without one for so long is dead
LARGEST_PID = 2**31 - 1  # systems keep it in 32 bits
SCORES = ("AP", "AR", "seconds")  # numbers that every result.json of a run has; a score may be null
# what a run leaves once it has trained
BEGUN = ("metrics.jsonl", "checkpoint.pt", "student.safetensors", "result.json")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # IPython colours its tracebacks

# For a copy of a finished run in another sweep's folder.
NEEDED = ("params.json", "code.json", "student.safetensors", "detections.json")  # written before result.json
LINKED = (".safetensors", ".pt", "detections.json")  # large and never edited in place: hard links
OF_THE_PROCESS = ("lock", "running.json", "heartbeat", "stop")


class RunFolder:
    """One run's folder. Nothing else writes or removes its marker files.

    A runner requests a run, asks it to stop, sets its folder aside, or copies a finished one. The process that runs
    claims the folder, begins, beats, then fails or finishes, and releases it.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)

    def has(self, *names: str) -> bool:
        return any((self.path / name).exists() for name in names)

    def read(self, name: str) -> dict:
        with checked_read(self.path / name):
            return {**json.loads((self.path / name).read_text(encoding="utf-8"))}

    # --- state ---

    def state(self) -> str:
        if self.has("result.json"):
            return "stale" if self.stale_files() else "done"
        if self.is_running():
            return "running"
        if self.has(*BEGUN) and self.stale_files():
            return "stale"
        if self.has("failed.json"):
            return "failed"
        return "interrupted" if self.has("params.json", "heartbeat", "running.json") else "pending"

    def stale_files(self) -> list[str]:
        try:
            code, method = self.read("code.json"), self.read("params.json")["method"]
            return [] if code["hash"] == code_of(method)["hash"] else changed_files(code["files"], method)
        except (UserError, KeyError, AttributeError):
            return ["(unknown: the run did not record its code)"]

    def is_running(self) -> bool:
        """Does the process of running.json still live, and is it the one that wrote the claim? Its id may belong to
        another process by now. One on another host lives while its heartbeat goes on."""
        claim = self.claimed_by()
        if claim is None:
            return False
        if claim["host"] != socket.gethostname():
            return self.beats()
        try:
            process = psutil.Process(claim["pid"])
            same = abs(process.create_time() - claim.get("created", process.create_time())) < 2
            # setting the clock moves creation times
            return (same or self.beats()) and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            return self.beats()

    def claimed_by(self) -> dict | None:
        """What running.json says: pid, host, perhaps created; None where it is missing or damaged."""
        try:
            claim = self.read("running.json")
            float(claim.get("created", 0))
            good = type(claim["pid"]) is int and 0 < claim["pid"] <= LARGEST_PID and isinstance(claim["host"], str)
        except (UserError, ValueError, KeyError, TypeError):
            return None
        return claim if good else None

    def beats(self) -> bool:
        """Was the heartbeat, or running.json, touched within SILENCE seconds? Clocks of hosts may differ by less."""
        touched = [(self.path / name).stat().st_mtime for name in ("running.json", "heartbeat") if self.has(name)]
        return bool(touched) and time.time() - max(touched) < SILENCE

    def at_work(self) -> str:
        claim = self.claimed_by()
        return f"process {claim['pid']} on {claim['host']}" if claim else "no process"

    def progress(self) -> float:
        if self.has("result.json"):
            return 1.0
        try:
            with open(self.path / "metrics.jsonl", "rb") as file:
                file.seek(max(os.path.getsize(file.name) - 4096, 0))
                lines = [
                    json.loads(line)
                    for line in file.read().splitlines()[1:] if line.startswith(b"{") and line.endswith(b"}")
                ]
            return 0.95 * max(row["step"] / row["steps"] for row in lines if "steps" in row)
        except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
            return 0.0

    # --- content ---

    def result(self) -> dict:
        """UserError where result.json is damaged, which says how to do the run again."""
        with checked_read(self.path / "result.json"):
            result = self.read("result.json")
            for name in SCORES:
                if name not in result or not isinstance(result[name], (int, float, type(None))):
                    raise ValueError(f"{result[name]!r} for {name}" if name in result else f"no {name}")
        return result

    def error(self) -> str | None:
        try:
            return str(self.read("failed.json")["error"])
        except (UserError, KeyError):
            return None

    # --- for the runner ---

    def request(self, job: dict) -> None:
        make_folder(self.path)
        for name in ("failed.json", "stop"):
            (self.path / name).unlink(missing_ok=True)
        write_json(self.path / "job.json", job)

    def forget_result(self) -> None:
        """Of a preparation, which is done anew for each sweep."""
        (self.path / "result.json").unlink(missing_ok=True)

    def ask_to_stop(self) -> None:
        (self.path / "stop").touch()

    def set_aside(self) -> Path:
        """Move the folder to .stale/ beside it, so that the run can be done again. Returns the new place."""
        (self.path / "lock").unlink(missing_ok=True)
        aside = make_folder(self.path.parent / ".stale")
        number = next(number for number in range(1, 10**6) if not (aside / f"{self.path.name}.{number}").exists())
        return self.path.rename(aside / f"{self.path.name}.{number}")

    def is_whole(self) -> bool:
        if self.is_running() or not all((self.path / name).is_file() for name in NEEDED):
            return False
        try:
            self.result()
        except UserError:
            return False
        return self.state() == "done"

    def copy_from(self, source: Path, job: dict) -> bool:
        """Become a copy of a finished run, with the ``job`` of this sweep; large files are hard links."""
        # of a runner that was killed here; the caller has the sweep's lock
        for left in self.path.parent.glob(f".{self.path.name}.*.unfinished"):
            shutil.rmtree(left, ignore_errors=True)
        try:
            if self.path.exists():
                with FileLock(self.path / "lock", timeout=0):  # an earlier try goes, unless its process is still ending
                    shutil.rmtree(self.path)
            with atomic_write(self.path) as unfinished:
                shutil.copytree(
                    source, unfinished, ignore=shutil.ignore_patterns(*OF_THE_PROCESS), copy_function=link_or_copy)
                place = f"{source.parent.parent.name}/{source.parent.name}"
                write_json(unfinished / "job.json", {**job, "taken_from": place})
        except (OSError, UserError):
            return False
        return True

    # --- for the process that runs ---

    def locked(self) -> AbstractContextManager[None]:
        """Hold the folder's lock; UserError where another process holds it."""
        got = "another process is running in it; wait for it, or choose another folder"
        return lock_file(make_folder(self.path) / "lock", 30, f"{self.path} must be free, but {got}")

    def claim(self) -> bool:
        try:
            with FileLock(self.path / "lock", timeout=30):
                if self.is_running():
                    return False
                write_json(self.path / "running.json", this_process())
        except Timeout:
            return False
        (self.path / "heartbeat").touch()
        (self.path / "failed.json").unlink(missing_ok=True)
        return True

    def begin(self, settings: dict, compared: dict) -> None:
        """Note settings and code, or refuse a folder with a run of other settings or other code.

        compared: what decides the run's numbers, of :func:`identity`. That of a run that was refused before its first
        step does not count.
        """
        if self.has("params.json") and self.has(*BEGUN):
            params, before = self.read("params.json"), self.read("identity.json")
            old, new = {**params, **before["settings"]}, compared["settings"]
            changed = [name for name in {**new, **before["settings"]} if old.get(name) != new.get(name)]
            contents = [name for name in compared if before.get(name) != compared[name] and name != "settings"]
            defect = ""
            if changed:
                defect = f"with the same settings, got other values for {', '.join(changed)}"
            elif contents:
                same = f"with the same contents of {' and '.join(contents)}"
                defect = f"{same}, got one with others, though the settings are equal"
            elif not self.has("result.json") and (files := self.stale_files()):
                defect = f"of this code, got one begun with other versions of {', '.join(files)}"
            if defect:
                raise UserError(f"{self.path} must hold a run {defect}; choose another folder or delete this one")
        if not self.has("result.json"):
            write_json(self.path / "code.json", code_of(settings["method"]))
            write_json(self.path / "params.json", settings)
            write_json(self.path / "identity.json", compared)

    def beat(self) -> None:
        if self.has("running.json"):
            (self.path / "heartbeat").touch()

    def fail(self, error: str) -> None:
        write_json(self.path / "failed.json", {"error": COLOUR.sub("", error)})

    def finish(self, result: dict) -> None:
        write_json(self.path / "result.json", result)

    def release(self, ended_well: bool = False) -> None:
        """Take back this process's claim. The heartbeat stays after a bad end: it says that the run was begun."""
        if ended_well:
            (self.path / "heartbeat").unlink(missing_ok=True)
        claim = self.claimed_by()
        if claim is not None and claim["pid"] == os.getpid():
            (self.path / "running.json").unlink(missing_ok=True)


def this_process() -> dict:
    return {"pid": os.getpid(), "host": socket.gethostname(), "created": psutil.Process().create_time()}


def link_or_copy(source: str, target: str) -> None:
    if source.endswith(LINKED):
        try:
            os.link(source, target)
            return
        except OSError:  # another disk, or a disk without links
            pass
    shutil.copy2(source, target)
