"""A run that another sweep has done is copied from there: equal ids mean equal settings and data, and the code is
compared.

    runs/OTHER/ID (done) --hard links and copies under a temporary name, one rename--> runs/THIS/ID
"""
from pathlib import Path

from ..run import RunFolder


def done_elsewhere(folder: Path) -> Path | None:
    """The finished folder of the same run, of present code, in another sweep's folder beside this one; None if there
    is none."""
    out = folder.parent
    for other in sorted(out.parent.glob("[!.]*")):
        candidate = other / folder.name
        if other != out and candidate.is_dir() and RunFolder(candidate).is_whole():
            return candidate
    return None


def reuse_run(folder: Path, job: dict) -> Path | None:
    """Make ``folder`` a finished run by copying it from another sweep.

    Returns that sweep's folder of the run, or None: then it has to be done.
    """
    source = done_elsewhere(folder)
    return source if source is not None and RunFolder(folder).copy_from(source, job) else None
