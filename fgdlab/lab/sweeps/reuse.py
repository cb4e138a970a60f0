"""A run that another sweep has done already is taken from there: a run's id hashes all that decides its numbers, so equal ids are the same run.

    runs/OTHER/ID (done) --hard links and copies under a temporary name, one rename--> runs/THIS/ID
"""
import json
import os
import shutil
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import UserError
from ..io import atomic_write, write_json
from .run_folder import alive

WRITTEN = ("params.json", "student.safetensors", "detections.json")          # what a run has written before its result.json
LINKED = (".safetensors", ".pt", "detections.json")                  # large, and only ever replaced as a whole: one file on disk serves both sweeps
OF_THE_PROCESS = ("lock", "running.json", "heartbeat", "stop")


def done_elsewhere(folder: Path) -> Path | None:
    """The finished folder of the same run in a sibling of its sweep's folder, or None; one that somebody still writes into does not count."""
    out = folder.parent
    for sibling in sorted(out.parent.glob("[!.]*")):
        found = sibling / folder.name
        if sibling != out and os.path.isfile(found / "result.json") and is_whole(found):         # a folder that may not be read has none
            return found
    return None


def is_whole(folder: Path) -> bool:
    if alive(folder / "running.json") or not all((folder / name).is_file() for name in WRITTEN):
        return False
    try:
        json.loads((folder / "result.json").read_text())
    except (OSError, ValueError):
        return False
    return True


def reuse_run(folder: Path, job: dict) -> Path | None:
    """Make ``folder`` a finished run by taking it from a sibling sweep. The folder it came from, or None: then it has to be run.

    Args:
        job: what job.json shall say here; row and seed are this sweep's, not the other's.
    """
    source = done_elsewhere(folder)
    if source is None:
        return None
    for left in folder.parent.glob(f".{folder.name}.*.unfinished"):          # of a runner that was killed right here; this one has the sweep's lock
        shutil.rmtree(left, ignore_errors=True)
    try:
        if folder.exists():
            with FileLock(folder / "lock", timeout=0):               # what is left of an earlier try goes, unless its process still dies
                shutil.rmtree(folder)
        with atomic_write(folder) as unfinished:
            shutil.copytree(source, unfinished, copy_function=link_or_copy, ignore=lambda at, names: {*OF_THE_PROCESS} & {*names})
            write_json(unfinished / "job.json", {**job, "taken_from": f"{source.parent.parent.name}/{source.parent.name}"})
    except (Timeout, OSError, shutil.Error, UserError):
        return None
    return source


def link_or_copy(source: str, target: str) -> None:
    if source.endswith(LINKED):
        try:
            os.link(source, target)
            return
        except OSError:                                              # another disk, or a disk without links
            pass
    shutil.copy2(source, target)
