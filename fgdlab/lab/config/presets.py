"""The paper's experiments: one preset per pair of teacher and student, with the settings of the authors' configs.

Source: FGD (Yang et al., CVPR 2022), Tables 2 and 3, and the authors' configs in github.com/yzd-v/FGD,
configs/distillers/fgd/ (YOLOX: on the branch yolox). SOLO has configs there too; it is not built here.
"""
from dataclasses import dataclass

from ..errors import unknown_name

TRAIN_IMAGES, BATCH, WARM_STEPS = 118_287, 16, 500  # COCO train2017; 8 GPUs with 2 images; MMDetection's linear warm-up

# What all their configs share. Differs: they divide boxes by the image before padding (frame="image" does so here).
EVERYWHERE = {
    "flavour": "mmdet", "image_size": 0, "train_images": 0, "eval_images": 0, "train_split": "train",
    "eval_split": "val", "flip": 0.5,
    "min_size": 800, "max_size": 1333, "aspect_groups": True, "init": "pretrained",
    "teacher_init": "pretrained", "method": "fgd", "batch_size": BATCH, "optimizer": "sgd",
    "momentum": 0.9, "weight_decay": 1e-4, "schedule": "step", "clip": 35.0, "teacher_cache": "off", "device": "auto",
    "workers": 8, "log_every": 50, "scale": "paper",
}
ONE_STAGE, TWO_STAGE = "P3,P4,P5,P6,P7", "P2,P3,P4,P5"
RETINANET = {
    "alpha": 1e-3, "beta": 5e-4, "gamma": 5e-4, "lambda_": 5e-6, "temperature": 0.5, "levels": ONE_STAGE, "lr": 0.01,
}
REPPOINTS = {
    "alpha": 1.6e-3, "beta": 8e-4, "gamma": 8e-4, "lambda_": 8e-6, "temperature": 0.5, "levels": ONE_STAGE, "lr": 0.01,
}
FCOS = {**REPPOINTS, "temperature": 0.8, "min_sizes": "640,800"}
RCNN = {
    "alpha": 5e-5, "beta": 2.5e-5, "gamma": 5e-5, "lambda_": 5e-7, "temperature": 0.5, "levels": TWO_STAGE, "lr": 0.02,
}

# Differs: no mosaic, mixup, random sizes and Nesterov's momentum; a batch is padded to its largest image, not to 640 x
# 640. The authors also divide boxes and loss by the random size over 640, which is 1 here.
YOLOX = {
    "alpha": 2e-3, "beta": 1e-3, "gamma": 1e-3, "lambda_": 1e-5, "temperature": 0.5, "levels": "P3,P4,P5", "lr": 0.01,
    "min_size": 640, "max_size": 640, "init": "random", "teacher_init": "random", "batch_size": 64,
    "weight_decay": 5e-4, "schedule": "cosine", "warmup": 5 / 300, "clip": 0.0,
}

ZOO = "https://download.openmmlab.com/mmdetection/v2.0/"


def zoo(family: str, name: str, ending: str) -> str:
    return f"{ZOO}{family}/{name}/{name}{ending}.pth"


RETINANET_X101 = zoo("retinanet", "retinanet_x101_64x4d_fpn_1x_coco", "_20200130-366f5af1")
RETINANET_R101 = zoo("retinanet", "retinanet_r101_fpn_2x_coco", "_20200131-5560aee8")
REPPOINTS_X101 = zoo(
    "reppoints", "reppoints_moment_x101_fpn_dconv_c3-c5_gn-neck%2Bhead_2x_coco", "_20200329-f87da1ea")
REPPOINTS_R101 = zoo("reppoints", "reppoints_moment_r101_fpn_gn-neck%2Bhead_2x_coco", "_20200329-4fbc7310")
FCOS_R101 = zoo("fcos", "fcos_r101_caffe_fpn_gn-head_mstrain_640-800_2x_coco", "-511424d6")
FASTER_R101 = zoo("faster_rcnn", "faster_rcnn_r101_fpn_2x_coco", "_bbox_mAP-0.398_20200504_210455-1d2dac9c")
MASK_R101 = zoo(
    "mask_rcnn", "mask_rcnn_r101_fpn_2x_coco", "_bbox_mAP-0.408__segm_mAP-0.366_20200505_071027-14b391c7")
GFL_R101 = zoo("gfl", "gfl_r101_fpn_mstrain_2x_coco", "_20200629_200126-dd12f847")
YOLOX_L = zoo("yolox", "yolox_l_8x8_300e_coco", "_20211126_140236-d3bd2b23")
CASCADE_X101 = zoo(
    "dcn", "cascade_mask_rcnn_x101_32x4d_fpn_dconv_c3-c5_1x_coco", "-e75f90c8")


@dataclass(frozen=True)
class Preset:
    """One pair of teacher and student.

    table: where the paper has it. file: the authors' config. mAP: of the student alone and distilled; teacher_AP: in
    the paper or in the file's name; None: not reported. A run refuses a teacher that is more than 1 AP below. differs:
    what differs from the authors' config for this pair only.
    """

    detector: str
    student: str
    teacher: str
    checkpoint: str
    weights: dict
    inherit: bool
    table: str
    file: str
    mAP: tuple[float | None, float | None] = (None, None)
    teacher_AP: float | None = None
    epochs: int = 24
    parts: str = "all"
    differs: str = ""

    def settings(self) -> dict:
        return {
            **EVERYWHERE, "detector": self.detector, "student": self.student, "teacher": self.teacher,
            "teacher_checkpoint": self.checkpoint, "teacher_parts": self.parts, "inherit": self.inherit,
            "epochs": self.epochs,
            "warmup": WARM_STEPS / (TRAIN_IMAGES // BATCH * self.epochs),
            "teacher_floor": max((self.teacher_AP or 0) - 1, 0), **self.weights,
        }


X101, CASCADE = "resnext101_64x4d", {
    "teacher": "resnext101_32x4d_dconv", "checkpoint": CASCADE_X101, "parts": "backbone+neck", "inherit": False,
}
OF_CAFFE = (
    "the student starts from torchvision's ResNet-50, the authors' from Caffe's, whose ImageNet weights torchvision "
    "does not publish"
)
OF_NORM = "maps are distilled after the neck's group norm, the authors' before it"
CASCADE_FILE = "fgd_cascade_mask_rcnn_rx101_32x4d_distill_{}_fpn_2x_coco.py"

PAPER_PRESETS: dict[str, Preset] = {
    "retinanet_x101_r50": Preset(
        "retinanet", "resnet50", X101, RETINANET_X101, RETINANET, True, "Table 3",
        "fgd_retina_rx101_64x4d_distill_retina_r50_fpn_2x_coco.py", (37.4, 40.7), 41.0),
    "retinanet_x101_r101": Preset(
        "retinanet", "resnet101", X101, RETINANET_X101, RETINANET, True, "",
        "fgd_retina_rx101_64x4d_distill_retina_r101_fpn_2x_coco.py", (38.9, 41.7), 41.0),
    "retinanet_r101_r50": Preset(
        "retinanet", "resnet50", "resnet101", RETINANET_R101, RETINANET, True, "Table 2",
        "fgd_retina_r101_fpn_2x_distill_retina_r50_fpn_2x_coco.py", (37.4, 39.7), 38.9),
    "reppoints_x101_r50": Preset(
        "reppoints", "resnet50", "resnext101_32x4d_dconv", REPPOINTS_X101, REPPOINTS, True, "Table 3",
        "fgd_reppoints_rx101_64x4d_distill_reppoints_r50_fpn_2x_coco.py", (38.6, 42.0), differs=OF_NORM),
    "reppoints_x101_r101": Preset(
        "reppoints", "resnet101", "resnext101_32x4d_dconv", REPPOINTS_X101, REPPOINTS, True, "",
        "fgd_reppoints_rx101_64x4d_distill_reppoints_r101_fpn_2x_coco.py", (40.5, 43.8), differs=OF_NORM),
    "reppoints_r101_r50": Preset(
        "reppoints", "resnet50", "resnet101", REPPOINTS_R101, REPPOINTS, True, "",
        "fgd_reppoints_r101_fpn_distill_reppoints_r50_fpn_2x_coco.py", (38.6, None),
        differs=OF_NORM),
    "fcos_r101_r50": Preset(
        "fcos", "resnet50", "resnet101_caffe", FCOS_R101, FCOS, True, "Table 2",
        "fgd_fcos_r101_distill_fcos_r50_2x_coco.py", (38.5, 42.7), 40.8, differs=OF_CAFFE),
    "faster_rcnn_r101_r50": Preset(
        "faster_rcnn", "resnet50", "resnet101", FASTER_R101, RCNN, True, "Table 2",
        "fgd_faster_rcnn_r101_fpn_2x_distill_faster_rcnn_r50_fpn_2x_coco.py", (38.4, 40.5), 39.8),
    "faster_rcnn_cascade_r50": Preset(
        "faster_rcnn", "resnet50", weights=RCNN, table="Table 3", file=CASCADE_FILE.format("faster_rcnn_r50"),
        mAP=(38.4, 42.0), **CASCADE),
    "faster_rcnn_cascade_r101": Preset(
        "faster_rcnn", "resnet101", weights=RCNN, table="", file=CASCADE_FILE.format("faster_rcnn_r101"),
        mAP=(39.8, 44.1), **CASCADE),
    "mask_rcnn_r101_r50": Preset(
        "mask_rcnn", "resnet50", "resnet101", MASK_R101, RCNN, True, "",
        "fgd_mask_rcnn_r101_fpn_distill_mask_rcnn_r50_fpn_2x_coco.py", (39.2, None), 40.8),
    "mask_rcnn_cascade_r50": Preset(
        "mask_rcnn", "resnet50", weights=RCNN, table="Table 3", file=CASCADE_FILE.format("mask_rcnn_r50"),
        mAP=(39.2, 42.1), **CASCADE),
    "gfl_r101_r50": Preset(
        "gfl", "resnet50", "resnet101", GFL_R101, RETINANET, True, "",
        "fgd_gfl_r101_distill_gfl_r50_fpn_1x_coco.py", (40.2, 43.5), epochs=12),
    "yolox_l_m": Preset(
        "yolox", "yolox_m", "yolox_l", YOLOX_L, YOLOX, False, "", "fgd_yoloxl_distill_yoloxm_coco.py", (45.9, 46.6),
        epochs=300, differs="no mosaic, mixup, random sizes, Nesterov"),
}


def preset(name: str) -> Preset:
    if name not in PAPER_PRESETS:
        raise unknown_name("preset", name, PAPER_PRESETS)
    return PAPER_PRESETS[name]


def preset_settings(name: str) -> dict:
    """Without what tells the rows of a table apart: whether it distils, whether it inherits."""
    return {key: value for key, value in preset(name).settings().items() if key not in ("method", "inherit", "scale")}


def listed() -> str:
    lines = []
    for name, each in PAPER_PRESETS.items():
        weights = " ".join(
            f"{key.strip('_')} {each.weights[key]:g}"
            for key in ("alpha", "beta", "gamma", "lambda_", "temperature", "lr")
        )
        alone, distilled = (f"{value:.1f}" if value else "-" for value in each.mAP)
        lines += [
            f"{name}: {each.detector}, {each.teacher} teaches {each.student}; mAP {alone} alone, {distilled} with FGD",
            f"    {weights}; {each.epochs} epochs; {each.weights['levels']}; "
            f"{'' if each.inherit else 'not '}inheriting; clip {each.weights.get('clip', EVERYWHERE['clip']):g}",
            f"    {each.table or 'not in the paper'}; {each.file}",
            *([f"    differs: {each.differs}"] if each.differs else []),
        ]
    return "\n".join(lines)
