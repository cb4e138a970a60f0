"""Trained RetinaNets that come with the project: a teacher, and two of its students."""
from pathlib import Path

from torch import nn

from ..checkpoints import load_weights, read_facts
from ..config import RunConfig
from ..detectors import build
from ..errors import check_name

WEIGHTS = Path(__file__).parents[1] / "weights"
FILES = {
    "teacher": "retinanet-compact_t-222013794dc1.safetensors",  # trained on digit scenes with look-alikes
    "baseline": "student-baseline.safetensors",  # Table 1, row "no distillation", seed 0
    "distilled": "student-distilled.safetensors",  # Table 1, row "both, split", seed 0
}


def pretrained_file(name: str) -> Path:
    """The weights file of "teacher", "baseline" or "distilled"; a UserError for any other name."""
    check_name("pretrained detector", name, FILES)
    return WEIGHTS / FILES[name]


def pretrained_facts(name: str) -> dict:
    """The header of the weights file: "AP" on the val split in 0..100, "settings" of the training."""
    return read_facts(pretrained_file(name))


def pretrained_detector(name: str) -> nn.Module:
    """The detector in eval mode, trained on the digit scenes of the laptop scale."""
    settings = pretrained_facts(name)["settings"]
    detector = build("retinanet", settings["teacher" if name == "teacher" else "student"], 10)
    load_weights(detector, pretrained_file(name))
    return detector.eval()


def pretrained_snapshots():
    """The distilled student after 100, 300 and all 896 steps of its training: a student for ``explore``, to play."""
    from ..explorer import NamedDetector  # it loads the whole bench

    files = sorted(WEIGHTS.glob("student-distilled-step_*.safetensors"))
    return NamedDetector(pretrained_detector("distilled"), [*files, pretrained_file("distilled")])


def distilled_config() -> RunConfig:
    return RunConfig.of(pretrained_facts("distilled")["settings"])
