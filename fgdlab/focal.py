"""Focal distillation (eqs. 9-11): imitate the teacher where, and as much as, masks and attention say."""
from torch import Tensor

from .attention import Attention
from .masks import FocalMasks
from .pyramid import check_same_shape


def feature_error(student: Tensor, teacher: Tensor, attention: Attention) -> Tensor:
    """Eq. 9 per cell, before the masks: sum over channels of A^S * A^C * (F^T - f(F^S))^2.

    Args:
        student, teacher: (N, C, H, W), same shape; the student's map has already passed its align layer f.
        attention: the weights, usually of the teacher's map.
    Returns:
        (N, H, W), all >= 0.
    """
    spatial, channel = attention
    return ((teacher - student).square() * channel[:, :, None, None]).sum(dim=1) * spatial


def feature_terms(student: Tensor, teacher: Tensor, masks: FocalMasks, attention: Attention) -> tuple[Tensor, Tensor]:
    """The two sums of eq. 9, foreground and background, before alpha and beta.

    sum over cells of  mask * :func:`feature_error`,  averaged over the batch.

    Args:
        student, teacher: as in :func:`feature_error`.
        masks: ``fg``, ``bg`` of shape (N, H, W).
        attention: of the teacher's map, treated as a constant.
    Returns:
        two scalars, both >= 0.
    Raises:
        ValueError: maps of different shapes.
    Differs: the authors multiply both maps by the roots of mask and attention, then subtract. The sum is the same.
    """
    check_same_shape(student, teacher)
    error = feature_error(student, teacher, attention)
    return (error * masks.fg).sum() / len(student), (error * masks.bg).sum() / len(student)


def attention_term(student: Attention, teacher: Attention) -> Tensor:
    """Eq. 10 before gamma: L1 between the attentions of the two networks, summed, averaged over the batch.

    Identical attentions give 0. Gradient flows into ``student`` only when the caller treats ``teacher`` as a constant.
    """
    spatial = (student.spatial - teacher.spatial).abs().sum()
    channel = (student.channel - teacher.channel).abs().sum()
    return (spatial + channel) / len(teacher.channel)

