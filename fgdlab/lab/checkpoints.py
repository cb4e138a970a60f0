"""Weights that others wrote, under our names.

The authors keep one loss module a pyramid level, each with its own layers; FGDLoss keeps them together, filed by level:

    align.*                     ->  align.<level>.*                             f of eq. 9, only where channels differ
    conv_mask_s.*               ->  relation.<level>.student.key.*              W_k of eq. 13, the student's block
    channel_add_conv_s.<n>.*    ->  relation.<level>.student.transform.<n>.*    W_v1 (0), LayerNorm (1), W_v2 (3)
    conv_mask_t, channel_add_conv_t                                             the same for the teacher's block
"""
import re
from collections.abc import Mapping

from torch import Tensor

from .errors import UserError, unknown_name

BLOCKS = {"student": "s", "teacher": "t"}                            # ours -> the authors' suffix
LAYERS = {"key": "conv_mask_{}", "transform.0": "channel_add_conv_{}.0", "transform.1": "channel_add_conv_{}.1", "transform.3": "channel_add_conv_{}.3"}
KINDS = ("weight", "bias")


def fgd_state_from_authors(state: Mapping[str, Tensor], level: str) -> dict[str, Tensor]:
    """One level's state in the authors' names -> the part of FGDLoss.state_dict() that belongs to ``level``.

    Args:
        state: of one level, e.g. "conv_mask_s.weight"; without the path that leads to the level's module in a whole checkpoint.
        level: "P3" and so on.
    Returns:
        the same tensors under our names. For an FGDLoss of this one level it loads strictly; for several levels, unite the
        dicts of all of them with ``|`` first.
    Raises:
        UserError: a level that is none, a name that the authors' loss does not have, or one that it has and ``state`` lacks.
    """
    if not re.fullmatch(r"P\d+", str(level)):
        raise UserError(f"level must be a pyramid level such as 'P3', got {level!r}")
    relation = {
        f"{layer.format(suffix)}.{kind}": f"relation.{level}.{block}.{ours}.{kind}"
        for block, suffix in BLOCKS.items() for ours, layer in LAYERS.items() for kind in KINDS
    }
    align = {f"align.{kind}": f"align.{level}.{kind}" for kind in KINDS}
    ours_of = align | relation
    for name in state:
        if name not in ours_of:
            raise unknown_name("FGD parameter", name, ours_of, hint="give one level's entries, named without their path in the checkpoint")
    expected = ours_of if align.keys() & state.keys() else relation
    missing = [name for name in expected if name not in state]
    if missing:
        raise UserError(f"the authors' state of {level} must have all of {', '.join(expected)}; {', '.join(missing)} missing")
    return {ours_of[name]: each for name, each in state.items()}
