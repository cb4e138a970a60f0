"""What the runs of a sweep share is made once, before they start: data, teacher, the teacher's maps. A teacher that is too weak ends a sweep here.

    python -m fgdlab.lab.sweeps.prepare FOLDER RUNNER_PID          the same in a process of its own, on the machine and card where the runs will be
"""
import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor
from pathlib import Path

from ..config import RunConfig, distils, has_teacher
from ..errors import UserError
from ..io import make_folder, short_hash, write_json
from .planning import PlannedRun
from .run_folder import error_of, state_of
from .worker import claim, cpu_environment, failed, launch, release, stay_with


def to_prepare(todo: list[PlannedRun]) -> list[RunConfig]:
    """One configuration for each different set of data and teacher that the runs need."""
    from ..teachers import TEACHER_DECIDES

    asked = (*TEACHER_DECIDES, "data", "eval_images", "eval_split", "device", "teacher_checkpoint", "teacher_parts", "teacher_floor", "teacher_cache", "teacher_cache_gb", "min_sizes")
    return list({(*(getattr(run.config, name) for name in asked), has_teacher(run.config), distils(run.config)): run.config for run in todo}.values())


def prepared(config: RunConfig) -> str:
    """Make it all, with bars; a line about the teacher, empty where there is none."""
    from ..run import prepare
    from ..teachers import ap_text

    teacher = prepare(config).teacher
    return f"teacher {config.teacher} ({teacher.origin}): {ap_text(teacher.AP)} on {config.eval_split}, floor {config.teacher_floor:g}" if teacher else ""


def prepare_shared(todo: list[PlannedRun], say: Callable[[str], None]) -> None:
    """In this process, with all its cores."""
    if not todo:
        return
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    for line in dict.fromkeys(prepared(config) for config in to_prepare(todo)):
        if line:
            say(line)


def prepare_shared_in(pool: Executor, todo: list[PlannedRun], say: Callable[[str], None]) -> None:
    """In the slots where the runs will be, which may be on another machine, one after the other.

    Raises:
        UserError: what the preparation said, or where its log lies if it ended without a word.
    """
    lines = {}
    for config in to_prepare(todo) if todo else []:
        folder = make_folder(todo[0].folder.parent / ".ready" / short_hash(config.dict()))
        (folder / "result.json").unlink(missing_ok=True)
        (folder / "failed.json").unlink(missing_ok=True)
        (folder / "stop").unlink(missing_ok=True)
        write_json(folder / "job.json", {"module": "fgdlab.lab.sweeps.prepare", "parameters": config.dict(), "cwd": os.getcwd()})
        say(f"making data and teacher ready where the runs will be (log: {folder / 'log.txt'})")
        try:
            pool.submit(launch, str(folder), cpu_environment(os.cpu_count() or 1)).result()
        except KeyboardInterrupt:
            (folder / "stop").touch()
            raise
        except (CancelledError, Exception) as error:                 # a worker or a job that is gone; the folder says the same below
            (folder / "log.txt").open("a").write(f"{type(error).__name__}: {error}\n")
        if state_of(folder) == "failed":
            raise UserError(error_of(folder) or f"data and teacher must be made before the runs, got a failure without words; see {folder / 'log.txt'}")
        if state_of(folder) != "done":
            raise UserError(f"data and teacher must be made before the runs, got no result; see {folder / 'log.txt'}")
        lines[json.loads((folder / "result.json").read_text())["line"]] = True
    for line in filter(None, lines):
        say(line)


def main(folder: Path) -> int:
    if not claim(folder):
        return 3
    try:
        write_json(folder / "result.json", {"line": prepared(RunConfig.of(json.loads((folder / "job.json").read_text())["parameters"]))})
    except UserError as error:
        failed(folder, str(error))
        return 1
    finally:
        release(folder)
    return 0


if __name__ == "__main__":
    stay_with(int(sys.argv[2]), Path(sys.argv[1]))
    sys.exit(main(Path(sys.argv[1])))
