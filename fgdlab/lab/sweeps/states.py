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

STATES = ("done", "running", "failed", "interrupted", "pending")
BEAT, STALE = 5, 60                                                  # seconds between two touches of heartbeat; without one for so long, a process elsewhere is dead


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
    try:
        claim = json.loads(path.read_text())
    except (OSError, ValueError):
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


def beats(path: Path) -> bool:
    """Whether the heartbeat beside a running.json, or that file itself, was touched of late; hosts' clocks may differ by less than STALE."""
    touched = [each.stat().st_mtime for each in (path, path.with_name("heartbeat")) if each.exists()]
    return bool(touched) and time.time() - max(touched) < STALE


def at_work(folder: Path) -> str:
    """Who is at work in a folder, for a line on the screen."""
    try:
        claim = json.loads((folder / "running.json").read_text())
    except (OSError, ValueError):
        return "nobody"
    return f"process {claim['pid']} on {claim['host']}"


def share_done(folder: Path) -> float:
    """How far a run has come, 0..1, from the last line of its metrics.jsonl."""
    if (folder / "result.json").exists():
        return 1.0
    try:
        with open(folder / "metrics.jsonl", "rb") as file:
            file.seek(max(os.path.getsize(file.name) - 4096, 0))
            last = [json.loads(line) for line in file.read().splitlines()[1:] if line.startswith(b"{") and line.endswith(b"}")]
        return 0.95 * max(row["step"] / row["steps"] for row in last if "steps" in row)
    except (OSError, ValueError):
        return 0.0


def outcome(folder: Path, state: str) -> str:
    """What a line about a finished run adds: its AP, or its error and where the notebook lies."""
    if state == "done":
        result = json.loads((folder / "result.json").read_text())
        scores = ("–" if result[name] is None else f"{result[name]:.1f}" for name in ("AP", "AR"))
        return ": AP {}, AR {}, {:.0f} s".format(*scores, result["seconds"])
    if state == "failed":
        return f": {json.loads((folder / 'failed.json').read_text())['error']} (see {folder / 'run.ipynb'})"
    return f": no result (see {folder / 'log.txt'})"
