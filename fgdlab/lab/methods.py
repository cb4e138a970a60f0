"""From the word ``method`` to a loss: one line a method."""
from torch import nn

from fgdlab.fgd import FGDLoss

from .config import RunConfig


def make_loss(config: RunConfig, levels: tuple[str, ...], student_channels: int, teacher_channels: int) -> nn.Module | None:
    """The distillation loss that a run's settings name; None where nothing is left of it, so that no teacher has to run.

    Args:
        levels: pyramid levels that student and teacher share, e.g. ("P3", "P4", "P5").
        student_channels, teacher_channels: C of the two pyramids.
    """
    if config.method == "fgd" and config.fgd().weights():
        return FGDLoss(levels, student_channels, teacher_channels, config.fgd())
    return None
