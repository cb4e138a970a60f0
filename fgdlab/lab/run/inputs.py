"""The data of a run: opened, examined, and part of a run's identity: contents count, paths and names do not."""
from functools import partial

import torch

from ..checkpoints import weights_hash
from ..config import RunConfig
from ..datasets import RECIPE_VERSION, DetectionDataset, Finding, examine, open_split
from ..detectors import ANCHORED, NoResize, build, build_settings, share_met
from ..io import user_path
from ..training import custom_loss_hash

OF_DATA = ("data", "train_split", "eval_split", "image_size", "train_images", "eval_images", "exif_turned", "detector")
Data = tuple[DetectionDataset, DetectionDataset]


def open_data(config: RunConfig, progress: bool = True) -> Data:
    return open_split(config, config.train_split, progress), open_split(config, config.eval_split, progress)


def identity(config: RunConfig, data: Data | None = None) -> dict:
    """What a run's id hashes. data: of a folder, opened here if not given."""
    settings, contents = config.identity(), {"data": f"digits-v{RECIPE_VERSION}"}
    if config.data != "digits":
        settings["data"] = "folder"
        contents["data"] = [dataset.content_hash() for dataset in data or open_data(config, progress=False)]
    path = user_path(config.teacher_checkpoint)
    if config.teacher_checkpoint and path.is_file():
        settings["teacher_checkpoint"] = "file"
        contents["teacher"] = weights_hash(path)
    return {"settings": settings, **contents, **custom_loss_hash(config)}


def findings(config: RunConfig, data: Data) -> list[Finding]:
    found = []
    if config.train_split == config.eval_split:
        remedy = "AP on images that were learned says little; choose another --eval-split"
        found += [Finding("warn", "one split", f"{config.eval_split} is for training and for evaluation", remedy)]
    if config.data == "digits":
        mirrored = Finding("warn", "mirrored digits", f"flip is {config.flip:g}", "they are no digits; set it to 0")
        return [*found, mirrored] if config.flip else found
    student = build(**build_settings(config, "student", 1))
    met = None
    if config.detector in ANCHORED:
        generator = getattr(student, "anchor_generator", None) or student.rpn.anchor_generator
        corners = torch.cat(list(generator.cell_anchors))
        met = partial(share_met, anchors=(corners[:, 2:] - corners[:, :2]).numpy())
    transform = student.transform
    resized = (0, 0) if isinstance(transform, NoResize) else (transform.min_size[-1], transform.max_size)
    kept = getattr(student, "roi_heads", student).detections_per_img
    parts = dict(zip((config.train_split, config.eval_split), data, strict=True))
    return [*found, *examine(parts, met, resized, kept)]
