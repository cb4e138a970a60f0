"""Settings of the FGD loss: coefficients, switches, and the values of the authors' configs.

The field metadata holds ``help`` and, where only certain words are allowed, ``choices``. Nothing here imports torch.
"""
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import Any

AREAS = ("split", "fg", "bg", "both", "none")
RELATIONS = ("gc", "mse", "centred", "nonlocal", "none")
ROUNDINGS = ("authors", "exact")
FRAMES = ("canvas", "image")
AXES = ("xy", "yx")
ATTENTION_SOURCES = ("teacher", "student", "mean")
TERMS = {"fg": "alpha", "bg": "beta", "both": "alpha", "attention": "gamma", "global": "lambda_"}  # {term: its weight}


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises:
        ValueError: a value that is none of the choices.
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def check_weights(**weights: float) -> None:
    """Raises:
        ValueError: a weight that is no number, negative or not finite. 0 removes a term and its layers.
    """
    for name, weight in weights.items():
        if not isinstance(weight, Real) or not 0 <= weight < float("inf"):
            raise ValueError(f"{name} must be a finite number >= 0, got {weight!r}; 0 leaves the term out")


def check_positive(**settings: float) -> None:
    """Raises:
        ValueError: a value that is no number, not above 0 or not finite.
    """
    for name, value in settings.items():
        if not isinstance(value, Real) or not 0 < value < float("inf"):
            raise ValueError(f"{name} must be a finite number > 0, got {value!r}")


def setting(default: Any, help: str, choices: tuple[str, ...] = ()) -> Any:
    """A dataclass field with its help text and its allowed values."""
    return field(default=default, metadata={"help": help, "choices": choices})


@dataclass(frozen=True)
class FGDConfig:
    """Coefficients and switches. Defaults: RetinaNet in the authors' configs, and masks that span the padded canvas.

    A coefficient of 0 removes the term and its layers. An ablated run has no extra cost and no unused parameter.

    >>> FGDConfig(area="fg", relation="none").weights()
    {'fg': 0.001, 'attention': 0.0005}

    Raises:
        ValueError: a value outside its choices or its range.
    Differs: the paper gives gamma = 1e-3 for anchor-based one-stage detectors, the authors' RetinaNet configs 5e-4.
    """

    alpha: float = setting(1e-3, "weight of the foreground sum, eq. 9; with area=both: of the sum over all cells")
    beta: float = setting(5e-4, "weight of the background sum, eq. 9")
    gamma: float = setting(5e-4, "weight of the attention term, eq. 10")
    lambda_: float = setting(5e-6, "weight of the global term, eq. 12")
    temperature: float = setting(0.5, "T of the attentions, eqs. 7-8; above 0")
    area: str = setting("split", "cells that eq. 9 sums over; both = all cells with one weight", AREAS)
    spatial_attention: bool = setting(True, "use A^S of eq. 7 in eqs. 9 and 10; off = 1 everywhere")
    channel_attention: bool = setting(True, "use A^C of eq. 8 in eqs. 9 and 10; off = 1 everywhere")
    relation: str = setting("gc", "R of the global term, eq. 13", RELATIONS)
    rounding: str = setting("authors", "boxes to cells: authors = one extra cell at the far edge, or exact", ROUNDINGS)
    frame: str = setting("canvas", "divide boxes by the padded canvas, or by the image as the authors do", FRAMES)
    axes: str = setting("xy", "yx transposes the masks, as the authors' code did until January 2022", AXES)
    attention_of: str = setting("teacher", "whose attention weighs eq. 9; the paper: teacher", ATTENTION_SOURCES)

    def __post_init__(self) -> None:
        for each in fields(self):
            if each.metadata["choices"]:
                check_choice(each.name, getattr(self, each.name), each.metadata["choices"])
        check_weights(alpha=self.alpha, beta=self.beta, gamma=self.gamma, lambda_=self.lambda_)
        check_positive(temperature=self.temperature)

    def weights(self) -> dict[str, float]:
        """{term: coefficient} of the terms that this configuration computes, in the order of eq. 14; none is 0."""
        used = {
            "fg": self.area in ("split", "fg"), "bg": self.area in ("split", "bg"), "both": self.area == "both",
            "attention": self.spatial_attention or self.channel_attention, "global": self.relation != "none",
        }
        weights = {name: getattr(self, TERMS[name]) for name in used if used[name]}
        return {name: weight for name, weight in weights.items() if weight}


# The values of the authors' configs, per detector.
# Differs: their FCOS has T = 0.8, the paper 0.5. Their gamma of FCOS and RepPoints is a tenth of the paper's 8e-3 for
# anchor-free detectors.
PRESETS = {
    "retinanet": FGDConfig(),
    "fcos": FGDConfig(1.6e-3, 8e-4, 8e-4, 8e-6, temperature=0.8),
    "reppoints": FGDConfig(1.6e-3, 8e-4, 8e-4, 8e-6),
    "gfl": FGDConfig(),
    "yolox": FGDConfig(2e-3, 1e-3, 1e-3, 1e-5),
    "faster_rcnn": FGDConfig(5e-5, 2.5e-5, 5e-5, 5e-7),
    "mask_rcnn": FGDConfig(5e-5, 2.5e-5, 5e-5, 5e-7),
}
