"""CPU seconds of each part of one laptop run of Table 1.

    python -m benchmarks.laptop_run            about two minutes on a quiet core

Two runs side by side keep both cores of a laptop busy, so the work of each part counts, not its waiting time: all
figures are CPU seconds of the process that does the work. A part of a step is the median over STEPS steps times the 900
steps of a run. Imports are those of a fresh process.

On the machine of results/laptop_run.json, as percentages of a run:

    imports, kernel and launch process     16.9 %             with torch._dynamo, imported by torchvision and optimisers
    student's step, forward / backward     26.0 / 35.7 %      mostly convolutions
    distillation, forward                   4.2 %             of this, the teacher's maps from the cache: 1.1 %
    data / clipping and optimiser           2.9 / 3.9 %
    detections / scores                     2.4 / 1.9 %
    figures                                 4.6 %
    opening data and teacher, writing       1.6 %

Most of a run is the student: a faster run needs faster convolutions or fewer steps. Imports are the only fixed cost of
a process, some four seconds, which a run of a minute or more hardly feels.
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from fgdlab import Tap, Term, total
from fgdlab.lab import plots
from fgdlab.lab.config import active_settings
from fgdlab.lab.datasets import shuffled_batches
from fgdlab.lab.io import write_json
from fgdlab.lab.provenance import provenance
from fgdlab.lab.run import make_distiller, prepare
from fgdlab.lab.sweeps import cpu_environment, load_sweep
from fgdlab.lab.training import coco_scores, detections, evaluation_here, make_optimizer

PATH = Path("benchmarks/results/laptop_run.json")
ROW, STEPS, WARM = "split", 40, 5
STEP_PARTS = (
    "data", "student, forward", "teacher's maps from the cache", "distillation, forward", "backward",
    "clipping and optimiser",
)
IMPORTS = {
    "launch process": (
        "import sys; sys.modules.setdefault('rfc3987_syntax', None); import papermill, nbclient, jupyter_client"
    ),
    "kernel": "import ipykernel.kernelapp, ipykernel.ipkernel, pandas, fgdlab.lab.run, fgdlab.lab.plots.attention_maps",
}
DYNAMO = "import torch._dynamo"  # imported by torchvision.ops and by an optimiser's first step
OPEN = """
import json, sys, time
from fgdlab.lab.config import RunConfig
from fgdlab.lab.run import prepare
started = time.process_time()
prepare(RunConfig.of(json.loads(sys.stdin.read())), progress=False)
print(time.process_time() - started)
"""


class Clock:
    """CPU seconds by part."""

    def __init__(self):
        self.seconds: dict[str, list[float]] = {}

    @contextmanager
    def __call__(self, part: str):
        started = time.process_time()
        yield
        self.seconds.setdefault(part, []).append(time.process_time() - started)


def import_seconds(code: str) -> float:
    """CPU seconds of a process that runs this code, the least of three."""
    def once() -> float:
        before = os.times()
        subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, **cpu_environment(1)})
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    return min(once() for _ in range(3))


def steps(distiller, scenes, config, clock: Clock) -> None:
    """A training step as the training loop takes it, with the distiller's forward in parts."""
    optimizer = make_optimizer(list(distiller.parameters()), config)
    drawn = iter(shuffled_batches(scenes, config.batch_size, seed=0, epoch=0))
    distiller.train()
    for _ in range(STEPS + WARM):
        with clock("data"):
            images, targets = next(drawn)
        with clock("student, forward"), Tap(distiller.student) as tap:
            terms = [Term(name, "all", value) for name, value in distiller.student(images, targets).items()]
        with clock("teacher's maps from the cache"):
            scene = tap.scene.float()
            maps = distiller.teacher_maps(scene.pixels, targets)
        with clock("distillation, forward"):
            terms += distiller.loss(scene, maps)
        with clock("backward"):
            optimizer.zero_grad(set_to_none=True)
            total(terms).backward()
        with clock("clipping and optimiser"):
            nn.utils.clip_grad_norm_(list(distiller.parameters()), config.clip)
            optimizer.step()


def figures(student, teacher, eval_set, boxes: list[dict], config) -> list[Callable]:
    """The figures of a run's notebook except the loss curves."""
    return [
        lambda: plots.png(plots.masks_and_attention(student, teacher, eval_set, 0, config)),
        lambda: plots.png(plots.masks_and_attention(student, teacher, eval_set, len(eval_set) // 2, config)),
        lambda: plots.png(plots.detections_figure(boxes, eval_set, range(4), threshold=0.2)),
    ]


def measure() -> dict:
    config, clock = active_settings(load_sweep("table1_areas").settings(ROW, 0, "laptop")), Clock()
    prepare(config, progress=False)  # makes what is missing before the clock starts
    opening = subprocess.run(
        [sys.executable, "-c", OPEN], input=json.dumps(config.dict()), capture_output=True, text=True, check=True,
        env={**os.environ, **cpu_environment(1)},
    )
    inputs = prepare(config, progress=False)
    distiller = make_distiller(config, inputs)
    steps(distiller, inputs.train_set, config, clock)
    student = distiller.student.eval()
    with clock("detections"):
        boxes = detections(student, inputs.eval_set)
    with clock(f"scores by {evaluation_here().package}"):
        coco_scores(inputs.eval_set.ground_truth(), boxes, inputs.eval_set.image_ids)
    for draw in figures(student, inputs.teacher.detector, inputs.eval_set, boxes, config):
        with clock("figures"):
            draw()
    with clock("result, detections and weights written"), tempfile.TemporaryDirectory() as folder:
        Path(folder, "detections.json").write_text(json.dumps(boxes))
        torch.save(distiller.state_dict(), Path(folder, "checkpoint.pt"))
    per_run = config.epochs * (len(inputs.train_set) // config.batch_size)
    seconds = {f"imports, {who}": import_seconds(code) for who, code in IMPORTS.items()}
    seconds["data, teacher and cache opened"] = float(opening.stdout)
    seconds |= {f"training: {part}": per_run * statistics.median(clock.seconds[part][WARM:]) for part in STEP_PARTS}
    seconds |= {part: sum(each) for part, each in clock.seconds.items() if part not in STEP_PARTS}
    return {"seconds": seconds, "steps": per_run, "dynamo": import_seconds(DYNAMO) - import_seconds("import torch")}


def main() -> None:
    torch.set_num_threads(1)
    load, measured = os.getloadavg()[0], measure()
    seconds = measured["seconds"]
    total = sum(seconds.values())
    for part, each in seconds.items():
        print(f"{part:42} {each:6.2f} s  {100 * each / total:4.1f} %")
    print(f"{'all':42} {total:6.2f} s")
    write_json(PATH, {
        "what": f"one laptop run of table1_areas, row {ROW}, {measured['steps']} steps: CPU seconds by part",
        "row": ROW, "seconds": {part: round(each, 2) for part, each in seconds.items()},
        "share": {part: round(each / total, 3) for part, each in seconds.items()},
        "all_seconds": round(total, 2),
        "of_the_imports_torch_dynamo": round(measured["dynamo"], 2), "load_before": round(load, 2),
        "machine": provenance(),
    })
    print(f"written to {PATH}")


if __name__ == "__main__":
    main()
