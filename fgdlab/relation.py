"""Global distillation (eqs. 12-13): imitate relations between pixels, through a learned block R or without one.

R(F) of the paper adds to F one value per channel, the same at every pixel. So the global term can differ from a plain
squared distance only in the spatial means of the maps: training moves it between ``mse`` and ``centred``.

    gc         sum (R_s(S) - R_t(T))^2 with a GcBlock each (the paper); starts equal to ``mse``
    mse        sum (S - T)^2, no layer
    centred    the same without the spatial mean of S - T per channel: the least that ``gc`` can reach
    nonlocal   a non-local block each (the paper's Table 6)
"""
from typing import Any, cast

import torch
from torch import Tensor, nn

from .config import RELATIONS, check_choice


class GcBlock(nn.Module):
    """R(F) = F + W_v2 ReLU(LN(W_v1 context)),  context = sum_j softmax_j(W_k F_j) F_j   (eq. 13).

    The last layer starts at zero, so R starts as the identity and the global term as a plain squared distance.

    >>> torch.equal(GcBlock(8)(maps["P3"]), maps["P3"])
    True

    Args:
        channels: C of the map, at least ``ratio``.
        ratio: between the two 1x1 convolutions there are C / ratio channels (2 in the authors' code).
    """

    def __init__(self, channels: int, ratio: int = 2):
        super().__init__()
        if channels < ratio:
            raise ValueError(f"channels must be at least the ratio {ratio}, got {channels}")
        hidden = channels // ratio
        self.key = nn.Conv2d(channels, 1, kernel_size=1)  # W_k
        self.transform = nn.Sequential(
            nn.Conv2d(channels, hidden, kernel_size=1),  # W_v1
            nn.LayerNorm([hidden, 1, 1]),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, kernel_size=1),  # W_v2
        )
        nn.init.kaiming_normal_(self.key.weight, mode="fan_in")
        nn.init.zeros_(cast(Tensor, self.key.bias))
        start_as_identity(self.transform[-1])

    def context_weights(self, features: Tensor) -> Tensor:
        """softmax_j(W_k F_j): one weight per pixel, the same for every query. (N, C, H, W) -> (N, 1, HW), sums to 1."""
        return torch.softmax(self.key(features).flatten(2), dim=-1)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        weights = self.context_weights(features)  # (N, 1, HW)
        context = features.flatten(2) @ weights.transpose(1, 2)  # (N, C, 1)
        return features + self.transform(context[..., None])  # one vector, broadcast over H and W


class NonLocalBlock(nn.Module):
    """R(F)_i = F_i + W_z sum_j softmax_j(theta_i . phi_j) g_j: relates all pixels to all (Wang et al., CVPR 2018).

    Memory per image grows with (H W)^2: 1 GB in float32 for a 128 x 128 map. The last layer starts at zero, so R
    starts as the identity.
    """

    def __init__(self, channels: int, ratio: int = 2):
        super().__init__()
        hidden = max(channels // ratio, 1)
        self.query = nn.Conv2d(channels, hidden, kernel_size=1)  # theta
        self.key = nn.Conv2d(channels, hidden, kernel_size=1)  # phi
        self.value = nn.Conv2d(channels, hidden, kernel_size=1)  # g
        self.output = nn.Conv2d(hidden, channels, kernel_size=1)  # W_z
        start_as_identity(self.output)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        query, key, value = (  # each (N, C', HW)
            layer(features).flatten(2) for layer in (self.query, self.key, self.value))
        weights = torch.softmax(query.transpose(1, 2) @ key, dim=-1)  # (N, HW, HW), rows sum to 1
        gathered = (value @ weights.transpose(1, 2)).view(*value.shape[:2], *features.shape[2:])
        return features + self.output(gathered)


def start_as_identity(last: Any) -> None:
    """Zero the last layer of a residual block, so that the block returns its input until it is trained."""
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)


class RelationTerm(nn.Module):
    """Squared distance between R_s(student) and R_t(teacher) before lambda (eq. 12), summed, averaged over the batch.

    Args:
        channels: C of both maps (the student's after its align layer).
        kind: ``gc``, ``mse``, ``centred`` or ``nonlocal``; see the head of this file.
    Differs: both blocks are trained, the teacher's too, as in the authors' code; the paper does not say.
    """

    def __init__(self, channels: int, kind: str = "gc"):
        super().__init__()
        blocks = {"gc": GcBlock, "nonlocal": NonLocalBlock}
        check_choice("relation", kind, RELATIONS[:-1])  # without "none"
        self.kind = kind
        self.student = blocks[kind](channels) if kind in blocks else nn.Identity()
        self.teacher = blocks[kind](channels) if kind in blocks else nn.Identity()

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Two maps (N, C, H, W) -> a scalar >= 0."""
        difference = self.student(student) - self.teacher(teacher)
        if self.kind == "centred":
            difference = difference - difference.mean(dim=(2, 3), keepdim=True)
        return difference.square().sum() / len(student)
