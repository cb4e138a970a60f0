"""One finished run of each row, opened again so that rows can be looked at side by side on the same images."""
import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import nn

from ..config import RunConfig
from ..datasets import DetectionDataset
from ..errors import UserError
from ..io import checked_read
from ..run import RunFolder, load_run
from ..teachers import trained_path
from ..training import detections
from .sweep_runs import SweepRuns

OBJECTS = 2                                                          # an image to show has at least so many, if any has


class LoadedRun(NamedTuple):
    """A row's run with the smallest seed: its label and settings, student, teacher or None, its detections of the whole split."""

    label: str
    seed: int
    config: RunConfig
    student: nn.Module
    teacher: nn.Module | None
    found: list[dict]


@dataclass(frozen=True)
class LoadedRows:
    """The rows whose runs are here, the images they were all judged on, and {label: why} of the rows that cannot be shown."""

    rows: list[LoadedRun]
    scenes: DetectionDataset
    left_out: dict[str, str]

    @classmethod
    def of(cls, runs: SweepRuns) -> "LoadedRows":
        """Open one run of every row, if it is here.

        Raises:
            UserError: none is; the message says why.
        """
        rows, left_out, scenes = [], {}, None
        for key, row in runs.sweep.rows.items():
            finished = runs.finished(key)
            if not finished:
                left_out[row.label] = runs.sweep.absent.get(key) or "no folder of a finished run is here"
                continue
            seed, folder = next(iter(finished.items()))
            try:
                config, student, judged, teacher = open_run(folder)
                with checked_read(folder / "detections.json"):
                    found = list(json.loads((folder / "detections.json").read_text(encoding="utf-8")))
            except UserError as error:
                left_out[row.label] = str(error)
                continue
            if scenes is None:
                scenes = judged
            elif judged.content_hash() != scenes.content_hash():
                left_out[row.label] = "it was judged on other images than the first row"
                continue
            rows.append(LoadedRun(row.label, seed, config, student, teacher, found))
        if scenes is None:
            raise UserError(missing_folders(runs) if not any(runs.finished(key) for key in runs.sweep.rows) else "; ".join(f"{row}: {why}" for row, why in left_out.items()))
        return cls(rows, scenes, left_out)

    def images(self, count: int) -> list[int]:
        """Places of ``count`` images, spread over the split; each the next one from there that has several objects, if there is one."""
        chosen: list[int] = []
        for start in (len(self.scenes) * i // count for i in range(min(count, len(self.scenes)))):
            order = [(start + step) % len(self.scenes) for step in range(len(self.scenes))]
            free = [place for place in order if place not in chosen]
            chosen.append(next((place for place in free if len(self.scenes[place][1]["boxes"]) >= OBJECTS), free[0]))
        return chosen

    def teacher(self) -> nn.Module | None:
        return next((row.teacher for row in self.rows if row.teacher is not None), None)

    def teacher_found(self, index: int) -> list[dict]:
        """What the rows' teacher finds in one image; [] where no row has a teacher."""
        return detections(self.teacher(), OneImage(self.scenes, index)) if self.teacher() is not None else []


class OneImage:
    """A data set of one image of another."""

    def __init__(self, scenes: DetectionDataset, index: int):
        self.item, self.category_ids = scenes.as_bytes(index), scenes.category_ids

    def __len__(self) -> int:
        return 1

    def as_bytes(self, index: int, epoch: int | None = None):
        return self.item


def missing_folders(runs: SweepRuns) -> str:
    """Why there is nothing to open."""
    return (
        f"pictures of the rows must come from the runs' own folders, and beside {runs.path.name} there is none of a finished run; "
        f"run `fgdlab sweep {runs.sweep.name}`, or name their folder by --runs"
    )


def open_run(folder: Path) -> tuple[RunConfig, nn.Module, DetectionDataset, nn.Module | None]:
    """Settings, student, judged scenes and teacher of a finished run; a teacher that is not here is an error, not trained anew for a picture."""
    result = RunFolder(folder).result()
    for name in ("student.safetensors", "detections.json"):
        if not (folder / name).is_file():
            raise UserError(f"{folder.name} must hold {name} to be shown, got none; run it again")
    config = RunConfig.of(result["settings"])
    if result["teacher"] and not teacher_is_here(config):
        raise UserError(f"the teacher's weights ({result['teacher']['weights']}) must be on this machine, and they are not; copy them to the cache, or run the sweep here")
    config, _, student, judged, teacher = load_run(folder)
    return config, student, judged, teacher.detector if teacher else None


def teacher_is_here(config: RunConfig) -> bool:
    if config.teacher_checkpoint:
        return Path(config.teacher_checkpoint).expanduser().is_file()
    return trained_path(config).is_file()
