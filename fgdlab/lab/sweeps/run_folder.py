"""In which state a run is, read from its folder alone.

    result.json                          done, whatever else lies there
    running.json of a process that lives running: host, pid, when that process was created; ``heartbeat`` is touched every few seconds
    failed.json                          failed: the notebook raised
    params.json, heartbeat, running.json interrupted: it was begun, and nobody is at work on it
    none of these                        pending
"""
import json
import os
import socket
import time
from pathlib import Path

import psutil

from ..errors import UserError
from ..io import checked_read

STATES = ("done", "running", "failed", "interrupted", "pending")
BEAT, STALE = 5, 60                                                  # seconds between two touches of heartbeat; without one for so long, a process elsewhere is dead
LARGEST_PID = 2**31 - 1                                              # systems keep it in 32 bits
ALWAYS = ("AP", "AR", "seconds")                                     # numbers that every result.json of a run has; a score may be null


def state_of(folder: Path) -> str:
    """done | running | failed | interrupted | pending."""
    if (folder / "result.json").exists():
        return "done"
    if alive(folder / "running.json"):
        return "running"
    if (folder / "failed.json").exists():
        return "failed"
    return "interrupted" if any((folder / name).exists() for name in ("params.json", "heartbeat", "running.json")) else "pending"


def this_process() -> dict:
    """What running.json says of the process that writes it."""
    return {"pid": os.getpid(), "host": socket.gethostname(), "created": psutil.Process().create_time(), "started": time.time()}


def alive(path: Path) -> bool:
    """Whether the process that a running.json names still runs; one on another host is believed as long as it touches its heartbeat.

    On this host the process must not be a zombie, and must be the one that wrote the claim: its id may belong to another process by now.
    """
    claim = claim_of(path)
    if claim is None:
        return False
    if claim["host"] != socket.gethostname():
        return beats(path)
    try:
        process = psutil.Process(claim["pid"])
        same = abs(process.create_time() - claim.get("created", process.create_time())) < 2 or beats(path)           # a clock that is set moves creation times
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return beats(path)


def claim_of(path: Path) -> dict | None:
    """What a running.json says: pid, host, perhaps created. None where there is none, or one that is not whole: then nobody is at work."""
    try:
        claim = json.loads(path.read_text(encoding="utf-8"))
        float(claim.get("created", 0))
        good = type(claim["pid"]) is int and 0 < claim["pid"] <= LARGEST_PID and isinstance(claim["host"], str)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return claim if good else None


def beats(path: Path) -> bool:
    """Whether the heartbeat beside a running.json, or that file itself, was touched of late; hosts' clocks may differ by less than STALE."""
    touched = [each.stat().st_mtime for each in (path, path.with_name("heartbeat")) if each.exists()]
    return bool(touched) and time.time() - max(touched) < STALE


def at_work(folder: Path) -> str:
    """Who is at work in a folder, for a line on the screen."""
    claim = claim_of(folder / "running.json")
    return f"process {claim['pid']} on {claim['host']}" if claim else "nobody"


def share_done(folder: Path) -> float:
    """How far a run has come, 0..1, from the last line of its metrics.jsonl."""
    if (folder / "result.json").exists():
        return 1.0
    try:
        with open(folder / "metrics.jsonl", "rb") as file:
            file.seek(max(os.path.getsize(file.name) - 4096, 0))
            last = [json.loads(line) for line in file.read().splitlines()[1:] if line.startswith(b"{") and line.endswith(b"}")]
        return 0.95 * max(row["step"] / row["steps"] for row in last if "steps" in row)
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        return 0.0


def result_of(folder: Path) -> dict:
    """result.json of a finished run.

    Raises:
        UserError: it is not whole; the message says that it may be deleted, and then the run is done again.
    """
    path = folder / "result.json"
    with checked_read(path):
        result = {**json.loads(path.read_text(encoding="utf-8"))}
        for name in ALWAYS:
            if name not in result or not isinstance(result[name], (int, float, type(None))):
                raise ValueError(f"{result[name]!r} for {name}" if name in result else f"no {name}")
    return result


def error_of(folder: Path) -> str | None:
    """What a failed run raised, from its failed.json; None where that is not whole."""
    try:
        return str(json.loads((folder / "failed.json").read_text(encoding="utf-8"))["error"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def outcome(folder: Path, state: str) -> str:
    """What a line about a finished run adds: its AP, or its error and where the notebook lies."""
    if state == "done":
        try:
            result = result_of(folder)
        except UserError as error:                                   # told again at the end; the other runs go on
            return f": {error}"
        scores = ("–" if result[name] is None else f"{result[name]:.1f}" for name in ("AP", "AR"))
        return ": AP {}, AR {}, {:.0f} s".format(*scores, result["seconds"] or 0)
    if state == "failed":
        return f": {error_of(folder) or 'what it raised is not known'} (see {folder / 'run.ipynb'})"
    return f": no result (see {folder / 'log.txt'})"
