"""A detector's weights under MMDetection's names, and YOLOX's under Megvii's. Tensors are renamed, not reshaped.

A detector of ``build(..., flavour="mmdet")`` has exactly MMDetection's tensors, so mmdet_keys.yaml holds both ways.
"""
import re
from pathlib import Path

from torch import nn

from ..detectors import YOLOX
from ..errors import UserError
from ..io import load_yaml

NAMES = load_yaml(Path(__file__).with_name("mmdet_keys.yaml").read_text(encoding="utf-8"))
OF_MEGVII = "backbone.backbone."  # every checkpoint of Megvii's has such names, and no other
NECK = re.compile(r"(backbone|neck)\.")


def mmdet_names(detector: nn.Module) -> dict[str, str]:
    """{our name: MMDetection's name} of every tensor. UserError for another flavour or class, or a backbone with other
    names in MMDetection."""
    flavour = getattr(detector, "flavour", None)
    if flavour != "mmdet" and not isinstance(detector, YOLOX):
        raise UserError(
            f"the detector must be of the mmdet flavour, got {flavour!r}: torchvision's own has other anchors, another "
            'P6 and one class more; make it with build(..., flavour="mmdet")')
    if not isinstance(detector, YOLOX) and not hasattr(detector.backbone.body, "layer4"):
        problem = "the backbone must be a ResNet or ResNeXt, got another, which MMDetection names otherwise"
        raise UserError(f"{problem}; export under torchvision's names")
    kind = next(each.__name__ for each in type(detector).__mro__ if each.__name__ in NAMES["detectors"])
    table = NAMES["pyramid"] | NAMES["detectors"][kind]
    laterals = 0 if isinstance(detector, YOLOX) else len(detector.backbone.fpn.inner_blocks)
    return {name: their_name(name, table, laterals) for name in detector.state_dict()}


def megvii_names(detector: nn.Module) -> dict[str, str]:
    if not isinstance(detector, YOLOX):
        raise UserError(f"a detector with Megvii's names must be a YOLOX, got {type(detector).__name__}; use mmdet")
    names = {name: name for name in detector.state_dict()}
    for ours, theirs in NAMES["megvii"].items():
        names = {name: renamed.replace(ours, theirs) for name, renamed in names.items()}
    return names


def their_name(name: str, table: dict[str, str], laterals: int) -> str:
    for pattern, theirs in table.items():
        regex = re.escape(pattern).replace(r"\*\*", "(.+)").replace(r"\*", r"([^.]+?)")
        if match := re.fullmatch(regex, name):
            parts, computed = list(match.groups()), {}
            if "{level}" in theirs:  # P6 and P7 come after the convolutions of P3..P5
                computed["level"] = laterals + int(parts.pop(0)) - 6
            if "{tower}" in theirs:  # a sequence of conv, norm, relu, conv, norm, relu, ...
                index = int(parts.pop(0))
                computed["tower"] = f"{index // 3}.{('conv', 'gn')[index % 3]}"
            return theirs.format(*parts, **computed)
    raise AssertionError(f"no row of the table names {name}")


def classes_of(state: dict) -> int | None:
    """By a checkpoint in MMDetection's names; None without a known classifier."""
    known = ((len(state[name]), *shape) for name, shape in NAMES["classifiers"].items() if name in state)
    return next((length // anchors - background for length, anchors, background in known), None)
