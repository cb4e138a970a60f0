"""Three trained detectors that come with the project, for figures, notebooks and the explorer: a teacher and two of its students."""
from pathlib import Path

from torch import nn

from ..checkpoints import load_weights, read_facts
from ..config import RunConfig
from ..detectors import build
from ..errors import unknown_name

FOLDER = Path(__file__).parents[1] / "weights"
FILES = {
    "teacher": "retinanet-compact_t-8e7f65010bfe.safetensors",       # of the digit scenes with look-alikes
    "baseline": "student-baseline.safetensors",                # Table 1, row "no distillation", seed 0
    "distilled": "student-distilled.safetensors",                    # Table 1, row "both, split", seed 0
}


def pretrained_detector(name: str) -> nn.Module:
    """"teacher", "baseline" or "distilled": a RetinaNet of the laptop family in eval mode, trained on the digit scenes of RunConfig's defaults."""
    settings = pretrained_facts(name)["settings"]
    backbone = settings["teacher"] if name == "teacher" else settings["student"]
    detector = build("retinanet", backbone, 10)
    load_weights(detector, FOLDER / FILES[name])
    return detector.eval()


def pretrained_facts(name: str) -> dict:
    """What the file's header says: "AP" on the val split in 0..100, "settings" of its training."""
    if name not in FILES:
        raise unknown_name("shipped detector", name, FILES)
    return read_facts(FOLDER / FILES[name])


def distilled_settings() -> RunConfig:
    """The settings that the distilled student was trained with: weights and switches of the loss that its figures should show."""
    return RunConfig.of(pretrained_facts("distilled")["settings"])
