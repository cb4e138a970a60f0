"""The whole FGD loss: masks, attention, focal and global terms on every pyramid level (eqs. 9-14).

Focal and Global Knowledge Distillation for Detectors, Yang et al., CVPR 2022. Equations, read in the paper's order, and where they live:

    1 plain feature loss      relation.py "mse"       8 channel attention A^C   attention.py
    2 binary mask M           masks.py                9 feature loss            focal.py
    3 scale mask S            masks.py               10 attention loss          focal.py
    4 background count N_bg   masks.py               11 focal loss              here: 9 + 10
    5 G^S, 6 G^C              attention.py           12 global loss             relation.py
    7 spatial attention A^S   attention.py           13 R(F)                    relation.py
                                                     14 total                   terms.py
"""
from torch import Tensor, nn

from .attention import attention, attention_of, without
from .config import FGDConfig
from .focal import attention_term, feature_terms
from .fused.cuda.reductions import sum_dtype
from .fused.dispatch import why_readable
from .fused.levels import alike, sums_of_levels
from .fused.masks import PyramidMasks, painted_levels, side_by_side
from .masks import FocalMasks, focal_masks, unsplit_masks
from .pyramid import PyramidLoss, check_boxes, check_same_shape
from .relation import RelationTerm
from .scene import Scene, full_precision
from .terms import Term

MASKED = {"fg", "bg", "both"}                                        # terms that need masks


class FGDLoss(PyramidLoss):
    """FGD between the FPN maps of a student's scene and a teacher's. Every sum runs in float32, whatever the autocast.

    Args:
        levels: pyramid levels to imitate, e.g. ``("P3", "P4", "P5", "P6", "P7")``.
        student_channels, teacher_channels: C of the two pyramids; a 1x1 convolution f aligns the student's where they differ.
        config: coefficients and switches.
        fused: compute the same terms from one or two reads of both maps, for speed (see fused/); what this file says stays their definition.
    Differs: the paper writes f in every case; here, as in the authors' code since 2022, f exists only where channels differ.
    """

    def __init__(
        self, levels: tuple[str, ...], student_channels: int, teacher_channels: int, config: FGDConfig = FGDConfig(), *, fused: bool = False,
    ):
        self.weights = config.weights()
        super().__init__(levels, student_channels, teacher_channels, align=1 if self.weights else 0)
        self.config, self.fused, self.channels = config, fused, teacher_channels
        self.relation = nn.ModuleDict({level: RelationTerm(teacher_channels, config.relation) for level in levels} if "global" in self.weights else {})

    def on_scene(self, scene: Scene, teacher: dict[str, Tensor]) -> list[Term]:
        """The terms of all levels: one level after the other in the readable form, all at once in the fused one."""
        if not self.weights or not self.runs_fused(teacher):
            return super().on_scene(scene, teacher)
        students, teachers = [self.aligned(scene, level) for level in self.levels], [teacher[level] for level in self.levels]
        if not alike(students, teachers, self.channels):             # the readable form takes them, or says what is wrong
            return super().on_scene(scene.float(), full_precision(teacher))
        relations = self.relation.values() or [None] * len(teachers)
        raw = sums_of_levels(students, teachers, self.painted(scene, teachers), list(relations), self.config)
        return [Term(name, level, found[name], weight) for level, found in zip(self.levels, raw, strict=True) for name, weight in self.weights.items()]

    def on_level(self, level: str, scene: Scene, teacher: Tensor) -> list[Term]:
        """The terms of one level; ``teacher`` is (N, C_t, H, W) on the same grid as the student's map."""
        weights = self.weights
        if not weights:
            return []
        student = self.aligned(scene, level)                                              # f: (N, C_s, H, W) -> (N, C_t, H, W)
        check_same_shape(student, teacher)
        masks = self.masks(scene, teacher) if weights.keys() & MASKED else None
        raw = self.readable_sums(student, teacher, masks, self.relation[level] if "global" in weights else None, self.config)
        return [Term(name, level, raw[name], weight) for name, weight in weights.items()]

    def summable(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        """The fused form reads half precision as it is; f and the readable form need float32."""
        as_they_are = not self.align and self.runs_fused(maps)
        return maps if as_they_are else super().summable(maps)

    def runs_fused(self, maps: dict[str, Tensor]) -> bool:
        """Is the fused form asked for, and does it apply to these maps?"""
        return self.fused and bool(maps) and why_readable(self.config, next(iter(maps.values())).device.type) is None

    @staticmethod
    def readable_sums(
        student: Tensor, teacher: Tensor, masks: FocalMasks | None, relation: RelationTerm | None, config: FGDConfig,
    ) -> dict[str, Tensor]:
        """{term: its sum before the coefficient} of two maps (N, C, H, W); ``masks`` and R of eq. 13 are None where no term needs them."""
        weights, raw = config.weights(), {}
        off = {"spatial": not config.spatial_attention, "channel": not config.channel_attention}
        attention_t = without(attention(teacher, config.temperature), **off)
        looked_at = "attention" in weights or config.attention_of != "teacher"
        attention_s = without(attention(student, config.temperature), **off) if looked_at else attention_t
        if masks is not None:
            weighing = attention_of(config.attention_of, attention_s, attention_t)
            raw["fg"], raw["bg"] = feature_terms(student, teacher, masks, weighing)
            raw["both"] = raw["fg"]                                                       # unsplit: M = 1, so the one sum is the fg sum
        if "attention" in weights:
            raw["attention"] = attention_term(attention_s, attention_t)
        if "global" in weights:
            raw["global"] = relation(student, teacher)
        return raw

    def masks(self, scene: Scene, teacher: Tensor) -> FocalMasks:
        """M * S and (1 - M) * S on the grid of ``teacher`` (N, C, H, W), as the configuration draws them."""
        check_boxes(scene, len(teacher))
        grid, dtype = tuple(teacher.shape[-2:]), sum_dtype(teacher)
        if self.config.area == "both":
            return unsplit_masks(len(teacher), grid, dtype, teacher.device)
        return focal_masks(scene.boxes, scene.frame_sizes(self.config.frame), grid, rounding=self.config.rounding, axes=self.config.axes, dtype=dtype)

    def painted(self, scene: Scene, teachers: list[Tensor]) -> PyramidMasks | None:
        """The same masks of all levels, painted box after box; None where no term needs them."""
        if not self.weights.keys() & MASKED:
            return None
        if self.config.area == "both":
            return side_by_side([self.masks(scene, each) for each in teachers])
        check_boxes(scene, len(teachers[0]))
        frames, grids = scene.frame_sizes(self.config.frame), [tuple(each.shape[-2:]) for each in teachers]
        return painted_levels(scene.boxes, frames, grids, rounding=self.config.rounding, axes=self.config.axes, dtype=sum_dtype(*teachers))
