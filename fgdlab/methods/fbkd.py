"""FBKD: attention-guided and non-local distillation, the method that FGD developed from.

Improve Object Detection with Feature-based Knowledge Distillation: Towards Accurate and Efficient Detectors (Zhang and
Ma, ICLR 2021), https://openreview.net/forum?id=uKhGRvM8QNH. On every level, with |.| the L2 norm over the whole batch:

    feature     | sqrt(M) (F_t - f(F_s)) |        M = M^S, or M^S M^C with ``channel_mask``;  f a 1x1 convolution
    channel     | mean_hw F_t - Linear(mean_hw F_s) |
    spatial     | mean_c F_t - conv3x3(mean_c F_s) |
    relation    | NL_t(F_t) - conv1x1(NL_s(F_s)) |

M^S = (A^S(F_s) + A^S(F_t)) / 2 and M^C likewise are constants; A^S and A^C are the attentions of attention.py. In the
paper's words: attention mask = feature, attention transfer = channel and spatial, non-local distillation = relation.
"""
import re
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..attention import attention
from ..config import check_positive
from ..pyramid import Channels, PyramidLoss
from ..scene import Scene
from ..terms import Term
from .base import nonzero_weights

PARTS = ("feature", "channel", "spatial", "relation")
DEFAULT = 2  # reduction and pool of every level that a configuration does not name, as in the authors' code


@dataclass(frozen=True)
class FBKDConfig:
    """Weights and switches. Defaults: the two-stage settings of the authors' code.

    A weight of 0 removes the term and its layers. Levels that ``reduction`` or ``pool`` do not name have 2.

    >>> FBKDConfig(feature_weight=0, relation_weight=0).weights()
    {'channel': 0.004, 'spatial': 0.004}
    """

    feature_weight: float = 7e-5
    channel_weight: float = 4e-3
    spatial_weight: float = 4e-3
    relation_weight: float = 7e-5
    spatial_temperature: float = 0.5    # of A^S in the mask M^S
    channel_temperature: float = 0.5    # of A^C in the mask M^C
    spatial_mask: bool = True           # weigh the feature term by M^S; off = 1 everywhere
    channel_mask: bool = False          # weigh it by M^C, too
    reduction: dict[str, int] = field(  # the non-local block has C / reduction channels inside
        default_factory=lambda: {"P2": 4, "P3": 4}, hash=False)
    pool: dict[str, int] = field(  # keys and values of the block are pooled over pool x pool windows
        default_factory=lambda: {"P2": 8, "P3": 4}, hash=False)

    def __post_init__(self) -> None:
        self.weights()  # refuses a negative one
        check_positive(spatial_temperature=self.spatial_temperature, channel_temperature=self.channel_temperature)
        for name in ("reduction", "pool"):
            for level, value in getattr(self, name).items():
                if not (re.fullmatch(r"P\d+", str(level)) and isinstance(value, int) and value >= 1):
                    must = f"{name} must have a whole number >= 1 for a level such as 'P3'"
                    raise ValueError(f"{must}, got {level!r}: {value!r}; 1 leaves it out")

    def weights(self) -> dict[str, float]:
        return nonzero_weights(PARTS, *(getattr(self, f"{part}_weight") for part in PARTS))


# Of public copies of the authors' code. They count levels from the finest: P3 of a one-stage pyramid is as P2 of a
# two-stage one.
# Differs: the paper is said to have T = 0.1 for two-stage and T = 0.5 for one-stage detectors, and weights 4e-4, 2e-2,
# 4e-4 for the latter. That is not confirmed.
FBKD_PRESETS = {
    "two_stage": FBKDConfig(),
    "one_stage": FBKDConfig(
        4.2e-4, 2.4e-2, 2.4e-2, 4.2e-4, spatial_temperature=0.1, channel_temperature=0.1, channel_mask=True,
        reduction={"P3": 4, "P4": 4}, pool={"P3": 8, "P4": 4},
    ),
}


class PooledNonLocal(nn.Module):
    """NL(F)_i = F_i + BN(W_z sum_j (theta_i . phi_j) g_j / J) over the J pooled windows j (Wang et al., CVPR 2018).

    Starts as the identity, because the weight of BN starts at 0.

    Args:
        channels: C of the map.
        reduction: C' = C / reduction channels inside, at least 1.
        pool: side in cells of the windows over which phi and g take their maximum, at most the map's side. Cells that
            fill no window are left out.
    Differs: the authors' convolution W_z has a bias, which BN removes again.
    """

    def __init__(self, channels: int, reduction: int = DEFAULT, pool: int = DEFAULT):
        super().__init__()
        hidden = max(channels // reduction, 1)
        self.pool = pool
        self.query = nn.Conv2d(channels, hidden, kernel_size=1)  # theta
        self.key = nn.Conv2d(channels, hidden, kernel_size=1)  # phi
        self.value = nn.Conv2d(channels, hidden, kernel_size=1)  # g
        self.output = nn.Conv2d(hidden, channels, kernel_size=1, bias=False)  # W_z
        self.norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)

    def forward(self, features: Tensor) -> Tensor:
        n, _, h, w = features.shape
        window = min(self.pool, h), min(self.pool, w)
        key, value = (F.max_pool2d(layer(features), window).flatten(2) for layer in (self.key, self.value))
        memory = value @ key.transpose(1, 2) / key.shape[-1]  # sum_j g_j phi_j / J: (N, C', J) -> (N, C', C')
        gathered = memory @ self.query(features).flatten(2)   # (N, C', HW)
        return features + self.normed(self.output(gathered.view(n, -1, h, w)))

    def normed(self, maps: Tensor) -> Tensor:
        """BN. A batch of one cell has no variance, so it takes the running one."""
        if self.training and maps[:, 0].numel() == 1:
            norm = self.norm
            return F.batch_norm(maps, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        return self.norm(maps)


class NonLocalTerm(nn.Module):
    """| NL_t(F_t) - conv1x1(NL_s(F_s)) |. Both blocks are trained, the teacher's too, as in the authors' code."""

    def __init__(self, student_channels: int, teacher_channels: int, reduction: int, pool: int):
        super().__init__()
        self.student = PooledNonLocal(student_channels, reduction, pool)
        self.teacher = PooledNonLocal(teacher_channels, reduction, pool)
        self.align = nn.Conv2d(student_channels, teacher_channels, kernel_size=1)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return distance(self.align(self.student(student)), self.teacher(teacher))


def distance(student: Tensor, teacher: Tensor) -> Tensor:
    """sqrt(sum (F_t - F_s)^2), a scalar. Its gradient at distance 0 is 0."""
    return torch.linalg.vector_norm(teacher - student)


class FBKDLoss(PyramidLoss):
    """Norms over the whole batch: four times the images give twice the loss.

    >>> [term.name for term in FBKDLoss(("P3",), 8, 16)(scene, taught)]
    ['feature', 'channel', 'spatial', 'relation']

    Args:
        levels: the authors take every output of the neck: P2-P6 of two-stage, P3-P7 of one-stage detectors.
        student_channels, teacher_channels: all layers exist also where they agree.
        config: one of ``FBKD_PRESETS``, or another.
    Differs:
        - The paper is said to add both attentions before one softmax, and to transfer means of |F|. This is the
          authors' code: the mean of two softmaxes, and signed means.
        - Where channels differ, M^C takes the attention of the aligned student.
        - MMRazor pools twice, first by 2: its ``maxpool_stride`` 8 is ``pool`` 16 here.
    """

    PARTS = PARTS

    def __init__(
        self, levels: tuple[str, ...], student_channels: Channels, teacher_channels: Channels,
        config: FBKDConfig = FBKDConfig(),
    ):
        weights = config.weights()
        super().__init__(
            levels, student_channels, teacher_channels, align=1 if config.feature_weight else 0, always=True)
        self.config = config
        channels = {level: (self.student_channels[level], self.teacher_channels[level]) for level in levels}

        self.channel, self.spatial, self.relation = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        if "channel" in weights:
            self.channel.update({level: nn.Linear(*channels[level]) for level in levels})
        if "spatial" in weights:
            self.spatial.update({level: nn.Conv2d(1, 1, kernel_size=3, padding=1) for level in levels})
        for level in levels if "relation" in weights else ():
            reduction, pool = config.reduction.get(level, DEFAULT), config.pool.get(level, DEFAULT)
            self.relation[level] = NonLocalTerm(*channels[level], reduction, pool)

    def on_level(self, level: str, scene: Scene, teacher: Tensor) -> list[Term]:
        student, raw, weights = scene.features[level], {}, self.config.weights()
        if "feature" in weights:
            aligned = self.aligned(scene, level)
            root = self.mask(student, aligned, teacher).sqrt()
            raw["feature"] = distance(root * aligned, root * teacher)
        if "channel" in weights:
            raw["channel"] = distance(self.channel[level](student.mean(dim=(2, 3))), teacher.mean(dim=(2, 3)))
        if "spatial" in weights:
            mean_s, mean_t = (maps.mean(dim=1, keepdim=True) for maps in (student, teacher))
            raw["spatial"] = distance(self.spatial[level](mean_s), mean_t)
        if "relation" in weights:
            raw["relation"] = self.relation[level](student, teacher)
        return [Term(part, level, raw[part], weight) for part, weight in weights.items()]

    @torch.no_grad()
    def mask(self, student: Tensor, aligned: Tensor, teacher: Tensor) -> Tensor:
        """M (N, 1, H, W), or (N, C_t, H, W) with ``channel_mask``; ``aligned`` is f(F_s)."""
        config, mask = self.config, torch.ones_like(teacher[:, :1])
        if config.spatial_mask:
            a_s, a_t = (attention(maps, config.spatial_temperature).spatial for maps in (student, teacher))
            mask = mask * ((a_s + a_t) / 2)[:, None]
        if config.channel_mask:
            student = student if student.shape[1] == teacher.shape[1] else aligned
            a_s, a_t = (attention(maps, config.channel_temperature).channel for maps in (student, teacher))
            mask = mask * ((a_s + a_t) / 2)[:, :, None, None]
        return mask
