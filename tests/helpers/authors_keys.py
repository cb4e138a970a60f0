"""Weights of the authors' FGD loss under the names of this package.

The authors have one loss module per pyramid level; FGDLoss keeps the layers of all levels together:

    align.*                     ->  align.<level>.*                             f of eq. 9, only where channels differ
    conv_mask_s.*               ->  relation.<level>.student.key.*              W_k of eq. 13, the student's block
    channel_add_conv_s.<n>.*    ->  relation.<level>.student.transform.<n>.*    W_v1 (0), LayerNorm (1), W_v2 (3)
    conv_mask_t, channel_add_conv_t                                             the same for the teacher's block
"""
import re
from collections.abc import Mapping

from torch import Tensor

from fgdlab.lab.errors import UserError, check_name

BLOCKS = {"s": "student", "t": "teacher"}  # the authors' suffix -> our name
LAYERS = {"conv_mask_{}": "key", **{f"channel_add_conv_{{}}.{n}": f"transform.{n}" for n in (0, 1, 3)}}
KINDS = ("weight", "bias")


def fgd_state_from_authors(state: Mapping[str, Tensor], level: str) -> dict[str, Tensor]:
    """One level's state in the authors' names -> the part of FGDLoss.state_dict() that belongs to ``level``.

    Args:
        state: e.g. "conv_mask_s.weight", without the path to the level's module in a whole checkpoint.
        level: "P3" and so on; for several levels, unite the results with ``|``.
    Raises:
        UserError: no such level, a name that the authors' loss does not have, or a name that ``state`` lacks.
    """
    if not re.fullmatch(r"P\d+", str(level)):
        raise UserError(f"level must be a pyramid level such as 'P3', got {level!r}")
    relation = {
        f"{layer.format(suffix)}.{kind}": f"relation.{level}.{block}.{ours}.{kind}"
        for suffix, block in BLOCKS.items() for layer, ours in LAYERS.items() for kind in KINDS
    }
    align = {f"align.{kind}": f"align.{level}.{kind}" for kind in KINDS}
    names = align | relation
    for name in state:
        check_name("FGD parameter", name, names, "give one level's entries, without their path in the checkpoint")
    expected = names if align.keys() & state.keys() else relation
    missing = [name for name in expected if name not in state]
    if missing:
        problem = f"the authors' state of {level} must have all of {', '.join(expected)}"
        raise UserError(f"{problem}; {', '.join(missing)} missing")
    return {names[name]: tensor for name, tensor in state.items()}
