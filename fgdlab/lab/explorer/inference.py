"""Networks looking at images: each once, then remembered within a bound.

    image --reference student's transform--> Place (pixels, boxes)
    Place --each network, under Tap--> Sight (maps, detections) --gaze.compare--> {level: Pair}
"""
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from fgdlab.config import FGDConfig
from fgdlab.fgd import FGDLoss, masks_of
from fgdlab.masks import cell_ranges
from fgdlab.scene import Scene, Tap, full_precision, level_names

from ..errors import UserError
from ..plots import padded_image
from .loss_maps import Pair, compare, open_config
from .lru_cache import LRUCache
from .models import NamedDetector


@dataclass(frozen=True, eq=False)
class Sample:
    """One image as every network sees it.

    pixels (1, 3, H_pad, W_pad), on the students' device; photo (H_pad, W_pad, 3) uint8, padding white; boxes (K, 4) and labels (K,) in pixels of both.
    image_size: (height, width) before padding. loaded_size: the same before the detector's own resize.
    """

    image_id: int
    pixels: Tensor
    photo: np.ndarray
    boxes: Tensor
    labels: np.ndarray
    image_size: tuple[int, int]
    loaded_size: tuple[int, int]

    @property
    def padded_size(self) -> tuple[int, int]:
        return tuple(self.pixels.shape[-2:])

    @property
    def nbytes(self) -> int:
        return self.pixels.nbytes + self.photo.nbytes

    def scene(self) -> Scene:
        """For masks: boxes and sizes; no maps."""
        return Scene(self.pixels, [self.boxes], [self.image_size], {})


@dataclass(frozen=True, eq=False)
class Predictions:
    """What one network made of a place: maps {"P3": (C, H, W), ...}; boxes (K, 4) in pixels of the place, labels (K,), scores (K,).

    scale, spread: {level: root mean square, standard deviation} of its maps.
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


@contextlib.contextmanager
def in_eval_mode(detector: nn.Module) -> Iterator[None]:
    """Every module's mode is as before afterwards."""
    modes = [(each, each.training) for each in detector.modules()]
    try:
        detector.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training


@torch.no_grad()
def sample_of(detector: nn.Module, image: Tensor, target: dict) -> Sample:
    """The image through a detector's transform."""
    device = next(detector.parameters()).device
    with in_eval_mode(detector):
        batch, targets = detector.transform([image.to(device)], [on_device(target, device)])
    scene = Scene(batch.tensors, [targets[0]["boxes"]], batch.image_sizes, {})
    photo = (padded_image(detector, scene).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    labels = target.get("labels", torch.ones(len(target["boxes"]), dtype=torch.int64)).cpu().numpy()
    image_id = int(target["image_id"]) if "image_id" in target else 0
    return Sample(image_id, scene.pixels, photo, scene.boxes[0], labels, tuple(batch.image_sizes[0]), tuple(image.shape[-2:]))


@torch.no_grad()
def predictions_of(detector: nn.Module, image: Tensor, target: dict, place: Sample) -> Predictions:
    """A detector's maps of the place's very pixels, and what it detects by its own forward.

    Where its own transform makes the same pixels, one forward gives both.
    """
    device = next(detector.parameters()).device
    with in_eval_mode(detector), Tap(detector) as tap:
        found = detector([image.to(device)], [on_device(target, device)])[0]
        own = tap.scene
        if own.pixels.shape == place.pixels.shape and torch.equal(own.pixels, place.pixels.to(device)):
            maps = own.features
        else:
            maps = level_names(detector.backbone(place.pixels.to(device)), place.padded_size[0])
    scale = np.array([place.image_size[1] / place.loaded_size[1], place.image_size[0] / place.loaded_size[0]] * 2)
    boxes, labels, scores = (found[name].detach().float().cpu().numpy() for name in ("boxes", "labels", "scores"))
    maps = {level: each[0].detach() for level, each in full_precision(maps).items()}
    return Predictions(
        maps, boxes * scale, labels.astype(int), scores, scale={level: float(each.double().square().mean().sqrt()) for level, each in maps.items()},
        spread={level: float(each.double().std()) for level, each in maps.items()},
    )


def on_device(target: dict, device) -> dict:
    return {name: value.to(device) for name, value in target.items() if name in ("boxes", "labels", "image_id")}


class Curves(dict):
    """Gaps of checkpoints that were looked at, a few numbers each; forgotten all together before they are too many."""

    def __setitem__(self, key, value) -> None:
        if len(self) >= 4096:
            self.clear()
        super().__setitem__(key, value)


class DetectorInference:
    """Students, teacher and images together; whatever is asked for is computed once and kept within the bound.

    Args:
        students: {name: Contestant}. The first one's transform makes the pixels that all networks see.
        teacher: a detector.
        scenes: item i = (image, target), see photos.py.
        config: switches of the loss whose terms are shown.
        losses: {name of student: FGDLoss} whose trained f and R are used; a student without one gets fresh layers of seed 0.
        cache_mb, cache_items: bound of everything kept.
        progress: called with a line before anything slow, with "" after it.
    """

    def __init__(
        self, students: dict[str, NamedDetector], teacher: nn.Module, scenes, config: FGDConfig, losses: dict[str, FGDLoss], *,
        cache_mb: float = 512, cache_items: int = 64, progress: Callable[[str], None] = lambda line: None,
    ):
        self.students, self.teacher, self.scenes, self.config, self.losses, self.progress = students, teacher, scenes, config, losses, progress
        self.kept = LRUCache(int(cache_mb * 1e6), cache_items, keep=12 + 2 * len(students))
        self.curves = Curves()
        self._probes: dict[str, FGDLoss] = {}
        self.levels = self._shared_levels()

    def place(self, image: int) -> Sample:
        reference = next(iter(self.students.values())).module
        return self._kept(("place", image), lambda: sample_of(reference, *self.scenes[image]))

    def teacher_sight(self, image: int) -> Predictions:
        return self._kept(("teacher", image), lambda: self._look(self.teacher, image, "teacher"))

    def student_sight(self, image: int, name: str, stage: int) -> Predictions:
        who = self.students[name]
        label = " ".join(filter(None, (name, who.stages[stage])))
        return self._kept(("student", image, name, stage), lambda: self._look(who.detector(stage), image, label))

    def pairs(self, image: int, name: str, stage: int) -> dict[str, Pair]:
        """{level: Pair} of one student at one stage."""
        def make() -> dict[str, Pair]:
            student, teacher = self.student_sight(image, name, stage).maps, self.teacher_sight(image).maps
            loss = self.probe(name, student, teacher)
            device = next(iter(student.values())).device
            return {level: compare(student[level], teacher[level].to(device), loss, level) for level in self.levels}

        return self._kept(("pairs", image, name, stage), make, lambda pairs: sum(each.nbytes for each in pairs.values()))

    def masks(self, image: int, level: str, rounding: str) -> tuple[np.ndarray, np.ndarray]:
        """fg, bg (H, W) of one level."""
        def make():
            masks = masks_of(replace(self.config, rounding=rounding), self.place(image).scene(), self.teacher_sight(image).maps[level][None])
            return masks.fg[0].cpu().numpy(), masks.bg[0].cpu().numpy()

        return self._kept(("masks", image, level, rounding), make, lambda masks: 2 * masks[0].nbytes)

    def ranges(self, image: int, level: str, rounding: str) -> np.ndarray:
        """(K, 4) half-open col0, row0, col1, row1: the cells of each box, not clipped to the grid."""
        place = self.place(image)
        frame = place.scene().frame_sizes(self.config.frame)[0]
        return cell_ranges(place.boxes, frame, tuple(self.teacher_sight(image).maps[level].shape[-2:]), rounding=rounding).cpu().numpy()

    def probe(self, name: str, student: dict[str, Tensor], teacher: dict[str, Tensor]) -> FGDLoss:
        """The layers f and R between a student and the teacher: the trained ones where they were given, the rest fresh."""
        if name not in self._probes:
            channels = [next(iter(maps.values())).shape[0] for maps in (student, teacher)]
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                probe = FGDLoss(self.levels, *channels, open_config(self.config))
            given = self.losses.get(name)
            for part in ("align", "relation") if given is not None else ():
                if getattr(given, part):
                    setattr(probe, part, getattr(given, part))
            self._probes[name] = probe.to(next(iter(student.values())).device).eval()
        return self._probes[name]

    def notes(self, name: str) -> list[str]:
        """What a reader must know about the layers behind the numbers of this student."""
        given, probe, notes = self.losses.get(name), self._probes.get(name), []
        if probe is not None and probe.relation and not (given is not None and given.relation) and self.config.relation in ("gc", "nonlocal"):
            notes.append("R of the global term is untrained (no loss was given): it starts as the identity, and its context weights come from random keys.")
        if probe is not None and probe.align and not (given is not None and given.align):
            notes.append("f is untrained (no loss was given): channels differ, so the sums of the loss are those of a first step.")
        return notes

    def _look(self, detector: nn.Module, image: int, who: str) -> Predictions:
        place = self.place(image)
        self.progress(f"{who} looks at image {image + 1} of {len(self.scenes)}")
        try:
            return predictions_of(detector, *self.scenes[image], place)
        finally:
            self.progress("")

    def _kept(self, key, make, size=lambda value: value.nbytes):
        return self.kept.get(key, make, size)

    def _shared_levels(self) -> tuple[str, ...]:
        """Levels of every student and the teacher, within those of the losses; grids are checked on the first image."""
        teacher = self.teacher_sight(0).maps
        levels = [level for level in teacher if all(level in loss.levels for loss in self.losses.values())]
        for name, who in self.students.items():
            maps = self.student_sight(0, name, len(who.stages) - 1).maps
            levels = [level for level in levels if level in maps]
            for level in levels:
                if maps[level].shape[-2:] != teacher[level].shape[-2:]:
                    grids = " and ".join(f"{each[level].shape[-2]} x {each[level].shape[-1]}" for each in (maps, teacher))
                    raise UserError(f"student {name!r} and the teacher must have the same grid on {level}, got {grids} cells; compare detectors of equal strides")
        if not levels:
            raise UserError(f"students and teacher must share a pyramid level, got none in common with the teacher's {', '.join(teacher)}; compare other detectors")
        return tuple(levels)
