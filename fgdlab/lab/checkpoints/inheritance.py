"""Inheriting: the student starts with its teacher's neck and head (the dagger rows of the paper's Tables 2 and 3).

    teacher, student --inherit--> the student's tensors of the same name and shape are the teacher's; the rest is untouched

Which tensors: everything but the network that the pyramid stands on. In torchvision's names that is ``backbone.fpn.`` (the neck) and all that
does not begin with ``backbone.`` (the heads).
"""
from typing import NamedTuple

import torch
from torch import nn

from ..errors import UserError


class Inherited(NamedTuple):
    """Names of the student's neck and head tensors: ``copied`` from the teacher; ``other_shape`` and ``not_there`` in the teacher, so kept."""

    copied: tuple[str, ...]
    other_shape: tuple[str, ...]
    not_there: tuple[str, ...]

    def __str__(self) -> str:
        kept = {"of another shape there": self.other_shape, "not there": self.not_there}
        own = [f"{len(names)} {why} ({', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''})" for why, names in kept.items() if names]
        return f"{len(self.copied)} tensors of neck and head are the teacher's; the student keeps its own: {'; '.join(own) or 'none'}"


def is_inherited(name: str) -> bool:
    """Whether a tensor belongs to the neck or to a head."""
    return not name.startswith("backbone.") or name.startswith("backbone.fpn.")


@torch.no_grad()
def inherit(student: nn.Module, teacher: nn.Module) -> Inherited:
    """Copy the teacher's neck and head into the student, in place, tensor by tensor where name and shape agree.

    The lateral convolutions of the neck read the backbone's channels, so they are copied only where both backbones have the same; so does P6
    where it reads C5 (RetinaNet and RepPoints in MMDetection's flavour). A classifier of another number of classes keeps its start.
    Raises:
        UserError: no tensor of the head agrees, the flavours differ (equal shapes with classes in another order), or the teacher's head was
            not in its checkpoint, as with a Cascade Mask R-CNN of which backbone and neck were loaded; the authors inherit nothing there.
    Source: the authors' ``init_student``, which copies every tensor whose name does not begin with ``backbone.``
    """
    flavours = [getattr(each, "flavour", "torchvision") for each in (student, teacher)]
    if flavours[0] != flavours[1]:
        raise UserError(f"inherit must have student and teacher of one flavour, got {flavours[0]} and {flavours[1]}, whose heads order classes otherwise")
    if any(is_inherited(name) for name in getattr(teacher, "not_loaded", ())):
        raise UserError("inherit must have a teacher whose whole head was loaded, got one with parts at their random start; leave inherit off")
    theirs, ours = teacher.state_dict(), {name: tensor for name, tensor in student.state_dict().items() if is_inherited(name)}
    copied = tuple(name for name, tensor in ours.items() if name in theirs and theirs[name].shape == tensor.shape)
    if not any(not name.startswith("backbone.") for name in copied):
        raise UserError(
            f"inherit must find tensors of the same name and shape in both heads, got none in {type(student).__name__} and {type(teacher).__name__}; "
            "use a student with its teacher's head, or leave inherit off"
        )
    for name in copied:
        ours[name].copy_(theirs[name])
    return Inherited(copied, tuple(name for name in ours if name in theirs and name not in copied), tuple(name for name in ours if name not in theirs))
