"""What a sweep has to run: every row with every seed.

The id hashes settings and the contents of data, of a given teacher's file and of a custom loss. Code and the shipped or
trained teacher are recorded in the run's folder instead: a run of other code is stale, and one can say what changed.
"""
from dataclasses import dataclass
from pathlib import Path

from ..config import RunConfig, active_settings, has_teacher
from ..errors import UserError
from ..io import short_hash
from ..run import OF_DATA, RunFolder, identity, open_data
from .spec import Sweep, ablations_folder, of_scale


@dataclass(frozen=True)
class PlannedRun:
    row: str
    seed: int
    config: RunConfig
    folder: Path

    def __str__(self) -> str:
        return f"{self.row}, seed {self.seed}"

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def here(self) -> RunFolder:
        return RunFolder(self.folder)

    def state(self) -> str:
        """As :meth:`RunFolder.state`; a finished run whose teacher has other weights by now is stale, too."""
        state = self.here.state()
        return "stale" if state == "done" and self.teacher_changed() else state

    def done_elsewhere(self) -> Path | None:
        """The finished folder of the same run, of present code, in another sweep's folder beside this one."""
        others = sorted(self.folder.parent.parent.glob(f"[!.]*/{self.id}"))
        return next((each for each in others if each != self.folder and RunFolder(each).is_whole()), None)

    def stale_reasons(self) -> list[str]:
        return self.here.stale_files() or ["the teacher's weights"]

    def teacher_changed(self) -> bool:
        """Does the shipped or cached teacher of these settings have other weights than the run learned from?"""
        if not has_teacher(self.config) or self.config.teacher_checkpoint:
            return False
        from ..teachers import kept_teacher_hash

        now = kept_teacher_hash(self.config)
        return now is not None and now != (self.here.result().get("teacher") or {}).get("weights", now)


def runs_folder(sweep: Sweep, scale: str) -> Path:
    return Path("runs") / of_scale(sweep.name, scale)


def plan(
    sweep: Sweep, out: Path | None = None, *, scale: str = "laptop", overrides: dict | None = None,
) -> list[PlannedRun]:
    """Every row with every seed, seed by seed, so that a table with fewer seeds is complete first."""
    if not notebook_path().is_file():
        raise UserError(
            f"{notebook_path()} must be the notebook that a run executes, got no such file; run from the project's "
            "folder")
    out = Path(out or runs_folder(sweep, scale)).absolute()
    opened, runs = {}, []
    for seed in sweep.seeds:
        for row in sweep.present:
            config = active_settings(sweep.settings(row, seed, scale, overrides))
            of_data = tuple(getattr(config, name) for name in OF_DATA)
            if config.data != "digits" and of_data not in opened:
                opened[of_data] = open_data(config)
            run_id = short_hash(identity(config, opened.get(of_data)), 16)
            runs.append(PlannedRun(row, seed, config, out / run_id))
    return runs


def notebook_path() -> Path:
    return ablations_folder() / "run_one.ipynb"
