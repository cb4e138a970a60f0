"""FBKD: attention-guided and non-local distillation (Zhang and Ma, ICLR 2021), the method that FGD grew out of.

Improve Object Detection with Feature-based Knowledge Distillation: Towards Accurate and Efficient Detectors. On every level, with
F_s, F_t the maps (N, C, H, W) of student and teacher and |.| the L2 norm over the whole batch:

    feature     | sqrt(M) (F_t - f(F_s)) |        M = M^S, or M^S M^C with ``channel_mask``;  f a 1x1 convolution
    channel     | mean_hw F_t - Linear(mean_hw F_s) |
    spatial     | mean_c F_t - conv3x3(mean_c F_s) |
    relation    | NL_t(F_t) - conv1x1(NL_s(F_s)) |

M^S = (A^S(F_s) + A^S(F_t)) / 2 and M^C likewise are constants; A^S and A^C are the attentions of attention.py, which FGD took over.
In the paper's words: attention mask = feature, attention transfer = channel and spatial, non-local distillation = relation.
"""
import re
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..attention import attention
from ..pyramid import PyramidLoss, check_same_shape
from ..scene import Scene
from ..terms import Term

PARTS = ("feature", "channel", "spatial", "relation")
COARSE = 2                                                           # reduction and pool of every level that a configuration does not name


@dataclass(frozen=True)
class FBKDConfig:
    """Weights and switches. Defaults: the two-stage settings of the authors' code.

    A weight of 0 removes the term *and* its layers. ``reduction`` and ``pool`` name levels; any other level has 2, as in the authors' code.
    """

    feature_weight: float = 7e-5
    channel_weight: float = 4e-3
    spatial_weight: float = 4e-3
    relation_weight: float = 7e-5
    spatial_temperature: float = 0.5    # of A^S in the mask M^S
    channel_temperature: float = 0.5    # of A^C in the mask M^C
    spatial_mask: bool = True           # weigh the feature term by M^S; off = 1 everywhere
    channel_mask: bool = False          # weigh it by M^C, too
    reduction: dict[str, int] = field(default_factory=lambda: {"P2": 4, "P3": 4}, hash=False)     # inside the non-local block C / reduction channels
    pool: dict[str, int] = field(default_factory=lambda: {"P2": 8, "P3": 4}, hash=False)          # every pixel asks pool x pool windows, not pixels

    def __post_init__(self):
        for part, weight in self.all_weights().items():
            if not 0 <= weight < float("inf"):
                raise ValueError(f"{part}_weight must be a finite number >= 0, got {weight}")
        for name in ("spatial_temperature", "channel_temperature"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be a finite number > 0, got {getattr(self, name)}")
        for name in ("reduction", "pool"):
            for level, value in getattr(self, name).items():
                if not (re.fullmatch(r"P\d+", str(level)) and isinstance(value, int) and value >= 1):
                    raise ValueError(f"{name} must have a whole number >= 1 for a level such as 'P3', got {level!r}: {value!r}; 1 leaves it out")

    def all_weights(self) -> dict[str, float]:
        return {part: getattr(self, f"{part}_weight") for part in PARTS}

    def weights(self) -> dict[str, float]:
        """{term: weight} of the terms that this configuration computes; none has weight 0."""
        return {part: weight for part, weight in self.all_weights().items() if weight}


# What public copies of the authors' code use: one-stage is two-stage times 6, at another temperature, and with both masks. They count levels
# from the finest, so P3 of a one-stage pyramid has what P2 of a two-stage one has.
# Differs: the paper is said to have T = 0.1 for two-stage and T = 0.5 for one-stage detectors, the other way round, and 4e-4, 2e-2, 4e-4 for
# the latter; that is not confirmed, so T is a setting and neither is claimed.
FBKD_PRESETS = {
    "two_stage": FBKDConfig(),
    "one_stage": FBKDConfig(
        4.2e-4, 2.4e-2, 2.4e-2, 4.2e-4, spatial_temperature=0.1, channel_temperature=0.1, channel_mask=True,
        reduction={"P3": 4, "P4": 4}, pool={"P3": 8, "P4": 4},
    ),
}


class PooledNonLocal(nn.Module):
    """NL(F)_i = F_i + BN(W_z sum_j (theta_i . phi_j) g_j / J): every pixel i asks the J pooled windows j (Wang et al., CVPR 2018).

    The dot product stands where relation.py has a softmax, so the sums may be taken in the cheaper order: first phi g over all windows,
    a C' x C' matrix, then theta times it. No matrix of pixels by windows is ever made. Starts as the identity: the gain of BN is 0.

    Args:
        channels: C of the map.
        reduction: C' = C / reduction channels inside, at least 1.
        pool: side in cells of the windows over which phi and g take their maximum. A map smaller than that is one window along that side;
            a rest that fills no window is left out.
    Differs: the authors' convolutions W_z have a bias, which BN takes out again.
    """

    def __init__(self, channels: int, reduction: int = COARSE, pool: int = COARSE):
        super().__init__()
        hidden = max(channels // reduction, 1)
        self.pool = pool
        self.query = nn.Conv2d(channels, hidden, kernel_size=1)                 # theta
        self.key = nn.Conv2d(channels, hidden, kernel_size=1)                   # phi
        self.value = nn.Conv2d(channels, hidden, kernel_size=1)                 # g
        self.output = nn.Conv2d(hidden, channels, kernel_size=1, bias=False)    # W_z
        self.norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        n, _, h, w = features.shape
        window = min(self.pool, h), min(self.pool, w)
        key, value = (F.max_pool2d(layer(features), window).flatten(2) for layer in (self.key, self.value))     # each (N, C', J)
        memory = value @ key.transpose(1, 2) / key.shape[-1]                    # sum_j g_j phi_j / J: (N, C', C')
        gathered = memory @ self.query(features).flatten(2)                     # (N, C', HW)
        return features + self.normed(self.output(gathered.view(n, -1, h, w)))

    def normed(self, each: Tensor) -> Tensor:
        """BN; a batch of one cell has no variance, so the running one stands in."""
        if self.training and each[:, 0].numel() == 1:
            return F.batch_norm(each, self.norm.running_mean, self.norm.running_var, self.norm.weight, self.norm.bias, eps=self.norm.eps)
        return self.norm(each)


class NonLocalTerm(nn.Module):
    """| NL_t(F_t) - conv1x1(NL_s(F_s)) |. Both blocks are trained, the teacher's too, as in the authors' code."""

    def __init__(self, student_channels: int, teacher_channels: int, reduction: int, pool: int):
        super().__init__()
        self.student = PooledNonLocal(student_channels, reduction, pool)
        self.teacher = PooledNonLocal(teacher_channels, reduction, pool)
        self.align = nn.Conv2d(student_channels, teacher_channels, kernel_size=1)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """(N, C_s, H, W), (N, C_t, H, W) -> a scalar >= 0."""
        return distance(self.align(self.student(student)), self.teacher(teacher))


def distance(student: Tensor, teacher: Tensor) -> Tensor:
    """sqrt(sum (F_t - F_s)^2) over everything, a scalar. Unlike sqrt(sum()) its gradient at distance 0 is 0, not 0/0."""
    return torch.linalg.vector_norm(teacher - student)


class FBKDLoss(PyramidLoss):
    """The four terms of FBKD on every level, in float32.

    All are norms over the whole batch, neither squared nor divided by N: four times the images weigh twice as much, as in the authors' code.

    Args:
        levels: pyramid levels to imitate. The authors take every output of the neck: P2-P6 of two-stage, P3-P7 of one-stage detectors.
        student_channels, teacher_channels: C of the two pyramids. All layers exist also where they agree.
        config: weights and switches; ``FBKD_PRESETS`` has the published ones.
    Differs: the paper is said to add both attentions before one softmax, and to transfer means of |F|; the authors' code averages two
        softmaxes and transfers signed means, and so does this. Where channels differ, M^C takes the attention of the aligned student.
        MMRazor pools twice, first by 2: its ``maxpool_stride`` 8 is ``pool`` 16 here.
    """

    PARTS = PARTS

    def __init__(self, levels: tuple[str, ...], student_channels: int, teacher_channels: int, config: FBKDConfig = FBKDConfig()):
        super().__init__(levels, student_channels, teacher_channels, align=1 if config.feature_weight else 0, always=True)
        self.config = config

        def layers(part: str, make) -> nn.ModuleDict:
            return nn.ModuleDict({level: make(level) for level in levels} if part in config.weights() else {})

        self.channel = layers("channel", lambda level: nn.Linear(student_channels, teacher_channels))
        self.spatial = layers("spatial", lambda level: nn.Conv2d(1, 1, kernel_size=3, padding=1))
        self.relation = layers("relation", lambda level: NonLocalTerm(
            student_channels, teacher_channels, config.reduction.get(level, COARSE), config.pool.get(level, COARSE)))

    def on_level(self, level: str, scene: Scene, teacher: Tensor) -> list[Term]:
        """The terms of one level; ``teacher`` is (N, C_t, H, W) on the same grid as the student's map."""
        student, raw, weights = scene.features[level], {}, self.config.weights()
        check_same_shape(student[:, :1], teacher[:, :1])
        if "feature" in weights:
            aligned = self.aligned(scene, level)
            root = self.mask(student, aligned, teacher).sqrt()
            raw["feature"] = distance(root * aligned, root * teacher)
        if "channel" in weights:
            raw["channel"] = distance(self.channel[level](student.mean(dim=(2, 3))), teacher.mean(dim=(2, 3)))
        if "spatial" in weights:
            raw["spatial"] = distance(self.spatial[level](student.mean(dim=1, keepdim=True)), teacher.mean(dim=1, keepdim=True))
        if "relation" in weights:
            raw["relation"] = self.relation[level](student, teacher)
        return [Term(part, level, raw[part], weight) for part, weight in weights.items()]

    @torch.no_grad()
    def mask(self, student: Tensor, aligned: Tensor, teacher: Tensor) -> Tensor:
        """M: (N, 1, H, W), or (N, C_t, H, W) with ``channel_mask``. Every factor is 1 on average over pixels or channels.

        Args:
            student, aligned, teacher: the student's map before and after f, and the teacher's.
        """
        config, mask = self.config, torch.ones_like(teacher[:, :1])
        if config.spatial_mask:
            both = [attention(each, config.spatial_temperature).spatial for each in (student, teacher)]
            mask = mask * (sum(both) / 2)[:, None]
        if config.channel_mask:
            student = student if student.shape[1] == teacher.shape[1] else aligned
            both = [attention(each, config.channel_temperature).channel for each in (student, teacher)]
            mask = mask * (sum(both) / 2)[:, :, None, None]
        return mask
