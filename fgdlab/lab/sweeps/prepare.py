"""Make what the runs of a sweep share, once and before they start: data, teacher, the teacher's feature maps."""
import os
import sys
from collections.abc import Callable
from concurrent.futures import Executor

from ..config import METADATA, RunConfig, distils, has_teacher
from ..errors import UserError
from ..io import make_folder, short_hash
from ..run import RunFolder
from .planning import PlannedRun
from .worker import cpu_environment, launch, stay_with

LEAST_AP = 1.0  # a teacher below it has learned nothing, or did not load


def to_prepare(todo: list[PlannedRun]) -> list[RunConfig]:
    of_either = ("data", "teacher")
    names = [name for name, about in METADATA.items() if about["decides_teacher"] or about["group"] in of_either]
    names += ["teacher_cache", "teacher_cache_gb", "device", "min_sizes"]
    different = {
        (*(getattr(run.config, name) for name in names), has_teacher(run.config), distils(run.config)): run.config
        for run in todo
    }
    return list(different.values())


def prepared(config: RunConfig) -> str:
    from ..run import prepare
    from ..teachers import ap_text

    teacher = prepare(config).teacher
    if not teacher:
        return ""
    floor = f", floor {config.teacher_floor:g}" if config.teacher_floor else ""
    weak = "" if teacher.AP is None or teacher.AP >= LEAST_AP else \
        "; it finds next to nothing: train it longer (teacher_steps), or give a trained one (teacher_checkpoint)"
    return f"teacher {config.teacher} ({teacher.origin}): {ap_text(teacher.AP)} on {config.eval_split}{floor}{weak}"


def prepare_shared(todo: list[PlannedRun], say: Callable[[str], None]) -> None:
    if not todo:
        return
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    for line in filter(None, dict.fromkeys(prepared(config) for config in to_prepare(todo))):
        say(line)


def prepare_shared_in(pool: Executor, todo: list[PlannedRun], say: Callable[[str], None]) -> None:
    """In the slots of the runs, which may be on another machine, one configuration after the other."""
    lines = {}
    for config in to_prepare(todo):
        here = RunFolder(make_folder(todo[0].folder.parent / ".prepare" / short_hash(config.dict())))
        log = here.path / "log.txt"
        here.forget_result()
        here.request({"module": "fgdlab.lab.sweeps.prepare", "parameters": config.dict(), "cwd": os.getcwd()})
        say(f"preparing data and teacher on the machine of the runs (log: {log})")
        try:
            pool.submit(launch, str(here.path), cpu_environment(os.cpu_count() or 1)).result()
        except KeyboardInterrupt:
            here.ask_to_stop()
            raise
        except Exception as error:  # a worker or a job that is gone; the folder says the same below
            with log.open("a") as file:
                file.write(f"{type(error).__name__}: {error}\n")
        if not here.has("result.json"):
            raise UserError(here.error() or f"data and teacher must be made before the runs, got no result; see {log}")
        lines[here.read("result.json")["line"]] = True
    for line in filter(None, lines):
        say(line)


def main(here: RunFolder) -> int:
    if not here.claim():
        return 3
    try:
        here.finish({"line": prepared(RunConfig.of(here.read("job.json")["parameters"]))})
    except UserError as error:
        here.fail(str(error))
        return 1
    finally:
        here.release()
    return 0


if __name__ == "__main__":
    folder = RunFolder(sys.argv[1])
    stay_with(int(sys.argv[2]), folder)
    sys.exit(main(folder))
