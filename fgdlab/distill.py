"""A student, with or without a teacher, as one trainable module.

    images, targets --student--> its task losses -----+
          |  Tap                                      +--> list[Term]
          +-> Scene, teacher's maps --loss--> terms --+
"""
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .balance import Balance
from .pyramid import PyramidLoss
from .scene import Tap, full_precision, level_names
from .terms import Term

TeacherMaps = dict[str, Tensor]  # {"P3": (N, C, H, W), ...}


class Distiller(nn.Module):
    """forward(images, targets) -> all loss terms of the step: the detector's task losses, then the distillation's.

    The teacher is not a submodule: it moves with ``.to()`` but is not in ``parameters()`` or ``state_dict()``. So an
    optimiser holds only the student and the loss's layers, and a checkpoint holds no teacher.

    Args:
        student: a detector (see scene.py).
        teacher: a detector with the same pyramid levels. It is frozen here and stays in eval mode.
        loss: ``loss(scene, teacher_maps) -> list[Term]``; None trains the student alone. A PyramidLoss gets maps in the
            networks' precision, because it casts them as it needs; any other loss gets float32.
        recall: ``recall(keys) -> teacher_maps``, a cache of the teacher's maps. A key is the target's "image_id", which
            must be there, or (image_id, view) if the target has a "view".
        balance: changes the weights of the loss's terms (see balance.py); None keeps them.
    Raises:
        ValueError: a loss without teacher or cache, or the other way round.
    """

    def __init__(
        self, student: nn.Module, teacher: nn.Module | None = None, loss: nn.Module | None = None,
        recall: Callable[[list], TeacherMaps] | None = None, balance: Balance | None = None,
    ):
        super().__init__()
        if (loss is None) != (teacher is None and recall is None):
            raise ValueError(
                "a distiller must have a loss and a teacher (or a cache of one), or neither; got one without the other")
        self.student, self.loss, self.balance = student, loss, balance
        teacher = None if teacher is None else teacher.eval().requires_grad_(False)
        self._teacher = (teacher,)  # a tuple hides it from nn.Module
        self._recall = recall

    @property
    def teacher(self) -> nn.Module | None:
        return self._teacher[0]

    def _apply(self, fn, recurse: bool = True):
        if self.teacher is not None:
            self.teacher._apply(fn)  # .to(), .cuda() and .double() move the teacher, too
        return super()._apply(fn, recurse)

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> list[Term]:
        if not self.training:
            raise RuntimeError(
                "a distiller must be in train mode to give losses; call .train(), or .student(images) for detections")
        with Tap(self.student) as tap:
            task_terms = [Term(name, "all", value) for name, value in self.student(images, targets).items()]
        if self.loss is None:
            return task_terms
        scene = tap.scene
        maps = self.teacher_maps(scene.pixels, targets)
        if isinstance(self.loss, PyramidLoss):  # it disables autocast itself
            terms = self.loss(scene, maps)
        else:
            with torch.autocast(scene.pixels.device.type, enabled=False):  # a sum of squares overflows in float16
                terms = self.loss(scene.float(), full_precision(maps))
        return task_terms + (self.balance(task_terms, terms) if self.balance else terms)

    def teacher_maps(self, pixels: Tensor, targets: list[dict[str, Tensor]]) -> TeacherMaps:
        """The teacher's FPN maps of the student's pixels: one resize and one flip for both networks.

        Under no_grad: backward refuses tensors of inference_mode, and with the copy that they would need
        inference_mode is no faster (benchmarks/gpu_step.py measures both).
        """
        if self._recall is not None:
            if not all("image_id" in t for t in targets):
                raise ValueError('targets must have "image_id", the key of the teacher cache; got targets without it')
            ids = [int(t["image_id"]) for t in targets]
            return self._recall([(i, int(t["view"])) if "view" in t else i for i, t in zip(ids, targets, strict=True)])
        with torch.no_grad():
            return level_names(self.teacher.backbone(pixels), pixels.shape[-2])
