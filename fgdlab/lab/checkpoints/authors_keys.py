"""Weights that others wrote, under our names.

The authors keep one loss module a pyramid level, each with its own layers; FGDLoss keeps them together, filed by level:

    align.*                     ->  align.<level>.*                             f of eq. 9, only where channels differ
    conv_mask_s.*               ->  relation.<level>.student.key.*              W_k of eq. 13, the student's block
    channel_add_conv_s.<n>.*    ->  relation.<level>.student.transform.<n>.*    W_v1 (0), LayerNorm (1), W_v2 (3)
    conv_mask_t, channel_add_conv_t                                             the same for the teacher's block

MMRazor keeps a student's and a teacher's connector a level; FBKDLoss has both, filed by part and level (see fbkd_state_from_mmrazor).
Whole detectors have rooms of their own: load_mmdet.py brings MMDetection's in, export.py writes them out; this is their common door.
"""
import re
from collections.abc import Mapping

from torch import Tensor

from ..errors import UserError, unknown_name
from .export import detector_of, export_mmdet, export_student
from .mmdet import Report, load_mmdet

__all__ = ["Report", "detector_of", "export_mmdet", "export_student", "fbkd_state_from_mmrazor", "fgd_state_from_authors", "load_mmdet"]

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


NON_LOCAL = {"query": "theta.conv", "key": "phi.0.0.conv", "value": "g.0.0.conv", "output": "conv_out.conv", "norm": "conv_out.bn"}
NORM_KINDS = (*KINDS, "running_mean", "running_var", "num_batches_tracked")
ADAPTERS = {                                                         # MMRazor's -> ours
    "adaptation_layers": "align.{}", "channel_wise_adaptation": "channel.{}", "spatial_wise_adaptation": "spatial.{}",
    "non_local_adaptation": "relation.{}.align",
}


def fbkd_state_from_mmrazor(student_state: Mapping[str, Tensor], teacher_state: Mapping[str, Tensor], level: str) -> dict[str, Tensor]:
    """States of MMRazor's two FBKD connectors of one level -> the part of FBKDLoss.state_dict() that belongs to ``level``.

        adaptation_layers.*          ->  align.<level>.*                      channel_wise_adaptation.*  ->  channel.<level>.*
        non_local_adaptation.*       ->  relation.<level>.align.*             spatial_wise_adaptation.*  ->  spatial.<level>.*
        student_non_local.theta.*    ->  relation.<level>.student.query.*     phi = key, g = value, conv_out = output and norm
        teacher_non_local.theta.*    ->  relation.<level>.teacher.query.*     and so on

    The loss needs ``reduction`` as theirs and ``pool`` = 2 * ``maxpool_stride``, because their block pools by 2 before.

    Args:
        student_state, teacher_state: of one level, without the path that leads to the connector in a whole checkpoint.
        level: "P3" and so on.
    Returns:
        the same tensors under our names. For an FBKDLoss of this one level with all four parts it loads strictly; for several levels, unite
        the dicts with ``|`` first.
    Raises:
        UserError: a level that is none, a name that the connector does not have, or one that it has and the state lacks.
    """
    if not re.fullmatch(r"P\d+", str(level)):
        raise UserError(f"level must be a pyramid level such as 'P3', got {level!r}")

    def block(who: str) -> dict[str, str]:
        return {
            f"{who}_non_local.{theirs}.{kind}": f"relation.{level}.{who}.{ours}.{kind}" for ours, theirs in NON_LOCAL.items()
            for kind in (NORM_KINDS if ours == "norm" else KINDS[:1] if ours == "output" else KINDS)
        }

    adapters = {f"{theirs}.{kind}": f"{ours.format(level)}.{kind}" for theirs, ours in ADAPTERS.items() for kind in KINDS}
    result = {}
    for who, state, ours_of in (("student", student_state, adapters | block("student")), ("teacher", teacher_state, block("teacher"))):
        for name in state:
            if name not in ours_of:
                raise unknown_name(f"FBKD {who} parameter", name, ours_of, hint="give one connector's entries, named without their path in the checkpoint")
        missing = [name for name in ours_of if name not in state]
        if missing:
            raise UserError(f"MMRazor's {who} connector of {level} must have {len(ours_of)} entries; {', '.join(missing)} missing")
        result |= {ours_of[name]: each for name, each in state.items()}
    return result
