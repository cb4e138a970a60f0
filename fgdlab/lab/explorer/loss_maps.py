"""The loss per cell and term for two maps of one image; tests hold the sums equal to those of FGDLoss."""
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.special import softmax

from fgdlab.attention import Attention, attention_of, without
from fgdlab.config import TERMS, FGDConfig
from fgdlab.fgd import FGDLoss
from fgdlab.focal import feature_error
from fgdlab.pyramid import check_same_shape
from fgdlab.relation import RelationTerm

CACHED_VALUES = 2**17  # that the processor's cache holds
WEIGHT_OF = TERMS


@dataclass(frozen=True, eq=False)
class MapPair:
    """Two maps (C, H, W) of one level, the student's after f, and what depends on neither T nor a loss weight.

    error_mean: (H, W), mean over channels of (F^T - f(F^S))^2. relation: (H, W), each cell's part of eq. 12.
    spatial, channel: {network: G^S (H, W)}, {network: G^C (C,)} of eqs. 5-6.
    context: {network: softmax_j(W_k F_j) (H, W)}, the same for every query; {} if R is no GcBlock.
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
class LossMaps:
    """spatial, channel: {network: A^S (H, W)}, {network: A^C (C,)} of eqs. 7-8. error: eq. 9 before the masks.

    cells: {term: (H, W)}, which sum to ``raw``; but the L1 between the A^C of the attention term belongs to no cell.
    """

    spatial: dict[str, np.ndarray]
    channel: dict[str, np.ndarray]
    error: np.ndarray
    cells: dict[str, np.ndarray]
    raw: dict[str, float]


def all_terms_config(config: FGDConfig) -> FGDConfig:
    """The same switches with every weight above 0: the loss then has the layers of all terms."""
    return replace(config, alpha=1.0, beta=1.0, gamma=1.0, lambda_=1.0)


@torch.no_grad()
def map_pair(student: torch.Tensor, teacher: torch.Tensor, loss: FGDLoss, level: str) -> MapPair:
    """Reduce maps (C_s, H, W), (C_t, H, W) of a level with f and R of ``loss``, a few channels at a time."""
    student = loss.align[level](student[None])[0] if loss.align else student
    check_same_shape(student[None], teacher[None])
    added, context = added_by_relation(loss.relation[level], student, teacher) if loss.relation else (student, {})
    sums, channel = student.new_zeros(4, *student.shape[1:]), ([], [])  # over channels: |S|, |T|, (T - S)^2, eq. 12
    parts = (each.split(max(CACHED_VALUES // sums[0].numel(), 1)) for each in (student, teacher, added))
    for *maps, a in zip(*parts, strict=True):
        for i, each in enumerate(maps):
            amount = each.abs()
            sums[i] += amount.sum(dim=0)
            channel[i].append(amount.mean(dim=(1, 2)))
        gap = maps[1] - maps[0]
        sums[2] += gap.square().sum(dim=0)
        sums[3] += gap.sub_(a).square_().sum(dim=0)
    means = array(sums[:3] / len(student))
    return MapPair(
        array(student), array(teacher), means[2], spatial={"student": means[0], "teacher": means[1]},
        channel={"student": array(torch.cat(channel[0])), "teacher": array(torch.cat(channel[1]))},
        relation=array(sums[3] if loss.relation else torch.zeros_like(sums[3])), context=context,
    )


def added_by_relation(block: RelationTerm, student: torch.Tensor, teacher: torch.Tensor) -> tuple[torch.Tensor, dict]:
    """What R_s(S) - R_t(T) adds to S - T, (C, 1, 1) or (C, H, W); and {network: context weights (H, W)}."""
    if block.kind == "centred":
        return (teacher - student).mean(dim=(1, 2), keepdim=True), {}
    added, context = [], {}
    for name, maps in {"student": student[None], "teacher": teacher[None]}.items():
        r = getattr(block, name)
        if block.kind == "gc":  # one vector for all cells
            weights = r.context_weights(maps)
            added.append(r.transform((maps.flatten(2) @ weights.mT)[..., None]))
            context[name] = array(weights.view(maps.shape[2:]))
        else:
            added.append(r(maps) - maps)
    return (added[0] - added[1])[0], context


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy()


def attention_from_means(mean: np.ndarray, temperature: float) -> np.ndarray:
    """size * softmax(G / T), eqs. 7-8, from G^S or G^C."""
    return mean.size * softmax(mean.astype(np.float64) / temperature)


def loss_maps(pair: MapPair, fg: np.ndarray, bg: np.ndarray, temperature: float, config: FGDConfig) -> LossMaps:
    """Attention at T, and each cell's part of each term that the switches of ``config`` enable.

    fg, bg: (H, W) weights of ``masks_of``. With area="both" fg is the one mask of the unsplit sum.
    """
    spatial = {name: attention_from_means(each, temperature) for name, each in pair.spatial.items()}
    channel = {name: attention_from_means(each, temperature) for name, each in pair.channel.items()}
    off = {"spatial": not config.spatial_attention, "channel": not config.channel_attention}
    student, teacher = (
        without(Attention(*(torch.from_numpy(each[name])[None] for each in (spatial, channel))), **off)
        for name in ("student", "teacher")
    )
    weights = Attention(*(each.float() for each in attention_of(config.attention_of, student, teacher)))
    features = (torch.from_numpy(each)[None] for each in (pair.student, pair.teacher))
    error = feature_error(*features, weights)[0].numpy()  # (H, W), before the masks
    distance = (student.spatial - teacher.spatial)[0].abs().numpy()
    cells = {"fg": error * fg, "both": error * fg, "bg": error * bg, "attention": distance, "global": pair.relation}
    cells = {name: cells[name] for name in all_terms_config(config).weights()}
    raw = {name: float(each.sum(dtype=np.float64)) for name, each in cells.items()}
    if "attention" in raw:
        raw["attention"] += float((student.channel - teacher.channel).abs().sum())
    return LossMaps(spatial, channel, error, cells, raw)


def gap(pair: MapPair, maps: LossMaps, inside: np.ndarray) -> dict[str, float | None]:
    """Distances between student and teacher inside and outside of boxes; None if there is no such cell.

    feature_fg, feature_bg: root mean square of T - S over cells and channels. attention_fg, attention_bg: mean of
    |A^S of teacher - A^S of student| over cells. ``inside``: (H, W) bool.
    """
    distance = np.abs(maps.spatial["teacher"] - maps.spatial["student"])
    gaps = {}
    for name, area in (("fg", inside), ("bg", ~inside)):
        some = area.any()
        gaps[f"feature_{name}"] = float(pair.error_mean[area].mean(dtype=np.float64) ** 0.5) if some else None
        gaps[f"attention_{name}"] = float(distance[area].mean()) if some else None
    return gaps
