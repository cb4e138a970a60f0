"""What a sweep has to run: every row with every seed, each with an id that hashes all that decides its numbers.

    Sweep --plan--> [PlannedRun(row, seed, config, runs/NAME/ID)]
"""
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..config import RunConfig, active_settings
from ..errors import UserError
from ..io import short_hash
from ..training import custom_loss_hash
from .spec import Sweep, ablations_folder, of_scale


@dataclass(frozen=True)
class PlannedRun:
    """One cell of a sweep: row and seed, the settings they mean, the folder where it lives."""

    row: str
    seed: int
    config: RunConfig
    folder: Path

    @property
    def id(self) -> str:
        return self.folder.name


def runs_folder(sweep: Sweep, scale: str) -> Path:
    """``runs/NAME`` for the laptop, ``runs/NAME-SCALE`` for another scale, in the current folder."""
    return Path("runs") / of_scale(sweep.name, scale)


def plan(sweep: Sweep, out: Path | None = None, *, scale: str = "laptop", overrides: dict | None = None) -> list[PlannedRun]:
    """Every row with every seed of ``sweep.seeds``, seed by seed, so that a table with fewer seeds is complete first.

    A run's id hashes the notebook's code, all settings that it uses and the data, so other settings never meet old results, and what two sweeps share has one id.
    """
    out = Path(out or runs_folder(sweep, scale)).absolute()
    notebook, of_data, of_teacher, of_method = notebook_code(), once(data_hash, "data"), once(teacher_file_hash, "teacher_checkpoint"), once(custom_loss_hash, "method")
    runs = []
    for seed in sweep.seeds:
        for row in sweep.present:
            config = active_settings(sweep.settings(row, seed, scale, overrides))
            run_id = short_hash({"notebook": notebook, "settings": config.identity(), "data": of_data(config), **of_teacher(config), **of_method(config)}, 16)
            runs.append(PlannedRun(row, seed, config, out / run_id))
    return runs


def once(mark: Callable[[RunConfig], object], field: str) -> Callable[[RunConfig], object]:
    """The same mark, its files read once for each value of the one field that it follows; for the length of one plan, since files may change."""
    kept: dict = {}

    def marked(config: RunConfig):
        value = getattr(config, field)
        if value not in kept:
            kept[value] = mark(config)
        return kept[value]

    return marked


def notebook_path() -> Path:
    return ablations_folder() / "run_one.ipynb"


def notebook_code() -> str:
    """A hash of the code that every run executes: the notebook's cells without the parameters, which each run sets anew."""
    path = notebook_path()
    if not path.is_file():
        raise UserError(f"{path} must be the notebook that a run executes, got no such file; run from the project's folder")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return short_hash(["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code" and "parameters" not in cell["metadata"].get("tags", [])])


def data_hash(config: RunConfig) -> str:
    """What tells one data set from another without reading its images: the digit recipe's version, or a hash of a folder's JSON files."""
    if config.data == "digits":
        from ..datasets import RECIPE_VERSION

        return f"digits-v{RECIPE_VERSION}"
    folder = Path(config.data).expanduser()
    if not folder.is_dir():
        raise UserError(f"data must be 'digits' or a folder, got {config.data!r}, which is no folder; give --set data=FOLDER")
    return short_hash({path.relative_to(folder).as_posix(): short_hash(path.read_bytes()) for path in sorted([*folder.glob("*.json"), *folder.glob("annotations/*.json")])})


def teacher_file_hash(config: RunConfig) -> dict:
    """A hash of the teacher's file where one is given; a teacher that is shipped or trained follows from the settings."""
    path = Path(config.teacher_checkpoint).expanduser()
    return {"teacher": short_hash(path.read_bytes())} if config.teacher_checkpoint and path.is_file() else {}
