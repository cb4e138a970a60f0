"""Detectors on images, cached: image --> Sample --each detector--> Predictions --map_pair--> {level: MapPair}."""
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from time import perf_counter

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from fgdlab.config import FGDConfig
from fgdlab.fgd import FGDLoss, masks_of
from fgdlab.masks import cell_ranges
from fgdlab.scene import Scene, Tap, full_precision, level_names, scene_of

from ..errors import UserError
from ..plots import eval_mode, padded_image
from .loss_maps import MapPair, all_terms_config, map_pair
from .lru_cache import LRUCache
from .models import NamedDetector
from .state import State

BAR_DELAY = 1.5  # seconds
MAX_IMAGE_SIDE = 640  # pixels of an image's longer side in the browser; its panel has 300 to 600


@dataclass(frozen=True, eq=False)
class Sample(Scene):
    """One image as every detector sees it, on the students' device.

    detector: the one whose transform made the pixels. loaded_size: (height, width) before the detector's own resize.
    """

    image_id: int
    detector: nn.Module
    labels: np.ndarray
    loaded_size: tuple[int, int]

    @cached_property
    def rgb(self) -> np.ndarray:
        """(H_pad, W_pad, 3) uint8, padding white."""
        image = padded_image(self.detector, self).clamp_(0, 1).mul_(255).round_().byte()
        return image.permute(1, 2, 0).cpu().numpy()

    @cached_property
    def small(self) -> np.ndarray:
        return shrunk(self.rgb)

    @property
    def nbytes(self) -> int:
        return self.pixels.nbytes * 3 // 2  # with rgb and small


@dataclass(frozen=True, eq=False)
class Predictions:
    """One detector's maps {"P3": (C, H, W), ...} and all its detections, highest score first.

    boxes: (K, 4) in pixels of the sample. scale, spread: {level: root mean square, range} of the maps.
    """

    maps: dict[str, Tensor]
    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    scale: dict[str, float]
    spread: dict[str, float]

    @property
    def nbytes(self) -> int:
        return sum(each.nbytes for each in self.maps.values()) + self.boxes.nbytes

    def above(self, score: float) -> "Predictions":
        """The same with the detections of at least this score."""
        kept = {name: getattr(self, name)[self.scores >= score] for name in ("boxes", "labels", "scores")}
        return replace(self, **kept)

    def detections(self, dataset) -> list[dict]:
        """box, label, class and score of each detection, as JSON types."""
        classes = list(getattr(dataset, "classes", []))
        named = {} if classes == ["object"] else dict(enumerate(classes, 1))
        each = zip(self.boxes.tolist(), self.labels.tolist(), self.scores.tolist(), strict=True)
        return [{"box": box, "label": i, "class": named.get(i, str(i)), "score": score} for box, i, score in each]


@torch.no_grad()
def sample_of(detector: nn.Module, image: Tensor, target: dict) -> Sample:
    device = next(detector.parameters()).device
    with eval_mode(detector):
        scene = scene_of(*detector.transform([image.to(device)], [on_device(target, device)]), {})
    labels, image_id = target["labels"].cpu().numpy(), int(target.get("image_id", 0))
    loaded_size = tuple(image.shape[-2:])
    return Sample(**vars(scene), image_id=image_id, detector=detector, labels=labels, loaded_size=loaded_size)


def shrunk(rgb: np.ndarray) -> np.ndarray:
    """(H, W, 3) with at most MAX_IMAGE_SIDE pixels on the longer side."""
    factor = MAX_IMAGE_SIDE / max(rgb.shape)
    if factor >= 1:
        return rgb
    size, planes = [round(factor * side) or 1 for side in rgb.shape[:2]], torch.from_numpy(rgb).permute(2, 0, 1)[None]
    small = F.interpolate(planes, size, mode="bilinear", antialias=True)[0]
    return small.permute(1, 2, 0).contiguous().numpy()


@torch.no_grad()
def predictions_of(detector: nn.Module, image: Tensor, target: dict, sample: Sample) -> Predictions:
    """A detector's maps of the sample's pixels and its detections: one forward if its transform makes these pixels."""
    device = next(detector.parameters()).device
    with eval_mode(detector), Tap(detector) as tap:
        output = detector([image.to(device)], [on_device(target, device)])[0]
        maps, pixels = tap.scene.features, sample.pixels.to(device)
        if detector is not sample.detector and not torch.equal(tap.scene.pixels, pixels):
            maps = level_names(detector.backbone(pixels), sample.padded_size[0])
    resize = [new / old for new, old in zip(sample.image_sizes[0], sample.loaded_size, strict=True)]
    boxes, labels, scores = (output[name].float().cpu().numpy() for name in ("boxes", "labels", "scores"))
    order = np.argsort(-scores, kind="stable")
    maps = {level: each[0] for level, each in full_precision(maps).items()}
    return Predictions(
        maps, boxes[order] * np.array(resize[::-1] * 2), labels[order].astype(int), scores[order],
        scale={level: float(torch.linalg.vector_norm(each)) / each.numel() ** 0.5 for level, each in maps.items()},
        spread={level: float(torch.stack(each.aminmax()).diff()) for level, each in maps.items()},
    )


def on_device(target: dict, device) -> dict:
    return {name: value.to(device) for name, value in target.items() if name in ("boxes", "labels", "image_id")}


class DetectorInference:
    """Students and teacher on the images of a data set; results are cached.

    Args:
        students: the first one's transform makes the pixels for all detectors.
        losses: {student: FGDLoss} with trained f and R; other students get fresh layers of seed 0.
        progress: called with a line before anything slow, with "" after it.
    """

    def __init__(
        self, students: dict[str, NamedDetector], teacher: nn.Module, dataset, config: FGDConfig,
        losses: dict[str, FGDLoss], cache_mb: float, progress: Callable[[str], None],
    ):
        self.students, self.teacher, self.dataset, self.config = students, teacher, dataset, config
        self.losses, self.progress = losses, progress
        self.seconds = float("inf")  # of the last prediction
        self.item = lru_cache(maxsize=1)(dataset.__getitem__)  # read once for all detectors
        self.cache = LRUCache(int(cache_mb * 1e6), min_items=12 + 2 * len(students))
        self.checkpoint_gaps: dict[tuple, dict] = {}  # filled by view_data.py
        modules = {part for each in students.values() for part in each.module.modules()}
        self._thread = ThreadPoolExecutor(1) if modules.isdisjoint(teacher.modules()) else None
        self.student_loss = lru_cache(maxsize=None)(self._student_loss)
        self._student_channels: dict[str, int] = {}
        self.levels = self._shared_levels()
        self.channels = len(self.teacher_predictions(0).maps[self.levels[0]])

    def shown(self, state: State) -> dict[str, int]:
        """{student: checkpoint}: the state's of the chosen student, the last of the others."""
        last = {name: len(each.checkpoints) - 1 for name, each in self.students.items()}
        return {**last, state.student_name: state.checkpoint}

    def sample(self, image: int) -> Sample:
        first = next(iter(self.students.values())).module
        return self.cache.get(("sample", image), lambda: sample_of(first, *self.item(image)))

    def predict(self, image: int, checkpoints: dict[str, int]) -> None:
        """Run students and teacher at the same time, unless they share modules."""
        if self._thread and ("teacher", image) not in self.cache.entries:
            sample = self.sample(image)
            teacher = self._thread.submit(predictions_of, self.teacher, *self.item(image), sample)
            self._thread.submit(lambda: sample.small)
            for name, checkpoint in checkpoints.items():
                self.student_predictions(image, name, checkpoint)
            self.teacher_predictions(image, lambda *inputs: teacher.result())

    def teacher_predictions(self, image: int, run: Callable | None = None) -> Predictions:
        return self.cache.get(("teacher", image), lambda: self._predict(self.teacher, image, "teacher", run))

    def student_predictions(self, image: int, name: str, checkpoint: int) -> Predictions:
        student = self.students[name]
        label = f"{name} {student.checkpoints[checkpoint]}".strip()
        key = ("student", image, name, checkpoint)
        return self.cache.get(key, lambda: self._predict(student.detector(checkpoint), image, label))

    def pairs(self, image: int, name: str, checkpoint: int) -> dict[str, MapPair]:
        def compute() -> dict[str, MapPair]:
            student = self.student_predictions(image, name, checkpoint).maps
            teacher, loss = self.teacher_predictions(image).maps, self.student_loss(name)
            device = next(iter(student.values())).device
            return {level: map_pair(student[level], teacher[level].to(device), loss, level) for level in self.levels}

        key = ("pairs", image, name, checkpoint)
        return self.cache.get(key, compute, lambda pairs: sum(each.nbytes for each in pairs.values()))

    def masks(self, image: int, level: str, rounding: str) -> list[np.ndarray]:
        """fg, bg (H, W), and (H, W) bool: the cells in boxes, also where the loss does not split areas."""
        sample, teacher_map = self.sample(image), self.teacher_predictions(image).maps[level][None]
        config = replace(self.config, rounding=rounding)
        masks = masks_of(config, sample, teacher_map)
        split = masks if config.area == "split" else masks_of(replace(config, area="split"), sample, teacher_map)
        return [each[0].cpu().numpy() for each in (masks.fg, masks.bg, split.fg > 0)]

    def ranges(self, image: int, level: str, rounding: str) -> np.ndarray:
        """(K, 4) half-open col0, row0, col1, row1 of each box, not clipped to the grid."""
        sample = self.sample(image)
        grid = tuple(self.teacher_predictions(image).maps[level].shape[-2:])
        frame = sample.frame_sizes(self.config.frame)[0]
        return cell_ranges(sample.boxes[0], frame, grid, rounding=rounding).cpu().numpy()

    def _student_loss(self, name: str) -> FGDLoss:
        """A loss with the layers of every term; f and R are the given trained ones, or fresh."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            loss = FGDLoss(self.levels, self._student_channels[name], self.channels, all_terms_config(self.config))
        for part in ("align", "relation"):
            if trained := getattr(self.losses.get(name), part, None):
                setattr(loss, part, trained)
        return loss.to(next(self.students[name].module.parameters()).device).eval()

    def notes(self, name: str) -> list[str]:
        trained, loss, notes = self.losses.get(name), self.student_loss(name), []
        if loss.relation and not (trained and trained.relation) and self.config.relation in ("gc", "nonlocal"):
            notes.append("R of the global term is untrained (no loss was given): its context weights are random.")
        if loss.align and not (trained and trained.align):
            notes.append("f is untrained (no loss was given): channels differ, so the loss is that of a first step.")
        return notes

    def _predict(self, detector: nn.Module, image: int, label: str, run: Callable | None = None) -> Predictions:
        sample, started = self.sample(image), perf_counter()
        self.progress(f"{label}: computing image {image + 1} of {len(self.dataset)}")
        try:
            return (run or predictions_of)(detector, *self.item(image), sample)
        finally:
            self.progress("")
            self.seconds = max(perf_counter() - started, self.seconds if run else 0)

    def _shared_levels(self) -> tuple[str, ...]:
        """Those of every student, the teacher and the losses. Grids must agree on the first image."""
        teacher = self.teacher_predictions(0).maps
        levels = [level for level in teacher if all(level in loss.levels for loss in self.losses.values())]
        bar = tqdm(self.students.items(), "first image", unit="student", delay=BAR_DELAY, leave=False)
        for name, student in bar:
            maps = self.student_predictions(0, name, len(student.checkpoints) - 1).maps
            self._student_channels[name] = len(next(iter(maps.values())))
            levels = [level for level in levels if level in maps]
            for level in levels:
                if maps[level].shape[-2:] != teacher[level].shape[-2:]:
                    grids = " and ".join("{} x {}".format(*each[level].shape[-2:]) for each in (maps, teacher))
                    raise UserError(
                        f"student {name!r} and the teacher must have the same grid on {level}, got {grids} cells; "
                        "compare detectors of equal strides"
                    )
        if not levels:
            raise UserError(f"students must share a level with the teacher, got none of its {', '.join(teacher)}")
        return tuple(levels)
