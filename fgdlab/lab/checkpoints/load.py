"""A teacher from the weights that the user names. No code in a file is executed.

    torchvision:RetinaNet_ResNet50_FPN_V2_Weights.COCO_V1   torchvision's detector, narrowed to the data's classes
    https://....pth, PATH                                   a file, recognised by the names of its tensors:
        neck.*, bbox_head.*, roi_head.*                     MMDetection's
        backbone.backbone.*                                 Megvii's YOLOX
        backbone.fpn.*, head.*, roi_heads.*                 torchvision's
        with facts in a header                              written by a run, ``fgdlab teacher`` or ``fgdlab import``
"""
from pathlib import Path

import torchvision
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet

from ..config import RunConfig
from ..detectors import adapt_detector, build, build_settings, from_torchvision, is_pretrained
from ..errors import UserError, check_name, short_repr
from ..io import user_path
from .classes import COCO_OUTPUTS, coco_rows, narrow
from .download import download
from .export import checked
from .mmdet import fcos_options, load_mmdet, read_checkpoint, read_state, student_of
from .safetensors_io import check_numbers, load_weights, read_facts

TORCHVISION = "torchvision:"
MMDET_OR_MEGVII = ("neck.", "bbox_head.", "rpn_head.", "roi_head.", "backbone.backbone.")


def teacher_from_checkpoint(config: RunConfig, classes: list[str], progress: bool = True) -> tuple[nn.Module, Path]:
    """The detector that ``config.teacher_checkpoint`` names, loaded, and the file of its weights.

    Args:
        config: its detector, teacher, flavour and sizes are used where the file says nothing else.
        classes: the data's, in the order of its labels.
    Returns:
        ``not_loaded`` of the detector names the tensors left at random: () or a head of other classes.
    """
    name = config.teacher_checkpoint
    if name.startswith(TORCHVISION):
        return published(name.removeprefix(TORCHVISION), config, classes)
    path = download(name, progress) if "://" in name else user_path(name)
    return from_file(path, config, classes), path


def head_is_loaded(detector: nn.Module) -> bool:
    """Whether no tensor of the head was left at random."""
    return all(name.startswith("backbone.") for name in getattr(detector, "not_loaded", ()))


def published(name: str, config: RunConfig, classes: list[str]) -> tuple[nn.Module, Path]:
    """By the name of torchvision's weights; torchvision downloads them and checks their hash."""
    models = torchvision.models
    known = {str(each): (model, each) for model in detection_models() for each in models.get_model_weights(model)}
    check_name("weights of torchvision", name, known, "write torchvision:NAME")
    model, weights = known[name]
    with from_torchvision(weights) as path:
        detector = models.get_model(model, weights=weights)
    rows = coco_rows(classes) if config.teacher_parts == "all" else None
    detector.not_loaded = () if rows else heads(detector)  # a head of other classes is not used
    if rows:
        narrow(detector, rows)
    return adapt_detector(detector, "torchvision", config.min_size, config.max_size), path


def detection_models() -> list[str]:
    """With a pyramid (see fgdlab/scene.py): not SSD, nor Keypoint R-CNN with other classes."""
    families = ("retinanet", "fcos", "fasterrcnn", "maskrcnn")
    models = torchvision.models
    return [name for name in models.list_models(module=models.detection) if name.startswith(families)]


def heads(detector: nn.Module) -> tuple[str, ...]:
    return tuple(name for name in detector.state_dict() if not name.startswith("backbone."))


def from_file(path: Path, config: RunConfig, classes: list[str]) -> nn.Module:
    facts = read_facts(path) if path.suffix == ".safetensors" else {}
    if "build" in facts:
        return imported(path, facts, config, classes)
    state, names = ({}, facts.get("classes")) if facts else read_checkpoint(path)
    state, names = student_of(state), names if config.teacher_parts == "all" else None
    if any(name.startswith(MMDET_OR_MEGVII) for name in state):
        settings = build_settings(config.but(flavour="mmdet"), "teacher", len(classes))
        detector = build(**settings, **(fcos_options(state) if config.detector == "fcos" else {}))
        load_mmdet(detector, state, parts=config.teacher_parts)
        by_name(path, detector, names or classes, classes)
        return detector
    if not facts or config.teacher_parts != "all":
        return from_state(path, state or student_of(read_state(path)), config, classes)
    detector = build(**build_settings(config, "teacher", len(names or classes)))
    load_weights(detector, path)  # written by a run or `fgdlab teacher`
    detector.not_loaded = ()
    by_name(path, detector, names or classes, classes)
    return detector


def by_name(path: Path, detector: nn.Module, names: list[str], classes: list[str]) -> None:
    if names == classes:
        return
    narrowed = isinstance(detector, (FasterRCNN, RetinaNet, FCOS)) and detector.flavour == "torchvision"
    if not narrowed or not {*classes} <= {*names}:
        got = f"{short_repr(names)} for {short_repr(classes)}"
        raise UserError(
            f"{path} must hold a teacher of the data's classes, got {got}; rename the classes of the data, or say "
            "teacher_parts=backbone+neck to use it without its head")
    narrow(detector, [0, *(names.index(name) + 1 for name in classes)])


def imported(path: Path, facts: dict, config: RunConfig, classes: list[str]) -> nn.Module:
    sizes = {name: getattr(config, name) for name in ("min_size", "max_size") if getattr(config, name)}
    settings = checked(facts["build"], path) | sizes
    if config.teacher_parts == "all" and settings["classes"] != len(classes):
        problem = f"{path} must hold a teacher of the data's {len(classes)} classes, got one of {settings['classes']}"
        raise UserError(f"{problem}; say teacher_parts=backbone+neck to use it without its head")
    detector = build(**settings)
    load_weights(detector, path)
    detector.not_loaded = tuple(facts.get("missing", ())) if config.teacher_parts == "all" else heads(detector)
    if config.teacher_parts == "all":
        by_name(path, detector, facts.get("classes") or classes, classes)
    return detector


def from_state(path: Path, state: dict[str, Tensor], config: RunConfig, classes: list[str]) -> nn.Module:
    """In torchvision's names. A head of COCO's 91 classes is narrowed to the data's."""
    flavour = config.flavour if path.suffix == ".safetensors" else "torchvision"
    settings = build_settings(config.but(flavour=flavour), "teacher", len(classes))
    suffixes = {name.rpartition(".")[2] for name in state}
    frozen = "running_mean" in suffixes and "num_batches_tracked" not in suffixes
    rows = coco_rows(classes) if outputs_of(state) == COCO_OUTPUTS != len(classes) + 1 else None
    settings["frozen_norms"] = frozen or is_pretrained(config, "teacher")
    if rows:
        settings["classes"] = COCO_OUTPUTS - 1
    detector = build(**settings)
    own = detector.state_dict()
    prefix = "" if config.teacher_parts == "all" else "backbone."
    wanted = {name: tensor for name, tensor in own.items() if name.startswith(prefix)}
    wrong = sorted(wanted.keys() ^ {name for name in state if name.startswith(prefix)})
    wrong = wrong or [name for name in wanted if own[name].shape != state[name].shape]
    if wrong:
        raise UserError(
            f"{path} must hold the weights of {config.detector} on {config.teacher}, got {len(wrong)} tensors that "
            f"differ, the first {wrong[0]!r}; check detector, teacher and classes, or say teacher_parts=backbone+neck; "
            "torchvision:NAME takes what torchvision publishes, its v2 models too")
    used = {name: state[name] for name in wanted}
    check_numbers(path, used, own)
    detector.load_state_dict(used, strict=False)
    detector.not_loaded = tuple(name for name in own if name not in wanted)
    if rows:
        narrow(detector, rows)
    return detector


def outputs_of(state: dict[str, Tensor]) -> int | None:
    """1 + C from the classifier's shape in torchvision's names; None without a classifier."""
    if "roi_heads.box_predictor.cls_score.bias" in state:
        return len(state["roi_heads.box_predictor.cls_score.bias"])
    logits = state.get("head.classification_head.cls_logits.bias")
    boxes = state.get("head.regression_head.bbox_reg.bias")
    return None if logits is None or boxes is None else 4 * len(logits) // len(boxes)
