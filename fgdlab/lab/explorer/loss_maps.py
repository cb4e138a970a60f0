"""What the loss sees in two maps of one image, as small arrays that a slider may ask for again and again.

    maps (C, H, W) of student and teacher --compare--> Pair       once an image: G^S, G^C, squared error, cells of the global term
    Pair, masks, T                        --weigh-->   Weighed    at every move: A^S, A^C, each cell's part of each term

Equal by test to what FGDLoss computes from the maps; here the sums stay open, cell by cell, and nothing needs a gradient.
"""
from dataclasses import dataclass, replace

import numpy as np
import torch

from fgdlab.attention import Attention
from fgdlab.config import FGDConfig
from fgdlab.fgd import FGDLoss
from fgdlab.focal import feature_error
from fgdlab.pyramid import check_same_shape

WEIGHT_OF = {"fg": "alpha", "both": "alpha", "bg": "beta", "attention": "gamma", "global": "lambda_"}          # term -> its coefficient


@dataclass(frozen=True, eq=False)
class Pair:
    """Two maps of one level and what does not change with T or a weight.

    student (C, H, W) after f, teacher (C, H, W). error_mean (H, W): mean over channels of (F^T - f(F^S))^2.
    spatial, channel: G^S (H, W) and G^C (C,) of eqs. 5-6, by network. relation (H, W): each cell's part of the global sum, eq. 12.
    context: softmax_j(W_k F_j) (H, W) by network, the same for every query; {} where R is no GcBlock.
    """

    student: np.ndarray
    teacher: np.ndarray
    error_mean: np.ndarray
    spatial: dict[str, np.ndarray]
    channel: dict[str, np.ndarray]
    relation: np.ndarray
    context: dict[str, np.ndarray]

    @property
    def nbytes(self) -> int:
        return self.student.nbytes + 8 * self.error_mean.nbytes


@dataclass(frozen=True, eq=False)
class Weighed:
    """spatial, channel: A^S (H, W), A^C (C,) of eqs. 7-8 by network. cells: {term: (H, W)} before the coefficient. raw: {term: sum}.

    The cells of a term sum to its raw, but for ``attention``: the L1 between A^C belongs to no cell, it is ``raw`` less the cells.
    """

    spatial: dict[str, np.ndarray]
    channel: dict[str, np.ndarray]
    cells: dict[str, np.ndarray]
    raw: dict[str, float]


def open_config(config: FGDConfig) -> FGDConfig:
    """The same switches with every coefficient above 0, so that a loss built of it has the layers of every term a slider can turn on."""
    return replace(config, alpha=1.0, beta=1.0, gamma=1.0, lambda_=1.0)


def terms_of(config: FGDConfig) -> tuple[str, ...]:
    """Terms that the switches leave, whatever the coefficients: a slider at 0 silences a term, a switch removes it."""
    return tuple(open_config(config).weights())


@torch.no_grad()
def compare(student: torch.Tensor, teacher: torch.Tensor, loss: FGDLoss, level: str) -> Pair:
    """Reduce two maps of one level.

    Args:
        student, teacher: (C_s, H, W), (C_t, H, W), float32, on the device of ``loss``.
        loss: gives f and R of this level; it must have the layers of ``open_config``.
    """
    student, teacher = student[None], teacher[None]
    student = loss.align[level](student) if loss.align else student
    check_same_shape(student, teacher)
    error = (teacher - student).square()[0].mean(dim=0)                          # (H, W)
    relation, context = torch.zeros_like(error), {}
    if level in loss.relation:
        block = loss.relation[level]
        related = block.student(student) - block.teacher(teacher)                # R_s(S) - R_t(T), the inside of eq. 12
        if block.kind == "centred":
            related = related - related.mean(dim=(2, 3), keepdim=True)
        relation = related.square().sum(dim=1)[0]                                # (H, W)
        if block.kind == "gc":
            context = {who: each.context_weights(map_).view(map_.shape[-2:]) for who, each, map_ in (
                ("student", block.student, student), ("teacher", block.teacher, teacher))}
    magnitude = {"student": student[0].abs(), "teacher": teacher[0].abs()}
    return Pair(
        student=array(student[0]), teacher=array(teacher[0]), error_mean=array(error),
        spatial={who: array(each.mean(dim=0)) for who, each in magnitude.items()},
        channel={who: array(each.mean(dim=(1, 2))) for who, each in magnitude.items()},
        relation=array(relation), context={who: array(each) for who, each in context.items()},
    )


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()


def sharpened(mean: np.ndarray, temperature: float) -> np.ndarray:
    """size * softmax(G / T): eqs. 7-8 from G^S or G^C. Sums to the number of entries; 1 is the average one."""
    exponent = mean.astype(np.float64) / temperature
    weights = np.exp(exponent - exponent.max())
    return mean.size * weights / weights.sum()


def weigh(pair: Pair, fg: np.ndarray, bg: np.ndarray, temperature: float, config: FGDConfig) -> Weighed:
    """Attentions at T, and each cell's part of each term that ``config`` computes.

    Args:
        fg, bg: (H, W) weights of ``masks_of``. With area="both" fg is the one mask of the unsplit sum.
        config: its switches count, its coefficients and its T do not.
    """
    spatial = {who: sharpened(each, temperature) for who, each in pair.spatial.items()}
    channel = {who: sharpened(each, temperature) for who, each in pair.channel.items()}
    a_spatial = spatial["teacher"] if config.spatial_attention else np.ones_like(spatial["teacher"])
    a_channel = channel["teacher"] if config.channel_attention else np.ones_like(channel["teacher"])
    weights = Attention(*(torch.from_numpy(each.astype(np.float32))[None] for each in (a_spatial, a_channel)))
    error = feature_error(torch.from_numpy(pair.student)[None], torch.from_numpy(pair.teacher)[None], weights)[0].numpy()
    apart = np.abs(spatial["student"] - spatial["teacher"]) if config.spatial_attention else np.zeros_like(error)
    every = {"fg": error * fg, "both": error * fg, "bg": error * bg, "attention": apart, "global": pair.relation}
    cells = {name: every[name] for name in terms_of(config)}
    raw = {name: float(each.sum(dtype=np.float64)) for name, each in cells.items()}
    if "attention" in raw and config.channel_attention:
        raw["attention"] += float(np.abs(channel["student"] - channel["teacher"]).sum())
    return Weighed(spatial, channel, cells, raw)


def gap(pair: Pair, weighed: Weighed, inside: np.ndarray) -> dict[str, float | None]:
    """How far apart the networks are on objects and off them, without any weight of the loss.

    Args:
        inside: (H, W) bool, cells in a box.
    Returns:
        feature_fg, feature_bg: root of the mean of (T - S)^2 over those cells and all channels. attention_fg, attention_bg: mean of
        |A^S of teacher - A^S of student| over those cells. None where there is no such cell.
    """
    apart = np.abs(weighed.spatial["teacher"] - weighed.spatial["student"])

    def mean(values: np.ndarray, where: np.ndarray) -> float | None:
        return float(values[where].mean(dtype=np.float64)) if where.any() else None

    feature = {name: mean(pair.error_mean, where) for name, where in (("fg", inside), ("bg", ~inside))}
    return {
        **{f"feature_{name}": None if value is None else value ** 0.5 for name, value in feature.items()},
        "attention_fg": mean(apart, inside), "attention_bg": mean(apart, ~inside),
    }


def by_gap(student: np.ndarray, teacher: np.ndarray) -> np.ndarray:
    """Channels from the largest |teacher - student| to the smallest; equal gaps in the order of their numbers."""
    return np.argsort(-np.abs(teacher - student), kind="stable")
