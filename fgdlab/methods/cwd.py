"""CWD: every channel, as a distribution over cells, imitates the teacher's.

Channel-Wise Knowledge Distillation for Dense Prediction (Shu et al., ICCV 2021), https://arxiv.org/abs/2011.13256. With
softmax over the cells i of one channel c of one image,

    phi(F)_ci = exp(F_ci / tau) / sum_j exp(F_cj / tau)
    L = tau^2 / (C N)  sum_n sum_c sum_i  phi(F_t)_ci log( phi(F_t)_ci / phi(F_s)_ci )
"""
import torch
from torch import Tensor

from ..config import check_positive
from ..pyramid import Channels
from ..scene import Scene
from .base import OneTermLoss


class CWD(OneTermLoss):
    """One term ``cwd`` per level. A constant added to a channel, of student or teacher, changes nothing.

    Args:
        weight: 5 in the RetinaNet config of pppppM/mmdetection-distiller, 10 in those of open-mmlab/mmrazor.
        temperature: tau, 1 in both.
    Differs: the student's map passes a 1x1 convolution where channels differ; both code bases need equal channels.
    """

    TERM = "cwd"

    def __init__(
        self, levels: tuple[str, ...], student_channels: Channels, teacher_channels: Channels, *,
        weight: float = 5.0, temperature: float = 1.0,
    ):
        check_positive(temperature=temperature)
        super().__init__(levels, student_channels, teacher_channels, weight=weight)
        self.temperature = temperature

    def raw(self, student: Tensor, teacher: Tensor, level: str, scene: Scene) -> Tensor:
        log_student, log_teacher = (  # each (N, C_t, HW)
            torch.log_softmax(maps.flatten(2) / self.temperature, dim=-1) for maps in (student, teacher)
        )
        divergence = (log_teacher.exp() * (log_teacher - log_student)).sum(dim=-1)  # (N, C_t)
        return self.temperature**2 * divergence.mean()
