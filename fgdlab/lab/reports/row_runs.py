"""One finished run per row of a sweep, loaded to compare the rows on the same images."""
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

MIN_OBJECTS = 2  # in an image that is shown, if there are such images


class LoadedRun(NamedTuple):
    """A row's finished run with the smallest seed, with its detections on the whole split."""

    label: str
    seed: int
    config: RunConfig
    student: nn.Module
    teacher: nn.Module | None
    detections: list[dict]


@dataclass(frozen=True)
class LoadedRows:
    """The rows that can be shown, the data set they were evaluated on, and {label: why} of the other rows."""

    rows: list[LoadedRun]
    dataset: DetectionDataset
    left_out: dict[str, str]

    @classmethod
    def of(cls, runs: SweepRuns) -> "LoadedRows":
        """Load one finished run of each row.

        Raises:
            UserError: there is none; the message says why.
        """
        rows, left_out, dataset = [], {}, None
        for key, row in runs.sweep.rows.items():
            finished = runs.finished(key)
            if not finished:
                left_out[row.label] = runs.sweep.absent.get(key) or "no folder of a finished run"
                continue
            seed, folder = next(iter(finished.items()))
            try:
                config, student, eval_set, teacher = load_row(folder)
                with checked_read(folder / "detections.json"):
                    found = list(json.loads((folder / "detections.json").read_text(encoding="utf-8")))
            except UserError as error:
                left_out[row.label] = str(error)
                continue
            dataset = dataset or eval_set
            if eval_set.content_hash() != dataset.content_hash():
                left_out[row.label] = "evaluated on other images than the first row"
                continue
            rows.append(LoadedRun(row.label, seed, config, student, teacher, found))
        if dataset is None:
            if any(map(runs.finished, runs.sweep.rows)):
                raise UserError("; ".join(f"{row}: {why}" for row, why in left_out.items()))
            raise UserError(missing_folders(runs))
        return cls(rows, dataset, left_out)

    def images(self, count: int) -> list[int]:
        """Indices of ``count`` images, spread over the split; images with several objects are preferred."""
        chosen: list[int] = []
        for start in (len(self.dataset) * i // count for i in range(min(count, len(self.dataset)))):
            order = [(start + step) % len(self.dataset) for step in range(len(self.dataset))]
            free = [index for index in order if index not in chosen]
            several = (index for index in free if len(self.dataset[index][1]["boxes"]) >= MIN_OBJECTS)
            chosen.append(next(several, free[0]))
        return chosen

    def teacher(self) -> nn.Module | None:
        return next((row.teacher for row in self.rows if row.teacher is not None), None)

    def teacher_detections(self, index: int) -> list[dict]:
        """The teacher's detections in one image."""
        return detections(self.teacher(), OneImage(self.dataset, index))


class OneImage:
    """A data set of one image of another."""

    def __init__(self, dataset: DetectionDataset, index: int):
        self.item, self.category_ids = dataset.as_bytes(index), dataset.category_ids

    def __len__(self) -> int:
        return 1

    def as_bytes(self, index: int, epoch: int | None = None):
        return self.item


def missing_folders(runs: SweepRuns) -> str:
    return (
        f"these figures need the runs' own folders, and there is none of a finished run beside {runs.path.name}; "
        f"run `fgdlab sweep {runs.sweep.name}`, or name the folder by --runs"
    )


def load_row(folder: Path) -> tuple[RunConfig, nn.Module, DetectionDataset, nn.Module | None]:
    """Settings, student, evaluation set and teacher of a finished run. A missing teacher is an error."""
    result = RunFolder(folder).result()
    for name in ("student.safetensors", "detections.json"):
        if not (folder / name).is_file():
            raise UserError(f"{folder.name} must hold {name} to be shown, got none; run it again")
    config = RunConfig.of(result["settings"])
    if result["teacher"] and not teacher_is_here(config):
        weights = result["teacher"]["weights"]
        raise UserError(
            f"the teacher's weights ({weights}) must be on this machine; copy them to the cache, or run the sweep here"
        )
    config, _, student, eval_set, teacher = load_run(folder)
    return config, student, eval_set, teacher.detector if teacher else None


def teacher_is_here(config: RunConfig) -> bool:
    if config.teacher_checkpoint:
        return Path(config.teacher_checkpoint).expanduser().is_file()
    return trained_path(config).is_file()
