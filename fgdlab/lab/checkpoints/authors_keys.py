"""Weights of other implementations under the names of this package: the authors' FGD, MMRazor's FBKD.

The authors have one loss module per pyramid level; FGDLoss keeps the layers of all levels together:

    align.*                     ->  align.<level>.*                             f of eq. 9, only where channels differ
    conv_mask_s.*               ->  relation.<level>.student.key.*              W_k of eq. 13, the student's block
    channel_add_conv_s.<n>.*    ->  relation.<level>.student.transform.<n>.*    W_v1 (0), LayerNorm (1), W_v2 (3)
    conv_mask_t, channel_add_conv_t                                             the same for the teacher's block
"""
import re
from collections.abc import Mapping

from torch import Tensor

from ..errors import UserError, unknown_name

BLOCKS = {"student": "s", "teacher": "t"}                            # our name -> the authors' suffix
LAYERS = {
    "key": "conv_mask_{}", "transform.0": "channel_add_conv_{}.0", "transform.1": "channel_add_conv_{}.1",
    "transform.3": "channel_add_conv_{}.3",
}
KINDS = ("weight", "bias")


def fgd_state_from_authors(state: Mapping[str, Tensor], level: str) -> dict[str, Tensor]:
    """One level's state in the authors' names -> the part of FGDLoss.state_dict() that belongs to ``level``.

    Args:
        state: of one level, e.g. "conv_mask_s.weight", without the path to the level's module in a whole checkpoint.
        level: "P3" and so on.
    Returns:
        the same tensors under our names. It loads strictly into an FGDLoss of this one level; for several levels, unite
        their dicts with ``|``.
    Raises:
        UserError: no such level, a name that the authors' loss does not have, or a name that ``state`` lacks.
    """
    check_level(level)
    relation = {
        f"{layer.format(suffix)}.{kind}": f"relation.{level}.{block}.{ours}.{kind}"
        for block, suffix in BLOCKS.items() for ours, layer in LAYERS.items() for kind in KINDS
    }
    align = {f"align.{kind}": f"align.{level}.{kind}" for kind in KINDS}
    expected = relation | (align if align.keys() & state.keys() else {})
    return renamed(state, align | relation, expected, level, "FGD", "one level's entries")


NON_LOCAL = {
    "query": "theta.conv", "key": "phi.0.0.conv", "value": "g.0.0.conv", "output": "conv_out.conv",
    "norm": "conv_out.bn",
}
NORM_KINDS = (*KINDS, "running_mean", "running_var", "num_batches_tracked")
ADAPTERS = {                                                         # MMRazor's name -> ours
    "adaptation_layers": "align.{}", "channel_wise_adaptation": "channel.{}", "spatial_wise_adaptation": "spatial.{}",
    "non_local_adaptation": "relation.{}.align",
}


def fbkd_state_from_mmrazor(
    student_state: Mapping[str, Tensor], teacher_state: Mapping[str, Tensor], level: str,
) -> dict[str, Tensor]:
    """States of MMRazor's two FBKD connectors of one level -> the part of FBKDLoss.state_dict() for ``level``.

        adaptation_layers.*         ->  align.<level>.*                   channel_wise_adaptation.* -> channel.<level>.*
        non_local_adaptation.*      ->  relation.<level>.align.*          spatial_wise_adaptation.* -> spatial.<level>.*
        student_non_local.theta.*   ->  relation.<level>.student.query.*  phi = key, g = value, conv_out = output, norm
        teacher_non_local.theta.*   ->  relation.<level>.teacher.query.*  and so on

    The loss needs MMRazor's ``reduction``, and ``pool`` = 2 * ``maxpool_stride``: their block pools by 2 before.

    Args:
        student_state, teacher_state: of one level, without the path to the connector in a whole checkpoint.
        level: "P3" and so on.
    Returns:
        the same tensors under our names. It loads strictly into an FBKDLoss of this one level with all four parts; for
        several levels, unite their dicts with ``|``.
    Raises:
        UserError: no such level, a name that the connector does not have, or a name that the state lacks.
    """
    check_level(level)

    def block(side: str) -> dict[str, str]:
        kinds = {"norm": NORM_KINDS, "output": KINDS[:1]}
        return {
            f"{side}_non_local.{theirs}.{kind}": f"relation.{level}.{side}.{ours}.{kind}"
            for ours, theirs in NON_LOCAL.items() for kind in kinds.get(ours, KINDS)
        }

    adapters = {
        f"{theirs}.{kind}": f"{ours.format(level)}.{kind}" for theirs, ours in ADAPTERS.items() for kind in KINDS
    }
    student_names, teacher_names = adapters | block("student"), block("teacher")
    what = "one connector's entries"
    return {
        **renamed(student_state, student_names, student_names, level, "FBKD student", what),
        **renamed(teacher_state, teacher_names, teacher_names, level, "FBKD teacher", what),
    }


def check_level(level: str) -> None:
    if not re.fullmatch(r"P\d+", str(level)):
        raise UserError(f"level must be a pyramid level such as 'P3', got {level!r}")


def renamed(
    state: Mapping[str, Tensor], ours_of: dict[str, str], expected: dict[str, str], level: str, kind: str, what: str,
) -> dict[str, Tensor]:
    """The state under our names. Raises where a name is not in ``ours_of``, or one of ``expected`` is missing."""
    for name in state:
        if name not in ours_of:
            hint = f"give {what}, named without their path in the checkpoint"
            raise unknown_name(f"{kind} parameter", name, ours_of, hint=hint)
    missing = [name for name in expected if name not in state]
    if missing:
        raise UserError(f"the {kind} state of {level} must have {len(expected)} entries; {', '.join(missing)} missing")
    return {ours_of[name]: tensor for name, tensor in state.items()}
