"""TADF: imitate the teacher most at the centres of objects.

Distilling Object Detectors with Task Adaptive Regularization (Sun et al., 2020), https://arxiv.org/abs/2006.13108, its
feature part. Box r has its centre at (x_r, y_r) and is w_r by h_r cells:

    M_ij = max over boxes r of  exp( -1/2 ((x_j - x_r) / (w_r / 2))^2 - 1/2 ((y_i - y_r) / (h_r / 2))^2 )  inside r,
           0 outside every box
    L = sum M (F_t - f(F_s))^2 / (2 C sum M)    both sums over the batch
"""
import torch
from torch import Tensor

from ..pyramid import Channels
from ..scene import Scene, grid_of
from .base import OneTermLoss
from .boxes import cells_of_level, check_box_settings


class TADF(OneTermLoss):
    """One term ``tadf`` per level: half the squared error, weighted by the Gaussians; 0 where the level has no box.

    Args:
        weight: of the sum over levels; the authors' is not known here.
        finest_size: pixels; see :func:`fgdlab.methods.boxes.assigned_levels`. None: every box counts on every level.
    Differs:
        - Not here: the paper's distillation of class scores and box offsets of shared proposals, which needs a
          two-stage head, and the decay of its weights to 0 during the training.
        - Uncertain: the normalisation (2 C sum M), which is that of DeFeat's code for any mask; one level per box, with
          56 pixels; the adaptation layer, here a 1x1 convolution f where channels differ.
        - DeFeat's code measures from a cell's corner and drops a box's last cell. Here a Gaussian is symmetric over all
          cells that its box touches.
    """

    TERM = "tadf"
    PIXELS = ("finest_size",)

    def __init__(
        self, levels: tuple[str, ...], student_channels: Channels, teacher_channels: Channels, *,
        weight: float = 1.0, finest_size: float | None = 56.0,
    ):
        check_box_settings(finest_size)
        super().__init__(levels, student_channels, teacher_channels, weight=weight)
        self.finest_size = finest_size

    def raw(self, student: Tensor, teacher: Tensor, level: str, scene: Scene) -> Tensor:
        cells = cells_of_level(scene, teacher, level, self.levels, self.finest_size, "exact")
        mask = gaussians(cells, grid_of(teacher), teacher.dtype)  # M, (N, H, W)
        error = (teacher - student).square().mean(dim=1)  # (N, H, W)
        mass = mask.sum()
        return (error * mask).sum() / (2 * mass + (mass == 0))


def gaussians(cells: Tensor, grid_size: tuple[int, int], dtype: torch.dtype = torch.float32) -> Tensor:
    """The largest Gaussian at each cell. (N, K, 4) cells of boxes -> (N, H, W)."""
    col0, row0, col1, row1 = cells[..., None].unbind(-2)  # each (N, K, 1)
    if cells.shape[1] == 0:
        return torch.zeros(len(cells), *grid_size, dtype=dtype, device=cells.device)
    along_rows, along_columns = gaussian(row0, row1, grid_size[0], dtype), gaussian(col0, col1, grid_size[1], dtype)
    return (along_rows[..., :, None] * along_columns[..., None, :]).amax(dim=1)  # (N, K, H, W) -> (N, H, W)


def gaussian(low: Tensor, high: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    """exp(-1/2 ((x - centre) / half)^2) at the middle of cells, 0 outside low..high. (N, K, 1) -> (N, K, count)."""
    x = torch.arange(count, dtype=dtype, device=low.device) + 0.5
    centre, half = (low + high) / 2, ((high - low) / 2).clamp(min=0.5)  # the empty range has no width to divide by
    return torch.exp(-0.5 * ((x - centre) / half).square()) * ((x > low) & (x < high))
