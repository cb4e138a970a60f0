"""Do the detectors learn with FGD, and can their weights be exported? Reads the finished runs of ``detectors``.

    fgdlab sweep detectors && python ablations/check_detectors.py [--scale laptop]

    run folder --metrics.jsonl--> first and last loss    --the seed's first weights--> AP at the start
    run folder --fgdlab export--> FILE.pth --strict load--> the same detector of torchvision's parts (plain_detector)
               --validation images--> detections, equal to the last bit?

torchvision has no RepPoints, GFL or YOLOX, so their weights are loaded into ours. At the laptop scale the findings are
written to ablations/results/detectors_check.json.
"""
import argparse
import json
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import Conv2dNormActivation
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from fgdlab.lab.checkpoints import detector_of, export_student
from fgdlab.lab.config import RunConfig
from fgdlab.lab.datasets import DetectionDataset, open_split
from fgdlab.lab.detectors import build, build_settings
from fgdlab.lab.io import write_json
from fgdlab.lab.sweeps import ablations_folder, load_sweep, plan
from fgdlab.lab.training import coco_scores, detections

OURS = ("reppoints", "gfl", "yolox")  # not in torchvision
LOGGED = 20  # logged steps at each end, or half of them where there are fewer
TERMS = ("fg", "bg", "attention", "global")                          # FGD's; every other name belongs to the task loss


# --- the student's structure, of torchvision's parts alone ------------------------------------------------------------

def plain_detector(name: str, classes: int, side: int) -> nn.Module:
    """The detector ``small_s`` written with torchvision alone, for images of side x side pixels."""
    widths, channels = (8, 16, 32, 48, 64), 64
    body = nn.Sequential(
        Conv2dNormActivation(3, 8, 3, 2),
        *(nn.Sequential(Conv2dNormActivation(a, b, 3, 2)) for a, b in zip(widths, widths[1:], strict=False)),
    )
    size = {"min_size": side, "max_size": side}
    if name in ("retinanet", "fcos"):
        backbone = BackboneWithFPN(
            body, {"2": "0", "3": "1", "4": "2"}, [32, 48, 64], channels, LastLevelP6P7(channels, channels),
            nn.BatchNorm2d,
        )
        if name == "fcos":
            return FCOS(
                backbone, classes + 1, head=FCOSHead(channels, 1, classes + 1, num_convs=1), score_thresh=0.05,
                topk_candidates=300, **size,
            )
        anchors = AnchorGenerator(((14, 20), (28, 40), (56, 79), (112, 158), (224, 316)), ((1.35,),) * 5)
        head = RetinaNetHead(channels, 2, classes + 1, norm_layer=partial(nn.GroupNorm, 8))
        for tower in (head.classification_head, head.regression_head):
            tower.conv = tower.conv[:1]
        return RetinaNet(backbone, classes + 1, anchor_generator=anchors, head=head, topk_candidates=300, **size)
    backbone = BackboneWithFPN(
        body, {"1": "0", "2": "1", "3": "2", "4": "3"}, [16, 32, 48, 64], channels, LastLevelMaxPool(), nn.BatchNorm2d,
    )
    parts = {
        "rpn_anchor_generator": AnchorGenerator(((16,), (32,), (64,), (128,), (256,)), ((0.5, 1.0, 2.0),) * 5),
        "box_head": TwoMLPHead(channels * 7 * 7, 128), "box_predictor": FastRCNNPredictor(128, classes + 1),
        "rpn_pre_nms_top_n_test": 128, "rpn_post_nms_top_n_test": 64, "box_detections_per_img": 50,
    }
    if name == "faster_rcnn":
        return FasterRCNN(backbone, **parts, **size)
    return MaskRCNN(
        backbone, mask_head=MaskRCNNHeads(channels, (32,), 1), mask_predictor=MaskRCNNPredictor(32, 32, classes + 1),
        **parts, **size,
    )


# --- findings of one run ----------------------------------------------------------------------------------------------

def losses(folder: Path) -> dict:
    """Means over the first and the last logged steps, of the whole loss and of the task loss."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    totals, task = {}, {}
    for row in rows:
        if row["name"] == "total":
            totals[row["step"]] = row["weighted"]
        elif row["name"] not in TERMS:
            task[row["step"]] = task.get(row["step"], 0.0) + row["weighted"]
    count = min(LOGGED, max(len(totals) // 2, 1))
    found = {}
    for name, by_step in (("loss", totals), ("task_loss", task)):
        values = [by_step[step] for step in sorted(by_step)]
        found |= {f"{name}_first": statistics.fmean(values[:count]), f"{name}_last": statistics.fmean(values[-count:])}
    return {**found, "logged": count}


def untrained(config: RunConfig, classes: int) -> nn.Module:
    """The student before its first step."""
    torch.manual_seed(config.seed)
    return build(**build_settings(config, "student", classes))


def exported(folder: Path, config: RunConfig, eval_set: DetectionDataset) -> dict:
    """Whether the exported student loads strictly elsewhere and gives equal detections there, to the last bit."""
    student, _ = detector_of(folder)
    classes = len(eval_set.classes)
    with tempfile.TemporaryDirectory() as out:
        export_student(folder, Path(out) / "student.pth")
        state = torch.load(Path(out) / "student.pth", weights_only=True)
    if config.detector in OURS:
        other = build(config.detector, config.student, classes, min_size=config.image_size, max_size=config.image_size)
    else:
        other = plain_detector(config.detector, classes, config.image_size)
    other.load_state_dict(state)                                     # strict: raises where a name or a shape differs
    found, again = detections(student, eval_set), detections(other, eval_set)
    return {
        "tensors": len(state), "loaded_into": f"{type(other).__module__.split('.')[0]}'s {type(other).__name__}",
        "detections": len(found), "bit_equal": found == again,
    }


def check(runs: list) -> list[dict]:
    """One finding per finished run: loss, AP, export. AP at the start is measured once per detector and seed."""
    found, starts = [], {}
    for run in runs:
        config, result = run.config, run.here.result()
        eval_set = open_split(config, config.eval_split, progress=False)
        key = config.detector, config.seed
        if key not in starts:
            starts[key] = coco_scores(
                eval_set.ground_truth(), detections(untrained(config, len(eval_set.classes)), eval_set),
                eval_set.image_ids,
            )["AP"]
        line = {
            "row": run.row, "detector": config.detector, "method": config.method, "seed": run.seed,
            **losses(run.folder), "AP_start": starts[key], "AP": result["AP"],
            **({"mask_AP": result["mask_AP"]} if config.detector == "mask_rcnn" else {}),
            **exported(run.folder, config, eval_set), "commit": result["provenance"]["commit"],
        }
        found.append(
            line | {
                "holds": line["loss_last"] < line["loss_first"]
                and line["task_loss_last"] < line["task_loss_first"]
                and line["AP"] > line["AP_start"] and line["bit_equal"]
            }
        )
    return found


def table(found: list[dict]) -> str:
    """One line per run."""
    lines = [
        "| row | seed | loss, first to last | task loss | AP, start to end | mask AP | exported student | tensors | "
        "detections | bit-equal |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each in found:
        mask = f"{each['mask_AP']:.1f}" if "mask_AP" in each else ""
        lines.append(
            f"| {each['row']} | {each['seed']} | {each['loss_first']:.2f} to {each['loss_last']:.2f} | "
            f"{each['task_loss_first']:.2f} to {each['task_loss_last']:.2f} | "
            f"{each['AP_start']:.2f} to {each['AP']:.2f} | {mask} | {each['loaded_into']} | {each['tensors']} | "
            f"{each['detections']} | {'yes' if each['bit_equal'] else 'NO'} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scale", default="laptop")
    parser.add_argument("--out", type=Path, help="the folder of the runs, if it is not runs/detectors")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sweep = load_sweep("detectors").at(arguments.scale)
    runs = plan(sweep, arguments.out, scale=arguments.scale)
    missing = [f"{run.row} seed {run.seed}" for run in runs if run.state() != "done"]
    if missing:
        print(
            f"every run must be done, got {len(missing)} that are not, the first {missing[0]}; run `fgdlab sweep "
            f"detectors --scale {arguments.scale}` first",
            file=sys.stderr,
        )
        return 1
    found = check(runs)
    print(table(found))
    if arguments.scale == "laptop":
        write_json(
            ablations_folder() / "results" / "detectors_check.json",
            {"scale": arguments.scale, "logged_steps_at_each_end": LOGGED, "runs": found},
        )
    failed = [f"{each['row']} seed {each['seed']}" for each in found if not each["holds"]]
    print(
        f"loss falls, AP rises, bit-equal elsewhere: {len(found) - len(failed)} of {len(found)} runs" + (
            f"; not {', '.join(failed)}" if failed else ""
        )
    )
    return int(bool(failed) and arguments.scale != "smoke")


if __name__ == "__main__":
    sys.exit(main())
