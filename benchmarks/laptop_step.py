"""Time of a distilling step of the laptop detectors over a plain one: forward and backward of a batch of 8.

The teacher's maps come from a run's cache, or from the teacher itself.

    python -m benchmarks.laptop_step            about a minute

The convolutions of RepPoints at points, forward and backward on maps of 16 scenes of 96 px, against torchvision's.

"areas" is Table 1's loss, the feature term of eq. 9 with both attentions; "whole" adds the attention term and the
global term with its GcBlocks. The steps take turns; a ratio is the median over turns. Time is the CPU time of one
thread.
"""
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from torchvision.models.detection import RetinaNet
from torchvision.ops import deform_conv2d

from benchmarks.timing import against_baseline, in_turns, ratio
from fgdlab import Distiller, FGDConfig, FusedFGDLoss, total
from fgdlab.lab.detectors import build
from fgdlab.lab.detectors.reppoints import PointConv
from fgdlab.lab.io import write_json
from fgdlab.lab.provenance import provenance
from fgdlab.lab.teachers import TeacherCache, one_batch, write_maps

PATH = Path("benchmarks/results/laptop_step.json")
TURNS, BATCH = 101, 8
AREAS = FGDConfig(gamma=0, lambda_=0, rounding="exact")
WHOLE = FGDConfig(rounding="exact")


def laptop_batch() -> tuple[list, list]:
    images = [torch.rand(3, 128, 128) for _ in range(BATCH)]
    boxes = torch.tensor([[10.0, 10.0, 30.0, 50.0], [60.0, 60.0, 90.0, 90.0]])
    return images, [{"boxes": boxes, "labels": torch.tensor([1, 2]), "image_id": torch.tensor(i)} for i in range(BATCH)]


def timed_steps(folder: Path) -> dict[str, Callable[[], None]]:
    torch.manual_seed(0)
    images, targets = laptop_batch()
    teacher = build("retinanet", "compact_t", 10).eval()
    write_maps(folder, list(range(BATCH)), [one_batch(teacher, images)])

    def step(config: FGDConfig | None = None, **given) -> Callable[[], None]:
        torch.manual_seed(0)
        student = build("retinanet", "compact_s", 10).to(memory_format=torch.channels_last)
        loss = FusedFGDLoss(student.levels, 48, 48, config) if config else None
        distiller = Distiller(student, loss=loss, **given).train()
        parameters = list(distiller.parameters())

        def once() -> None:
            for parameter in parameters:  # as training does
                parameter.grad = None
            total(distiller(images, targets)).backward()

        return once

    cached = {"recall": TeacherCache(folder)}
    return {
        "plain": step(),
        "areas, cached teacher": step(AREAS, **cached), "areas, live teacher": step(AREAS, teacher=teacher),
        "whole, cached teacher": step(WHOLE, **cached), "whole, live teacher": step(WHOLE, teacher=teacher),
    }


def time_loss() -> dict:
    """The batched loss of the compact RetinaNets, forward, against torchvision's."""
    torch.manual_seed(0)
    images, targets = laptop_batch()
    student = build("retinanet", "compact_s", 10).train()
    batch, _ = student.transform(images, targets)
    maps = list(student.backbone(batch.tensors).values())
    outputs, anchors = student.head(maps), student.anchor_generator(batch, maps)
    return against_baseline(
        "RetinaNet's loss, forward", lambda: student.compute_loss(targets, outputs, anchors),
        lambda: RetinaNet.compute_loss(student, targets, outputs, anchors), "torchvision's loop over images",
    )


def time_points() -> dict:
    torch.manual_seed(0)
    conv = PointConv(64, 64, 3, bias=False)
    features, points = (torch.randn(16, channels, 12, 12, requires_grad=True) for channels in (64, 18))

    def with_gradients(convolution: Callable[[], Tensor]) -> None:
        torch.autograd.grad(convolution().sum(), (features, points, conv.weight))

    return against_baseline(
        "RepPoints' convolution at points, both ways", lambda: with_gradients(lambda: conv(features, points)),
        lambda: with_gradients(lambda: deform_conv2d(features, points, conv.weight, padding=1)), "deform_conv2d",
    )


def main() -> None:
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        times = in_turns(timed_steps(Path(folder)), TURNS, time.process_time)
    rows = []
    for name, values in times.items():
        over_plain = round(ratio(times, name, "plain"), 3)
        ms, least_ms = round(statistics.median(values), 2), round(min(values), 2)
        rows.append({"what": name, "ms": ms, "least_ms": least_ms, "over_plain": over_plain})
        print(f"{name:24} {ms:8.2f} ms   {over_plain:.2f} x plain")
    loss, points = time_loss(), time_points()
    for each in (loss, points):
        print(
            f"{each['what']}: {each['ours_ms']} ms; {each['baseline']}: {each['baseline_ms']} ms; "
            f"baseline / ours = {each['baseline_over_ours']}"
        )
    write_json(PATH, {
        "what": f"laptop step, forward and backward, batch of {BATCH}, CPU time", "turns": TURNS, "steps": rows,
        "loss": loss, "points": points, "machine": provenance(),
    })
    print(f"written to {PATH}")


if __name__ == "__main__":
    main()
