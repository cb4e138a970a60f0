"""Inheriting: the student starts with its teacher's neck and head (the dagger rows of the paper's Tables 2 and 3).

In torchvision's names, ``backbone.fpn.*`` is the neck, and all that does not begin with ``backbone.`` is the head.
"""
from typing import NamedTuple

import torch
from torch import nn

from ..errors import UserError, listed


class Inherited(NamedTuple):
    copied: tuple[str, ...]
    other_shape: tuple[str, ...]
    not_there: tuple[str, ...]

    def __str__(self) -> str:
        reasons = {"of another shape there": self.other_shape, "not there": self.not_there}
        kept = [f"{len(names)} {why} ({listed(names)})" for why, names in reasons.items() if names]
        copied = f"{len(self.copied)} tensors of neck and head are the teacher's"
        return f"{copied}; the student keeps its own: {'; '.join(kept) or 'none'}"


def is_inherited(name: str) -> bool:
    return not name.startswith("backbone.") or name.startswith("backbone.fpn.")


@torch.no_grad()
def inherit(student: nn.Module, teacher: nn.Module) -> Inherited:
    """Copy the teacher's neck and head into the student, in place, where name and shape of a tensor agree.

    The neck's lateral convolutions are copied only where both backbones have the same channels; so is P6 where it reads
    C5 (MMDetection's RetinaNet and RepPoints). A classifier with other classes is not copied.

    Raises:
        UserError: no tensor of the head agrees, the flavours differ (equal shapes, classes in another order), or the
            teacher's head was not loaded (as of a Cascade Mask R-CNN, where the authors inherit nothing).
    Source: the authors' ``init_student``, which copies every tensor whose name does not begin with ``backbone.``
    """
    flavours = [getattr(detector, "flavour", "torchvision") for detector in (student, teacher)]
    if flavours[0] != flavours[1]:
        got = f"{flavours[0]} and {flavours[1]}, whose heads order classes otherwise"
        raise UserError(f"inherit must have student and teacher of one flavour, got {got}")
    if any(is_inherited(name) for name in getattr(teacher, "not_loaded", ())):
        problem = "inherit must have a teacher whose whole head was loaded, got one with parts at their random start"
        raise UserError(f"{problem}; leave inherit off")
    theirs = teacher.state_dict()
    ours = {name: tensor for name, tensor in student.state_dict().items() if is_inherited(name)}
    copied = tuple(name for name, tensor in ours.items() if name in theirs and theirs[name].shape == tensor.shape)
    if all(name.startswith("backbone.") for name in copied):
        raise UserError(
            "inherit must find tensors of the same name and shape in both heads, got none in "
            f"{type(student).__name__} and {type(teacher).__name__}; "
            "use a student with its teacher's head, or leave inherit off")
    for name in copied:
        ours[name].copy_(theirs[name])
    other_shape = tuple(name for name in ours if name in theirs and name not in copied)
    return Inherited(copied, other_shape, tuple(name for name in ours if name not in theirs))
