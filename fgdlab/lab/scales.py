"""Scales: dataset size, detectors and schedule that go together. A sweep names the scale it uses and may change single settings of it."""
from .errors import unknown_name

SCALES: dict[str, dict] = {
    # every code path of a sweep in about a minute; its numbers mean nothing
    "smoke": {
        "train_images": 48, "eval_images": 16, "epochs": 1, "batch_size": 8, "teacher": "compact_s", "teacher_epochs": 1, "teacher_batch_size": 8, "log_every": 2, "device": "cpu",
    },
    # two CPU cores; the defaults of RunConfig
    "laptop": {"device": "cpu"},
    # one GPU: ResNet-50 teaches ResNet-18 on torchvision's full RetinaNet, P3-P7
    "gpu": {
        "image_size": 256, "train_images": 20_000, "eval_images": 1000, "student": "resnet18", "teacher": "resnet50", "epochs": 4, "batch_size": 32, "lr": 4e-4,
        "teacher_epochs": 8, "teacher_batch_size": 32, "teacher_lr": 4e-4, "clip": 35.0, "precision": "bf16", "device": "cuda", "workers": 8, "teacher_cache": "off",
    },
}


def scale_settings(name: str) -> dict:
    """Settings of a scale, its name among them."""
    if name not in SCALES:
        raise unknown_name("scale", name, SCALES)
    return {**SCALES[name], "scale": name}
