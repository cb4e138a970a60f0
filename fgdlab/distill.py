"""A student, with or without a teacher, as one trainable module.

    images, targets --student--> its task losses -----+
          |  Tap                                      +--> list[Term]
          +-> Scene, teacher's maps --loss--> terms --+
"""
import copy
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from .balance import Balance
from .pyramid import PyramidLoss
from .scene import Scene, Tap, full_precision, level_names
from .terms import Term

TeacherMaps = dict[str, Tensor]  # {"P3": (N, C, H, W), ...}
Adapter = Callable[..., tuple[Mapping[str, Tensor], Scene]]  # adapter(model, *batch) -> ({name: loss}, scene)


class Distiller(nn.Module):
    """forward(images, targets) -> all loss terms of the step: the detector's task losses, then the distillation's.

    The teacher is not a submodule: it moves with ``.to()`` but is not in ``parameters()`` or ``state_dict()``. So an
    optimiser holds only the student and the loss's layers, and a checkpoint holds no teacher. ``copy.deepcopy``, as in
    averaging of weights, shares the teacher.

    >>> loss = FGDLoss(("P3", "P4", "P5"), 256, 256)
    >>> terms = Distiller(student, teacher, loss).train()(images, targets)
    >>> total(terms).backward()

    Args:
        student: a detector (see scene.py), or any model with ``adapter``.
        teacher: the same with a pyramid of its own. It is frozen here and stays in eval mode.
        loss: ``loss(scene, teacher_maps) -> list[Term]``; None trains the student alone. A PyramidLoss gets maps in the
            networks' precision, because it casts them as it needs; any other loss gets float32.
        recall: ``recall(keys) -> teacher_maps``, a cache of the teacher's maps. A key is the target's "image_id", which
            must be there, or (image_id, view) if the target has a "view".
        balance: changes the weights of the loss's terms (see balance.py); None keeps them.
        adapter: ``adapter(model, ...) -> ({name: loss}, scene)``, one pass of any other model; the distiller
            takes its arguments. From the teacher, in eval mode, it takes only the scene's maps.
        match: ``match(scene, teacher_maps) -> teacher_maps`` where pyramids differ: see ``match_levels``.
        teacher_pixels: pixels for the student -> pixels for the teacher, where ``transform`` normalises differently.
    Raises:
        ValueError: a loss without teacher or cache, or one of them without a loss; a student that is wrapped, shares
            parameters with its teacher, or needs an adapter.
    """

    __call__: Callable[..., list[Term]]

    def __init__(
        self, student: nn.Module, teacher: nn.Module | None = None, loss: nn.Module | None = None,
        recall: Callable[[list[Any]], TeacherMaps] | None = None, balance: Balance | None = None, *,
        adapter: Adapter | None = None, match: Callable[[Scene, TeacherMaps], TeacherMaps] | None = None,
        teacher_pixels: Callable[[Tensor], Tensor] | None = None,
    ):
        super().__init__()
        if (loss is None) != (teacher is None and recall is None):
            raise ValueError(
                "a distiller must have a loss and a teacher (or a cache of one), or neither; got one without the other")
        for detector in (student, teacher):
            if not (adapter or detector is None or hasattr(detector, "transform") and hasattr(detector, "backbone")):
                got = f"{type(detector).__name__} without; wrap the distiller instead of its student, or give adapter="
                raise ValueError(f"a detector must have transform and backbone as in torchvision, got {got}")
        if teacher is not None:
            check_pair(student, teacher, bool(adapter or teacher_pixels))
            teacher.eval().requires_grad_(False)
        self.student, self.loss, self.balance = student, loss, balance
        self._teacher = (teacher,)  # a tuple hides it from nn.Module
        self._recall, self._adapter, self._match, self._teacher_pixels = recall, adapter, match, teacher_pixels
        self._checked = False

    @property
    def teacher(self) -> Any:
        return self._teacher[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        if self.teacher is not None:
            self.teacher._apply(fn)  # .to(), .cuda() and .double() move the teacher, too
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def train(self, mode: bool = True) -> Self:
        """As nn.Module.train; the teacher goes back to eval mode if somebody changed it."""
        if self.teacher is not None:
            self.teacher.eval()
        return super().train(mode)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        twin = type(self).__new__(type(self))
        memo |= {id(self): twin, id(self.teacher): self.teacher}
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin

    def forward(self, *batch: Any, **named: Any) -> list[Term]:
        if not (self.training and self.student.training):
            raise RuntimeError(
                "a distiller must be in train mode to give losses; call .train(), or .student(images) for detections")
        losses, scene = (self._adapter or torchvision_adapter)(self.student, *batch, **named)
        task_terms = terms_of(losses)
        if self.loss is None:
            return task_terms
        maps = self.matched_maps(scene, batch, named)
        if isinstance(self.loss, PyramidLoss):  # it disables autocast itself
            terms = self.loss(scene, maps)
        else:
            with torch.autocast(scene.pixels.device.type, enabled=False):  # a sum of squares overflows in float16
                terms = self.loss(scene.float(), full_precision(maps))
        if type(terms) is not list or not all(
            isinstance(each, Term) and getattr(each.raw, "shape", None) == () for each in terms
        ):
            raise ValueError(f"the loss must return a list of Terms with scalars, got {terms!r:.60}; see terms.py")
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            check_gradients(self.loss, scene, terms)
        return task_terms + (self.balance(task_terms, terms) if self.balance else terms)

    def matched_maps(self, scene: Scene, batch: tuple[Any, ...], named: dict[str, Any]) -> TeacherMaps:
        """The teacher's maps under the student's names of levels."""
        if self.teacher is not None and not torch.compiler.is_compiling():
            if self.teacher.training:
                self.teacher.eval()
            if torch.is_grad_enabled() and not self._checked:
                check_ranks_agree(self.teacher)
                if not self._adapter:
                    warn_of_enlarged(named["images"] if "images" in named else batch[0], scene)
                self._checked = True
        if self._adapter is None or self._recall is not None:
            maps = self.teacher_maps(scene.pixels, named.get("targets") or batch[-1])
        else:
            with torch.no_grad():
                maps = self._adapter(self.teacher, *batch, **named)[1].features
        return self._match(scene, maps) if self._match else maps

    def teacher_maps(self, pixels: Tensor, targets: list[dict[str, Tensor]]) -> TeacherMaps:
        """The teacher's FPN maps of the student's pixels: one resize and one flip for both networks.

        Under no_grad: backward needs a copy of inference_mode's tensors, and then that is no faster
        (benchmarks/gpu_step.py).
        """
        if self._recall is not None:
            if not all("image_id" in t for t in targets):
                raise ValueError('targets must have "image_id", the key of the teacher cache; got targets without it')
            ids = [int(t["image_id"]) for t in targets]
            return self._recall([(i, int(t["view"])) if "view" in t else i for i, t in zip(ids, targets, strict=True)])
        with torch.no_grad():
            if self._teacher_pixels:
                pixels = self._teacher_pixels(pixels)
            return level_names(self.teacher.backbone(pixels), pixels.shape[-2])


def torchvision_adapter(
    model: nn.Module, images: list[Tensor], targets: list[dict[str, Tensor]],
) -> tuple[Mapping[str, Tensor], Scene]:
    """The losses of a detector with torchvision's forward, and the scene that they came from."""
    with Tap(model) as tap:
        losses = model(images, targets)
    return losses, tap.scene


def terms_of(losses: Any) -> list[Term]:
    """The task losses as terms.

    Raises:
        ValueError: not {name: loss}, or an entry that is no scalar, or has no gradient although others have one.
    """
    entries = losses if isinstance(losses, Mapping) else {"all together": losses}
    trained = any(getattr(value, "requires_grad", False) for value in entries.values())
    for name, value in entries.items():
        is_loss = isinstance(value, Tensor) and value.is_floating_point() and value.ndim == 0
        if entries is not losses or not is_loss or trained and not value.requires_grad:
            raise ValueError(
                f"the student must return {{name: scalar loss}}, got {name!r}: {value!r:.60}; sum lists over levels, "
                "and leave out metrics and counts")
    return [Term(name, "all", value) for name, value in entries.items()]


def check_pair(student: nn.Module, teacher: nn.Module, same_pixels: bool) -> None:
    """Warns of another normalisation in the teacher.

    Raises:
        ValueError: student and teacher share parameters, so that freezing one would freeze the other.
    """
    ours = {id(parameter): name for name, parameter in student.named_parameters()}
    if shared := [ours[id(each)] for each in teacher.parameters() if id(each) in ours]:
        remedy = "give it a copy: copy.deepcopy(...)"
        raise ValueError(f"the frozen teacher must not share parameters with the student, got {shared[0]!r}; {remedy}")
    for name in () if same_pixels else ("image_mean", "image_std"):
        values = [getattr(getattr(each, "transform", None), name, None) for each in (student, teacher)]
        if values[0] and values[1] and list(values[0]) != list(values[1]):
            warnings.warn(
                f"student and teacher must have the same {name}, because the teacher gets the student's pixels; "
                f"got {values[0]} and {values[1]}; give Distiller teacher_pixels=", stacklevel=3)


def warn_of_enlarged(images: list[Tensor], scene: Scene) -> None:
    """Warns of images that ``transform`` made four times as high or more, as torchvision's min_size=800 may."""
    for image, (after, _) in zip(images, scene.image_sizes, strict=True):
        before = image.shape[-2]
        if after >= 4 * before:
            warnings.warn(
                f"the student's transform must suit the images, got one of {before} rows resized to {after}, which "
                "takes time and memory; give the detector a smaller min_size=", stacklevel=2)
            return


def check_gradients(loss: nn.Module, scene: Scene, terms: list[Term]) -> None:
    """Raises:
        ValueError: a term that teaches the student nothing, because the student's maps or the term are constants.
    """
    on_maps = isinstance(loss, PyramidLoss) and loss.built_from == "channels"
    constant = on_maps and not any(maps.requires_grad for maps in scene.features.values())
    for term in terms:
        if constant or term.weight and not term.raw.requires_grad and term.raw:  # 0 where no image has an object
            remedy = "take its maps without detach(), and call student.requires_grad_(True)"
            must = f"the loss term {term.name!r} on {term.level} must have a gradient to the student"
            raise ValueError(f"{must}, got a constant; {remedy}")


def check_ranks_agree(teacher: nn.Module) -> None:
    """All ranks of the process group take part, if there is one.

    Raises:
        ValueError: a teacher whose weights differ between ranks, since DistributedDataParallel broadcasts the student.
    """
    group = torch.distributed
    if not (group.is_available() and group.is_initialized() and group.get_world_size() > 1):
        return
    plain = [each.detach() for each in (*teacher.parameters(), *teacher.buffers()) if not hasattr(each, "to_local")]
    sums = [each.reshape(-1).view(torch.uint8).sum() for each in plain]  # of bytes, so exact
    least = (torch.stack(sums) * torch.arange(1, len(sums) + 1, device=sums[0].device)).sum()
    most = least.clone()
    group.all_reduce(least, group.ReduceOp.MIN)
    group.all_reduce(most, group.ReduceOp.MAX)
    if least != most:
        raise ValueError("the teacher must be the same on all ranks, got others; load its checkpoint on every rank")
