"""A student, with or without a teacher, as one trainable module.

    images, targets --student--> its own losses --+
          |  Tap                                  +--> list[Term]
          +-> Scene, teacher's maps --loss--------+
"""
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .balance import Balance
from .pyramid import PyramidLoss
from .scene import Tap, full_precision, level_names
from .terms import Term

TeacherMaps = dict[str, Tensor]                                      # {"P3": (N, C, H, W), ...}


class Distiller(nn.Module):
    """forward(images, targets) -> every loss term of the step: the detector's own, then the distillation's.

    The teacher is a guest, not a child: it moves with ``.to()`` but is absent from ``parameters()`` and ``state_dict()``. So an optimiser
    over ``parameters()`` holds the student and the loss's own layers and nothing else, and a checkpoint never holds a teacher.

    Args:
        student: a detector (see scene.py).
        teacher: another one with the same pyramid levels, frozen here, in eval mode for good.
        loss: ``loss(scene, teacher_maps) -> list[Term]``; None trains a plain student. A PyramidLoss gets maps in the networks' precision, for it
            decides how to sum them; any other gets float32.
        recall: ``recall(image_ids) -> teacher_maps``, a cache that stands in for the teacher's forward; needs "image_id" in targets.
        balance: changes the weights of the loss's terms (see balance.py); None leaves them.
    Raises:
        ValueError: a loss without teacher or cache, or the other way round.
    """

    def __init__(
        self, student: nn.Module, teacher: nn.Module | None = None, loss: nn.Module | None = None, recall: Callable[[list[int]], TeacherMaps] | None = None,
        balance: Balance | None = None,
    ):
        super().__init__()
        if (loss is None) != (teacher is None and recall is None):
            raise ValueError("a distiller must have a loss and a teacher (or a cache of one), or neither; got one without the other")
        self.student, self.loss, self.balance = student, loss, balance
        self._guest = (None if teacher is None else teacher.eval().requires_grad_(False),)     # a tuple hides it from nn.Module
        self._recall = recall

    @property
    def teacher(self) -> nn.Module | None:
        return self._guest[0]

    def _apply(self, fn, recurse: bool = True):
        if self.teacher is not None:
            self.teacher._apply(fn)                                  # .to(), .cuda(), .double() reach the guest too
        return super()._apply(fn, recurse)

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> list[Term]:
        if not self.training:
            raise RuntimeError("a distiller must be in train mode to give losses; call .train(), or call .student(images) for detections")
        with Tap(self.student) as tap:
            own = [Term(name, "all", value) for name, value in self.student(images, targets).items()]
        if self.loss is None:
            return own
        scene = tap.scene
        maps = self.teacher_maps(scene.pixels, targets)
        if isinstance(self.loss, PyramidLoss):                       # which leaves autocast by itself
            terms = self.loss(scene, maps)
        else:
            with torch.autocast(scene.pixels.device.type, enabled=False):      # a plain sum of squares overflows in float16
                terms = self.loss(scene.float(), full_precision(maps))
        return own + (self.balance(own, terms) if self.balance else terms)

    def teacher_maps(self, pixels: Tensor, targets: list[dict[str, Tensor]]) -> TeacherMaps:
        """The teacher's FPN maps of the student's own pixels: one resize and one flip for both networks.

        Under no_grad, for backward refuses tensors of inference_mode, and with the copy that it would take a teacher is no faster (benchmarks/gpu_step.py times both).
        """
        if self._recall is not None:
            if not all("image_id" in t for t in targets):
                raise ValueError('targets must have "image_id", by which the cache knows its images; got targets without it')
            return self._recall([int(t["image_id"]) for t in targets])
        with torch.no_grad():
            return level_names(self.teacher.backbone(pixels), pixels.shape[-2])
