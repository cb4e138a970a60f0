"""Time of a training step with each method, as a ratio to the plain step of the same student in the same run.

Laptop detectors, 8 images of 128 px, two boxes per image, cached maps of the teacher, forward and backward; one thread.
"""
import statistics
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.timing import TURNS, in_turns, ratio
from fgdlab import Distiller, total
from fgdlab.lab.config import METHODS, RunConfig
from fgdlab.lab.detectors import build
from fgdlab.lab.errors import UserError
from fgdlab.lab.io import write_json
from fgdlab.lab.provenance import provenance
from fgdlab.lab.training import make_loss

PATH = Path("benchmarks/results/methods.json")


def batch(size: int = 8) -> tuple[list, list]:
    boxes = torch.tensor([[10.0, 10.0, 30.0, 50.0], [60.0, 60.0, 90.0, 90.0]])
    torch.manual_seed(0)
    images, labels = list(torch.rand(size, 3, 128, 128)), torch.tensor([1, 2])
    return images, [{"boxes": boxes, "labels": labels, "image_id": torch.tensor(i)} for i in range(size)]


def step(method: str, teacher: torch.nn.Module, images: list, targets: list) -> Callable[[], None]:
    """One forward and backward of a student under a method, with the teacher's maps cached."""
    torch.manual_seed(0)
    student = build("retinanet", "compact_s", 10).to(memory_format=torch.channels_last)
    if method == "none":
        distiller = Distiller(student)
    else:
        with torch.no_grad():
            pixels = teacher.transform(images, None)[0].tensors
            maps = Distiller(student, teacher, torch.nn.Identity()).teacher_maps(pixels, targets)
        loss = make_loss(RunConfig(method=method), student.levels, student, teacher)
        distiller = Distiller(student, teacher, loss, recall=lambda image_ids: maps)
    distiller.train()
    return lambda: total(distiller(images, targets)).backward()


def main() -> None:
    torch.set_num_threads(1)
    images, targets = batch()
    teacher = build("retinanet", "compact_t", 10).eval()
    steps, refused = {}, {}
    for method in METHODS:
        try:
            steps[method] = step(method, teacher, images, targets)
        except UserError as error:                                   # a method of two-stage detectors
            refused[method] = str(error)
    times = in_turns(steps)
    over_plain = {method: round(ratio(times, method, "none"), 2) for method in steps}
    for method, value in over_plain.items():
        print(f"{method:10} {statistics.median(times[method]):6.1f} ms   {value:.2f} x plain")
    write_json(PATH, {
        "what": "training step, forward and backward, over the plain step of the same student",
        "over_plain": over_plain,
        "ms": {method: round(statistics.median(each), 2) for method, each in times.items()},
        "refused": refused, "turns": TURNS, "threads": 1, "machine": provenance(),
    })
    print(f"written to {PATH}")


if __name__ == "__main__":
    main()
