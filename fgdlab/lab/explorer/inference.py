"""Detectors on images, cached within a bound.

    image --first student's transform--> Sample (pixels, boxes)
    Sample --each detector, under Tap--> Predictions (maps, detections) --map_pair--> {level: MapPair}
"""
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from fgdlab.config import FGDConfig
from fgdlab.fgd import FGDLoss, masks_of
from fgdlab.masks import cell_ranges
from fgdlab.scene import Scene, Tap, full_precision, level_names

from ..errors import UserError
from ..plots import eval_mode, padded_image
from .loss_maps import MapPair, all_terms_config, map_pair
from .lru_cache import LRUCache
from .models import NamedDetector
from .state import State


@dataclass(frozen=True, eq=False)
class Sample(Scene):
    """One image as every detector sees it: a scene without maps, on the students' device.

    rgb: (H_pad, W_pad, 3) uint8, padding white. labels: (K,).
    loaded_size: (height, width) before the detector's own resize.
    """

    image_id: int
    rgb: np.ndarray
    labels: np.ndarray
    loaded_size: tuple[int, int]

    @property
    def nbytes(self) -> int:
        return self.pixels.nbytes + self.rgb.nbytes


@dataclass(frozen=True, eq=False)
class Predictions:
    """One detector's maps {"P3": (C, H, W), ...} and detections, highest score first.

    boxes: (K, 4) in pixels of the sample. labels, scores: (K,); all detections that the detector returns.
    scale, spread: {level: root mean square, standard deviation} of the maps.
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
        keep = self.scores >= score
        return replace(self, boxes=self.boxes[keep], labels=self.labels[keep], scores=self.scores[keep])


@torch.no_grad()
def sample_of(detector: nn.Module, image: Tensor, target: dict) -> Sample:
    """The image through a detector's transform."""
    device = next(detector.parameters()).device
    with eval_mode(detector):
        batch, targets = detector.transform([image.to(device)], [on_device(target, device)])
    scene = Scene(batch.tensors, [targets[0]["boxes"]], batch.image_sizes, {})
    rgb = (padded_image(detector, scene).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    labels, image_id = target["labels"].cpu().numpy(), int(target.get("image_id", 0))
    return Sample(**vars(scene), image_id=image_id, rgb=rgb, labels=labels, loaded_size=tuple(image.shape[-2:]))


@torch.no_grad()
def predictions_of(detector: nn.Module, image: Tensor, target: dict, sample: Sample) -> Predictions:
    """A detector's maps of the sample's pixels, and its detections by its own forward.

    One forward gives both if the detector's transform makes the same pixels.
    """
    device = next(detector.parameters()).device
    with eval_mode(detector), Tap(detector) as tap:
        output = detector([image.to(device)], [on_device(target, device)])[0]
        scene = tap.scene
        if scene.pixels.shape == sample.pixels.shape and torch.equal(scene.pixels, sample.pixels.to(device)):
            maps = scene.features
        else:
            maps = level_names(detector.backbone(sample.pixels.to(device)), sample.padded_size[0])
    resize = [new / old for new, old in zip(sample.image_sizes[0], sample.loaded_size, strict=True)]
    boxes, labels, scores = (output[name].float().cpu().numpy() for name in ("boxes", "labels", "scores"))
    order = np.argsort(-scores, kind="stable")
    maps = {level: each[0] for level, each in full_precision(maps).items()}
    return Predictions(
        maps, boxes[order] * np.array(resize[::-1] * 2), labels[order].astype(int), scores[order],
        scale={level: float(each.double().square().mean().sqrt()) for level, each in maps.items()},
        spread={level: float(each.double().std()) for level, each in maps.items()},
    )


def on_device(target: dict, device) -> dict:
    return {name: value.to(device) for name, value in target.items() if name in ("boxes", "labels", "image_id")}


class DetectorInference:
    """Students and teacher on the images of a data set; results are cached.

    Args:
        students: {name: NamedDetector}. The first one's transform makes the pixels for all detectors.
        teacher: a detector.
        dataset: item i = (image, target), see image_folder.py.
        config: switches of the loss whose terms are shown.
        losses: {name of student: FGDLoss} with trained f and R; other students get fresh layers of seed 0.
        cache_mb: bound of the cache.
        progress: called with a line before anything slow, with "" after it.
    """

    def __init__(
        self, students: dict[str, NamedDetector], teacher: nn.Module, dataset, config: FGDConfig,
        losses: dict[str, FGDLoss], cache_mb: float, progress: Callable[[str], None],
    ):
        self.students, self.teacher, self.dataset, self.config = students, teacher, dataset, config
        self.losses, self.progress = losses, progress
        self.cache = LRUCache(int(cache_mb * 1e6), min_items=12 + 2 * len(students))
        self.checkpoint_gaps: dict[tuple, dict] = {}  # filled by view_data.py
        self._student_losses: dict[str, FGDLoss] = {}
        self.levels = self._shared_levels()
        self.channels = len(self.teacher_predictions(0).maps[self.levels[0]])

    def shown(self, state: State) -> dict[str, int]:
        """{student: checkpoint} of a view: the state's of the chosen student, the last of the others."""
        last = {name: len(each.checkpoints) - 1 for name, each in self.students.items()}
        return {**last, state.student_name: state.checkpoint}

    def sample(self, image: int) -> Sample:
        first = next(iter(self.students.values())).module
        return self.cache.get(("sample", image), lambda: sample_of(first, *self.dataset[image]))

    def teacher_predictions(self, image: int) -> Predictions:
        return self.cache.get(("teacher", image), lambda: self._predict(self.teacher, image, "teacher"))

    def student_predictions(self, image: int, name: str, checkpoint: int) -> Predictions:
        student = self.students[name]
        label = f"{name} {student.checkpoints[checkpoint]}".strip()
        key = ("student", image, name, checkpoint)
        return self.cache.get(key, lambda: self._predict(student.detector(checkpoint), image, label))

    def pairs(self, image: int, name: str, checkpoint: int) -> dict[str, MapPair]:
        """{level: MapPair} of one student and the teacher."""
        def compute() -> dict[str, MapPair]:
            student = self.student_predictions(image, name, checkpoint).maps
            teacher = self.teacher_predictions(image).maps
            loss, device = self.student_loss(name, student, teacher), next(iter(student.values())).device
            return {level: map_pair(student[level], teacher[level].to(device), loss, level) for level in self.levels}

        def size(pairs: dict[str, MapPair]) -> int:
            return sum(each.nbytes for each in pairs.values())

        return self.cache.get(("pairs", image, name, checkpoint), compute, size)

    def masks(self, image: int, level: str, rounding: str) -> list[np.ndarray]:
        """fg, bg (H, W) of one level, and (H, W) bool: the cells in boxes, also where the loss does not split areas."""
        def compute() -> list[np.ndarray]:
            teacher_map = self.teacher_predictions(image).maps[level][None]
            config = replace(self.config, rounding=rounding)
            masks, split = (
                masks_of(each, self.sample(image), teacher_map) for each in (config, replace(config, area="split"))
            )
            return [each[0].cpu().numpy() for each in (masks.fg, masks.bg, split.fg > 0)]

        return self.cache.get(("masks", image, level, rounding), compute, lambda masks: 3 * masks[0].nbytes)

    def ranges(self, image: int, level: str, rounding: str) -> np.ndarray:
        """(K, 4) half-open col0, row0, col1, row1: the cells of each box, not clipped to the grid."""
        sample = self.sample(image)
        grid = tuple(self.teacher_predictions(image).maps[level].shape[-2:])
        frame = sample.frame_sizes(self.config.frame)[0]
        return cell_ranges(sample.boxes[0], frame, grid, rounding=rounding).cpu().numpy()

    def student_loss(self, name: str, student: dict[str, Tensor], teacher: dict[str, Tensor]) -> FGDLoss:
        """A student's loss with the layers of every term; f and R are the given trained ones, or fresh."""
        if name not in self._student_losses:
            channels = [next(iter(maps.values())).shape[0] for maps in (student, teacher)]
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                loss = FGDLoss(self.levels, *channels, all_terms_config(self.config))
            trained = self.losses.get(name)
            for part in ("align", "relation") if trained is not None else ():
                if getattr(trained, part):
                    setattr(loss, part, getattr(trained, part))
            self._student_losses[name] = loss.to(next(iter(student.values())).device).eval()
        return self._student_losses[name]

    def notes(self, name: str) -> list[str]:
        """Warnings about untrained layers behind the numbers of a student."""
        trained, loss, notes = self.losses.get(name), self._student_losses[name], []
        if loss.relation and not (trained and trained.relation) and self.config.relation in ("gc", "nonlocal"):
            notes.append("R of the global term is untrained (no loss was given): its context weights are random.")
        if loss.align and not (trained and trained.align):
            notes.append("f is untrained (no loss was given): channels differ, so the loss is that of a first step.")
        return notes

    def _predict(self, detector: nn.Module, image: int, label: str) -> Predictions:
        sample = self.sample(image)
        self.progress(f"{label}: computing image {image + 1} of {len(self.dataset)}")
        try:
            return predictions_of(detector, *self.dataset[image], sample)
        finally:
            self.progress("")

    def _shared_levels(self) -> tuple[str, ...]:
        """Levels of every student, the teacher and the losses. Grids must agree on the first image."""
        teacher = self.teacher_predictions(0).maps
        levels = [level for level in teacher if all(level in loss.levels for loss in self.losses.values())]
        for name, student in self.students.items():
            maps = self.student_predictions(0, name, len(student.checkpoints) - 1).maps
            levels = [level for level in levels if level in maps]
            for level in levels:
                if maps[level].shape[-2:] != teacher[level].shape[-2:]:
                    grids = " and ".join("{} x {}".format(*each[level].shape[-2:]) for each in (maps, teacher))
                    problem = f"student {name!r} and the teacher must have the same grid on {level}, got {grids} cells"
                    raise UserError(f"{problem}; compare detectors of equal strides")
        if not levels:
            raise UserError(f"students must share a level with the teacher, got none of its {', '.join(teacher)}")
        return tuple(levels)
