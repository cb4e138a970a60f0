"""TADF: imitate the teacher most at the centres of objects (Sun et al., 2020, arXiv 2006.13108).

Distilling Object Detectors with Task Adaptive Regularization, its feature part. Box r has its centre at (x_r, y_r) and is w_r by h_r cells:

    M_ij = max over boxes r of  exp( -1/2 ((x_j - x_r) / (w_r / 2))^2 - 1/2 ((y_i - y_r) / (h_r / 2))^2 )  inside r, 0 outside every box
    L = sum M (F_t - f(F_s))^2 / (2 C sum M)          both sums over the batch
"""
import torch
from torch import Tensor

from ..config import check_weights
from ..pyramid import PyramidLoss, check_boxes, check_same_shape
from ..scene import Scene
from ..terms import Term
from .boxes import cells_of_level, check_box_settings, level_index


class TADF(PyramidLoss):
    """One term ``tadf`` a level: half the squared error, averaged with the Gaussians as weights; 0 where no box is at home.

    Args:
        weight: of the sum over levels; what the authors used is not known here.
        finest_size: pixels. Level i (0 = finest) is home to boxes with sqrt(w h) from finest_size 2^i to twice that, the finest also to smaller
            and the coarsest also to larger ones. None: every box counts on every level.
    Differs:
        - The paper also distils class scores and box offsets of shared proposals where the teacher is the better one. That needs a two-stage head.
        - The paper lets its weights decay to 0 over the training; a loss here does not know the step.
        - Uncertain: the normalisation (2 C sum M) is that of DeFeat's code for masks of any kind; so is one level a box, with 56 pixels.
        - Uncertain: the paper's adaptation layer; here a 1x1 convolution f where channels differ.
        - That code measures from a cell's corner and drops a box's last cell; here a Gaussian is symmetric over all cells that its box touches.
    """

    PIXELS = ("finest_size",)

    def __init__(
        self, levels: tuple[str, ...], student_channels: int, teacher_channels: int, *, weight: float = 1.0, finest_size: float | None = 56.0
    ):
        check_weights(weight=weight)
        check_box_settings(finest_size)
        super().__init__(levels, student_channels, teacher_channels, align=1 if weight else 0)
        self.weight, self.finest_size = weight, finest_size

    def on_level(self, level: str, scene: Scene, teacher: Tensor) -> list[Term]:
        if not self.weight:
            return []
        student = self.aligned(scene, level)                         # (N, C_t, H, W)
        check_same_shape(student, teacher)
        mask = self.mask(level, scene, teacher)                      # (N, H, W)
        error = (teacher - student).square().mean(dim=1)             # (N, H, W)
        weight = mask.sum()
        return [Term("tadf", level, (error * mask).sum() / (2 * weight + (weight == 0)), self.weight)]

    def mask(self, level: str, scene: Scene, teacher: Tensor) -> Tensor:
        """M on the grid of ``teacher`` (N, C, H, W): (N, H, W) in [0, 1]."""
        check_boxes(scene, len(teacher))
        grid = tuple(teacher.shape[-2:])
        cells = cells_of_level(scene, grid, level_index(level, self.levels), len(self.levels), self.finest_size, "exact")
        return gaussians(cells, grid, teacher.dtype)


def gaussians(cells: Tensor, grid_size: tuple[int, int], dtype: torch.dtype = torch.float32) -> Tensor:
    """The largest Gaussian over each cell. (N, K, 4) cells of boxes -> (N, H, W); exp(-1) = 0.37 in the corners of a large box, 1 in its centre."""
    col0, row0, col1, row1 = cells[..., None].unbind(-2)             # each (N, K, 1)
    if cells.shape[1] == 0:
        return torch.zeros(len(cells), *grid_size, dtype=dtype, device=cells.device)
    down, across = bell(row0, row1, grid_size[0], dtype), bell(col0, col1, grid_size[1], dtype)
    return (down[..., :, None] * across[..., None, :]).amax(dim=1)   # (N, K, H, W) -> (N, H, W)


def bell(near: Tensor, far: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    """exp(-1/2 ((x - centre) / half)^2) at the middle of ``count`` cells, 0 outside near..far. (N, K, 1) -> (N, K, count)."""
    x = torch.arange(count, dtype=dtype, device=near.device) + 0.5
    centre, half = (near + far) / 2, ((far - near) / 2).clamp(min=0.5)                 # the empty range has no width to divide by
    return torch.exp(-0.5 * ((x - centre) / half).square()) * ((x > near) & (x < far))
