"""Time of a distilling step of the laptop detectors over a plain one: forward and backward of a batch of 8.

The teacher's maps come from a run's cache, or from the teacher itself.

    python -m benchmarks.laptop_step            about a minute

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
from torchvision.models.detection import RetinaNet

from benchmarks.timing import against_baseline, in_turns, ratio
from fgdlab import Distiller, FGDConfig, FusedFGDLoss, total
from fgdlab.lab.detectors import build
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
    loss = time_loss()
    print(
        f"{loss['what']}: {loss['ours_ms']} ms; {loss['baseline']}: {loss['baseline_ms']} ms; "
        f"baseline / ours = {loss['baseline_over_ours']}"
    )
    write_json(PATH, {
        "what": f"laptop step, forward and backward, batch of {BATCH}, CPU time", "turns": TURNS, "steps": rows,
        "loss": loss, "machine": provenance(),
    })
    print(f"written to {PATH}")


if __name__ == "__main__":
    main()
