"""Focal distillation (eqs. 9-11): imitate the teacher where, and as much as, masks and attention say."""
from torch import Tensor

from .attention import Attention
from .masks import FocalMasks
from .pyramid import check_same_shape


def feature_terms(student: Tensor, teacher: Tensor, masks: FocalMasks, teacher_attention: Attention) -> tuple[Tensor, Tensor]:
    """The two sums of eq. 9, foreground and background, before alpha and beta.

    sum over pixels and channels of  mask * A^S * A^C * (F^T - f(F^S))^2,  averaged over the batch.

    Args:
        student, teacher: (N, C, H, W), same shape; the student has already passed its align layer f.
        masks: ``fg``, ``bg`` of shape (N, H, W).
        teacher_attention: of the teacher's map, treated as a constant.
    Returns:
        two scalars, both >= 0.
    Raises:
        ValueError: maps of different shapes.
    Differs: the authors multiply both features by the square roots of mask and attention and then subtract; the sum is the same.
    """
    check_same_shape(student, teacher)
    spatial, channel = teacher_attention
    error = ((teacher - student).square() * channel[:, :, None, None]).sum(dim=1) * spatial      # (N, H, W)
    return (error * masks.fg).sum() / len(student), (error * masks.bg).sum() / len(student)


def attention_term(student: Attention, teacher: Attention) -> Tensor:
    """Eq. 10 before gamma: L1 between the attentions of the two networks, summed, averaged over the batch.

    Identical attentions give 0. Gradient flows into ``student`` only when the caller treats ``teacher`` as a constant.
    """
    spatial = (student.spatial - teacher.spatial).abs().sum()
    channel = (student.channel - teacher.channel).abs().sum()
    return (spatial + channel) / len(teacher.channel)

