"""The whole FGD loss: masks, attention, focal and global terms on every pyramid level (eqs. 9-14).

Focal and Global Knowledge Distillation for Detectors, Yang et al., CVPR 2022. The equations and their files:

    1 plain feature loss      relation.py "mse"       8 channel attention A^C   attention.py
    2 binary mask M           masks.py                9 feature loss            focal.py
    3 scale mask S            masks.py               10 attention loss          focal.py
    4 background count N_bg   masks.py               11 focal loss              here: 9 + 10
    5 G^S, 6 G^C              attention.py           12 global loss             relation.py
    7 spatial attention A^S   attention.py           13 R(F)                    relation.py
                                                     14 total                   terms.py
"""
from collections.abc import Callable

from torch import Tensor, nn

from .attention import attention, attention_of, without
from .config import FGDConfig
from .focal import attention_term, feature_terms
from .masks import FocalMasks, focal_masks, unsplit_masks
from .pyramid import Channels, PyramidLoss, check_box_count
from .relation import RelationTerm
from .scene import Scene, grid_of, sum_dtype
from .terms import Term

MASKED = {"fg", "bg", "both"}  # terms that need masks
Relation = Callable[[Tensor, Tensor], Tensor]  # the maps of student and teacher -> the sum of eq. 12


def masks_of(
    config: FGDConfig, scene: Scene, maps: Tensor, draw: Callable[..., FocalMasks] = focal_masks,
) -> FocalMasks:
    """M * S and (1 - M) * S of a configuration, on the grid of ``maps`` (N, C, H, W).

    Args:
        draw: focal_masks, or another implementation of it.
    """
    check_box_count(scene, len(maps))
    grid_size, dtype = grid_of(maps), sum_dtype(maps)
    if config.area == "both":
        return unsplit_masks(len(maps), grid_size, dtype, maps.device)
    frame_sizes = scene.frame_sizes(config.frame)
    return draw(scene.boxes, frame_sizes, grid_size, rounding=config.rounding, axes=config.axes, dtype=dtype)


def term_sums(
    student: Tensor, teacher: Tensor, masks: FocalMasks | None, relation: Relation | None, config: FGDConfig,
) -> dict[str, Tensor]:
    """{term: its sum before the coefficient, averaged over the batch} of one level.

    Args:
        student, teacher: as in :func:`fgdlab.focal.feature_error`.
        masks: None where no term needs them.
        relation: R of eq. 13; None without the global term.
    """
    weights = config.weights()
    off = {"spatial": not config.spatial_attention, "channel": not config.channel_attention}
    attention_t = attention_s = without(attention(teacher, config.temperature), **off)
    if "attention" in weights or config.attention_of != "teacher":
        attention_s = without(attention(student, config.temperature), **off)
    sums = {}
    if masks is not None:
        weighing = attention_of(config.attention_of, attention_s, attention_t)
        sums["fg"], sums["bg"] = feature_terms(student, teacher, masks, weighing)
        sums["both"] = sums["fg"]  # unsplit: M = 1, so the one sum is the fg sum
    if "attention" in weights:
        sums["attention"] = attention_term(attention_s, attention_t)
    if relation is not None:
        sums["global"] = relation(student, teacher)
    return {name: sums[name] for name in weights}


class FGDLoss(PyramidLoss):
    """FGD between the FPN maps of a student's scene and a teacher's. Every sum runs in float32, also under autocast.

    >>> terms = FGDLoss(("P3", "P4"), 8, 16)(scene, taught)
    >>> [term.name for term in terms if term.level == "P3"]
    ['fg', 'bg', 'attention', 'global']

    Args:
        levels: pyramid levels to imitate, e.g. ``("P3", "P4", "P5", "P6", "P7")``.
        student_channels, teacher_channels: C of the two pyramids, one number or {level: C}; a 1x1 convolution f aligns
            them where they differ.
        config: coefficients and switches.
    Differs: the paper writes f in every case. Here, as in the authors' code since 2022, f exists where channels differ.
    """

    def __init__(
        self, levels: tuple[str, ...], student_channels: Channels, teacher_channels: Channels,
        config: FGDConfig = FGDConfig(),
    ):
        self.weights = config.weights()
        super().__init__(levels, student_channels, teacher_channels, align=1 if self.weights else 0)
        self.config = config
        levels_with_relation = levels if "global" in self.weights else ()
        self.relation = nn.ModuleDict(
            {level: RelationTerm(self.teacher_channels[level], config.relation) for level in levels_with_relation})

    def on_level(self, level: str, scene: Scene, teacher: Tensor) -> list[Term]:
        if not self.weights:
            return []
        student = self.aligned(scene, level)  # f: (N, C_s, H, W) -> (N, C_t, H, W)
        masks = masks_of(self.config, scene, teacher) if self.weights.keys() & MASKED else None
        relation = self.relation[level] if "global" in self.weights else None
        sums = term_sums(student, teacher, masks, relation, self.config)
        return [Term(name, level, sums[name], weight) for name, weight in self.weights.items()]
