"""PKD: each channel of the student correlates with the teacher's, whatever their magnitudes.

PKD: General Distillation Framework for Object Detectors via Pearson Correlation Coefficient (Cao et al., NeurIPS 2022),
https://arxiv.org/abs/2207.02039. With norm(F) of mean 0 and standard deviation 1 per channel, over the images and cells
of the batch,

    L = 1/2 mean (norm(F_s) - norm(F_t))^2  =  1 - r    r: Pearson's correlation of a channel, mean over channels
"""
from torch import Tensor

from ..pyramid import Channels
from ..scene import Scene
from .base import OneTermLoss

EPSILON = 1e-6  # added to the standard deviation, as in open-mmlab/mmrazor


class PKD(OneTermLoss):
    """One term ``pkd`` per level, between 0 and 2.

    Args:
        weight: 10 for RetinaNet, 6 for Faster R-CNN (configs of open-mmlab/mmrazor, on the four finest levels).
    Differs:
        - mmrazor divides by n - 1 in the standard deviation, which makes its loss (n - 1) / n of this one; n is the
          number of images times cells.
        - mmrazor resizes maps of different size; here they are refused.
        - The student's map passes a 1x1 convolution where channels differ; the authors' pairs agree in channels.
    """

    TERM = "pkd"

    def __init__(
        self, levels: tuple[str, ...], student_channels: Channels, teacher_channels: Channels, *, weight: float = 10.0,
    ):
        super().__init__(levels, student_channels, teacher_channels, weight=weight)

    def raw(self, student: Tensor, teacher: Tensor, level: str, scene: Scene) -> Tensor:
        return (normalised(student) - normalised(teacher)).square().mean() / 2


def normalised(features: Tensor) -> Tensor:
    """Per channel over images and cells, (N, C, H, W); a constant channel gives 0."""
    mean = features.mean(dim=(0, 2, 3), keepdim=True)  # (1, C, 1, 1)
    deviation = features.std(dim=(0, 2, 3), correction=0, keepdim=True)
    return (features - mean) / (deviation + EPSILON)
