"""A teacher from whatever weights the reader names. Nothing that a file holds is executed.

    torchvision:RetinaNet_ResNet50_FPN_V2_Weights.COCO_V1   torchvision's own detector, its head narrowed to the data's classes
    https://....pth, PATH                                   a file, whose tensors' names say what it is:
        neck.*, bbox_head.*, roi_head.*                     MMDetection's: a detector of the mmdet flavour
        backbone.fpn.*, head.*, roi_heads.*                 torchvision's: a plain state dict of the run's detector
        with facts in a header                              written by a run, ``fgdlab teacher`` or ``fgdlab import``: built as they say
"""
import os
import pickle
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from ..config import RunConfig
from ..detectors import adapt_detector, build, build_settings
from ..errors import UserError, unknown_name
from .classes import COCO_OUTPUTS, coco_rows, narrow
from .download import fetch
from .export import checked
from .mmdet import fcos_options, load_mmdet, read_state, refusal, student_of
from .safetensors_io import check_numbers, load_weights, read_facts

TORCHVISION = "torchvision:"
HEADS_OF_MMDET = ("neck.", "bbox_head.", "rpn_head.", "roi_head.")


def teacher_from_checkpoint(config: RunConfig, classes: list[str], progress: bool = True) -> tuple[nn.Module, Path]:
    """The detector that ``config.teacher_checkpoint`` names, loaded, and the file of its weights.

    Args:
        config: its detector, teacher, flavour and sizes are believed where the weights do not say better.
        classes: the data's, in the order of its labels.
    Returns:
        a detector whose ``not_loaded`` names the tensors that were left at their random start: () or those of a head that cannot serve here.
    Raises:
        UserError: nothing there, weights of another detector, or a file that wants to run code.
    """
    named = config.teacher_checkpoint
    if named.startswith(TORCHVISION):
        detector, path = published(named.removeprefix(TORCHVISION), config, classes)
    else:
        path = fetch(named, progress) if "://" in named else Path(named).expanduser()
        detector = from_file(path, config, classes)
    return detector, path


def head_is_loaded(detector: nn.Module) -> bool:
    """Whether a detector can detect: no tensor of its head is at its random start."""
    return all(name.startswith("backbone.") for name in getattr(detector, "not_loaded", ()))


# --- torchvision's own --------------------------------------------------------------------------------------------------------------

def published(name: str, config: RunConfig, classes: list[str]) -> tuple[nn.Module, Path]:
    """One of torchvision's trained detectors, by the name of its weights; torchvision downloads it on first use and checks its hash."""
    known = {str(each): (model, each) for model in detection_models() for each in torchvision.models.get_model_weights(model)}
    if name not in known:
        raise unknown_name("weights of torchvision", name, known, "write torchvision:NAME")
    model, weights = known[name]
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    try:
        with numbers_only():
            detector = torchvision.models.get_model(model, weights=weights)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(f"{weights.url} must be within reach, got: {reason}; check the network, or put the file at {path}") from error
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise UserError(refusal(path, error)) from error
    rows = coco_rows(classes) if config.teacher_parts == "all" else None
    if rows is None:
        detector.not_loaded = heads(detector)                        # its classes are not the data's
    else:
        narrow(detector, rows)
        detector.not_loaded = ()
    return adapt_detector(detector, "torchvision", config.min_size, config.max_size), path


@contextmanager
def numbers_only() -> Iterator[None]:
    """Within, torch.load takes tensors and refuses code, also where torchvision, who calls it here, does not ask for that."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def detection_models() -> list[str]:
    """torchvision's detectors that fulfil the contract of fgdlab/scene.py with a pyramid; SSD has none, Keypoint R-CNN other classes."""
    families = ("retinanet", "fcos", "fasterrcnn", "maskrcnn")
    return [name for name in torchvision.models.list_models(module=torchvision.models.detection) if name.startswith(families)]


def heads(detector: nn.Module) -> tuple[str, ...]:
    return tuple(name for name in detector.state_dict() if not name.startswith("backbone."))


# --- files --------------------------------------------------------------------------------------------------------------------------

def from_file(path: Path, config: RunConfig, classes: list[str]) -> nn.Module:
    facts = read_facts(path) if path.suffix == ".safetensors" else {}
    if "build" in facts:
        return imported(path, facts, config, classes)
    state = {} if facts else student_of(read_state(path))
    if any(name.startswith(HEADS_OF_MMDET) for name in state):
        settings = build_settings(config.but(flavour="mmdet"), config.teacher, len(classes))
        detector = build(**settings, **(fcos_options(state) if config.detector == "fcos" else {}))
        load_mmdet(detector, state, parts=config.teacher_parts)
        return detector
    if path.suffix != ".safetensors" or config.teacher_parts != "all" or outputs_of(state) == COCO_OUTPUTS:
        return from_state(path, state or read_state(path), config, classes)
    detector = build(**build_settings(config, config.teacher, len(classes)))
    load_weights(detector, path)                                     # what a run or `fgdlab teacher` wrote
    detector.not_loaded = ()
    return detector


def imported(path: Path, facts: dict, config: RunConfig, classes: list[str]) -> nn.Module:
    """A file whose header says how its detector is built; head and classes of a backbone that is used alone do not matter."""
    settings = {**checked(facts["build"], path), **{name: getattr(config, name) for name in ("min_size", "max_size") if getattr(config, name)}}
    if config.teacher_parts == "all" and settings["classes"] != len(classes):
        raise UserError(f"{path} must hold a teacher of the data's {len(classes)} classes, got one of {settings['classes']}; say teacher_parts=backbone+neck to use it without its head")
    detector = build(**settings)
    load_weights(detector, path)
    detector.not_loaded = tuple(facts.get("missing", ())) if config.teacher_parts == "all" else heads(detector)
    return detector


def from_state(path: Path, state: dict[str, Tensor], config: RunConfig, classes: list[str]) -> nn.Module:
    """A plain state dict in torchvision's names; of a head of COCO's 91 classes the rows of the data's are kept."""
    settings = build_settings(config.but(flavour="torchvision"), config.teacher, len(classes))
    frozen = not any(name.endswith("num_batches_tracked") for name in state) and any(name.endswith("running_mean") for name in state)
    rows = coco_rows(classes) if outputs_of(state) == COCO_OUTPUTS != len(classes) + 1 else None
    detector = build(**{**settings, "classes": COCO_OUTPUTS - 1 if rows else len(classes), "frozen_norms": frozen or config.pretrained})
    own = detector.state_dict()
    wanted = {name for name in own if config.teacher_parts == "all" or name.startswith("backbone.")}
    wrong = sorted(wanted ^ {name for name in state if config.teacher_parts == "all" or name.startswith("backbone.")})
    wrong = wrong or [name for name in wanted if own[name].shape != state[name].shape]
    if wrong:
        raise UserError(
            f"{path} must hold the weights of {config.detector} on {config.teacher}, got {len(wrong)} tensors that differ, the first {wrong[0]!r}; check "
            "detector, teacher and classes, or say teacher_parts=backbone+neck; torchvision:NAME takes what torchvision publishes, its v2 models too"
        )
    check_numbers(path, {name: state[name] for name in wanted}, own)
    detector.load_state_dict({name: state[name] for name in wanted}, strict=False)
    detector.not_loaded = tuple(name for name in own if name not in wanted)
    if rows:
        narrow(detector, rows)
    return detector


def outputs_of(state: dict[str, Tensor]) -> int | None:
    """1 + C by the shape of a classifier in torchvision's names; None where there is none."""
    if "roi_heads.box_predictor.cls_score.bias" in state:
        return len(state["roi_heads.box_predictor.cls_score.bias"])
    logits, boxes = (state.get(f"head.{each}.bias") for each in ("classification_head.cls_logits", "regression_head.bbox_reg"))
    return None if logits is None or boxes is None else 4 * len(logits) // len(boxes)


