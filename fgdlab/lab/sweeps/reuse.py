"""A run that another sweep has done is copied from there."""
from pathlib import Path

from ..run import RunFolder


def done_elsewhere(folder: Path) -> Path | None:
    """The finished folder of the same run, of present code, in another sweep's folder beside this one."""
    out = folder.parent
    for other in sorted(out.parent.glob("[!.]*")):
        candidate = other / folder.name
        if other != out and candidate.is_dir() and RunFolder(candidate).is_whole():
            return candidate
    return None


def reuse_run(folder: Path, job: dict) -> Path | None:
    """Make ``folder`` a copy of a finished run. Returns that run's folder, or None: then it has to be done."""
    source = done_elsewhere(folder)
    return source if source is not None and RunFolder(folder).copy_from(source, job) else None
