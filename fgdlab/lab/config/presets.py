"""The paper's experiments: the pairs of teacher and student in presets.yaml, with the authors' settings."""
from dataclasses import dataclass
from pathlib import Path

from ..errors import check_name
from ..io import load_yaml

TRAIN_IMAGES, WARM_STEPS = 118_287, 500  # COCO train2017; MMDetection's linear warm-up
ZOO = "https://download.openmmlab.com/mmdetection/v2.0/{0}/{1}/{1}{2}.pth"
CONTENT = load_yaml(Path(__file__).with_name("presets.yaml").read_text(encoding="utf-8"))
EVERYWHERE = CONTENT["everywhere"]


@dataclass(frozen=True)
class Preset:
    """One pair of teacher and student.

    table: where the paper has it. file: the authors' config. mAP: of the student alone and distilled; teacher_AP: in
    the paper or in the file's name; None: not reported. A run refuses a teacher that is more than 1 AP below. differs:
    what differs from the authors' config for this pair only.
    """

    detector: str
    teacher: str
    checkpoint: str
    weights: dict
    file: str
    mAP: tuple[float | None, float | None]
    student: str = "resnet50"
    inherit: bool = True
    table: str = ""
    teacher_AP: float | None = None
    epochs: int = 24
    parts: str = "all"
    differs: str = ""

    def settings(self) -> dict:
        return {
            **EVERYWHERE, "detector": self.detector, "student": self.student, "teacher": self.teacher,
            "teacher_checkpoint": self.checkpoint, "teacher_parts": self.parts, "inherit": self.inherit,
            "epochs": self.epochs,
            "warmup": WARM_STEPS / (TRAIN_IMAGES // EVERYWHERE["batch_size"] * self.epochs),
            "teacher_floor": max((self.teacher_AP or 0) - 1, 0), **self.weights,
        }


PAPER_PRESETS = {
    name: Preset(**{
        **pair, "checkpoint": ZOO.format(*CONTENT["checkpoints"][pair["checkpoint"]]), "mAP": tuple(pair["mAP"])})
    for name, pair in CONTENT["pairs"].items()
}


def preset(name: str) -> Preset:
    check_name("preset", name, PAPER_PRESETS)
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
