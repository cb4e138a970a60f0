"""Where the time of a distilling step goes at the ``gpu`` scale: plain step, teacher, distillation; images a second and memory of the card.

    python -m benchmarks.gpu_step                           on a CUDA card
    python -m benchmarks.gpu_step --device cpu --quick      rehearses the script on small detectors; writes nothing
"""
import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.timing import TURNS, WARM
from fgdlab import Distiller, total
from fgdlab.lab.config import RunConfig
from fgdlab.lab.detectors import build
from fgdlab.lab.disk import write_json
from fgdlab.lab.methods import make_loss
from fgdlab.lab.provenance import provenance
from fgdlab.lab.scales import scale_settings

PATH = Path("benchmarks/results/gpu_step.json")
QUICK = {"student": "compact_s", "teacher": "compact_t", "image_size": 64, "batch_size": 2, "precision": "fp32"}


def scene_batch(config: RunConfig, device: str) -> tuple[list, list]:
    """A batch of noise with four boxes an image: a step costs the same whatever is in the pictures."""
    torch.manual_seed(0)
    side = config.image_size
    corners = torch.rand(config.batch_size, 4, 2) * side * 0.6
    boxes = torch.cat([corners, corners + side * (0.1 + 0.25 * torch.rand(config.batch_size, 4, 2))], dim=2)
    images = list(torch.rand(config.batch_size, 3, side, side).to(device))
    return images, [{"boxes": each.to(device), "labels": torch.ones(4, dtype=torch.int64, device=device), "image_id": torch.tensor(index)} for index, each in enumerate(boxes)]


def contestants(config: RunConfig, device: str) -> dict[str, Callable[[], None]]:
    """Steps to be timed, each with forward and backward; "teacher" is its forward alone."""
    images, targets = scene_batch(config, device)
    teacher = build("retinanet", config.teacher, 10).to(device, memory_format=torch.channels_last).eval()

    def step(config: RunConfig) -> Callable[[], None]:
        torch.manual_seed(0)
        student = build("retinanet", config.student, 10).to(device, memory_format=torch.channels_last)
        levels = tuple(level for level in student.levels if level in teacher.levels)
        distiller = Distiller(student) if config.method == "none" else Distiller(student, teacher, make_loss(config, levels, student, teacher))
        distiller.to(device).train()

        def once() -> None:
            with torch.autocast(device, torch.bfloat16, enabled=config.precision == "bf16"):
                loss = total(distiller(images, targets))
            loss.backward()
            for each in distiller.parameters():
                each.grad = None

        return once

    def teacher_alone() -> None:
        with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=config.precision == "bf16"):
            teacher.backbone(teacher.transform(images, None)[0].tensors)

    return {"plain": step(config.but(method="none")), "teacher": teacher_alone, "hint": step(config.but(method="hint")), "fgd": step(config.but(method="fgd"))}


def timed(step: Callable[[], None], device: str) -> float:
    """Milliseconds of one call, the card's queue drained before and after."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    started = time.perf_counter()
    step()
    wait()
    return 1000 * (time.perf_counter() - started)


def measure(config: RunConfig, device: str) -> dict:
    steps = contestants(config, device)
    times = {name: [] for name in steps}
    for _ in range(TURNS + WARM):
        for name, step in steps.items():
            times[name].append(timed(step, device))
    ms = {name: statistics.median(each[WARM:]) for name, each in times.items()}
    memory = {}
    for name, step in steps.items() if device == "cuda" else ():
        torch.cuda.reset_peak_memory_stats()
        step()
        memory[name] = round(torch.cuda.max_memory_allocated() / 1e9, 3)
    own = ms["fgd"] - ms["plain"] - ms["teacher"]
    return {
        "what": "training step at the gpu scale, forward and backward, no data loading; medians of turns", "settings": {
            name: getattr(config, name) for name in ("student", "teacher", "image_size", "batch_size", "precision")},
        "ms": {name: round(each, 2) for name, each in ms.items()}, "peak_memory_gb": memory,
        "images_per_second": {name: round(1000 * config.batch_size / ms[name], 1) for name in ("plain", "fgd")},
        "share_of_the_fgd_step": {"student": round(ms["plain"] / ms["fgd"], 3), "teacher": round(ms["teacher"] / ms["fgd"], 3), "distillation": round(own / ms["fgd"], 3)},
        "turns": TURNS, "machine": provenance(device),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--quick", action="store_true", help="small detectors: rehearses the script, writes nothing")
    asked = parser.parse_args()
    if asked.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("device cuda must find a CUDA card, got none; rehearse with --device cpu --quick")
    config = RunConfig.of({**scale_settings("gpu"), "device": asked.device, **(QUICK if asked.quick else {})})
    found = measure(config, asked.device)
    for name, each in found["ms"].items():
        print(f"{name:8} {each:8.2f} ms   {each / found['ms']['plain']:.2f} x plain   {found['peak_memory_gb'].get(name, 0):.2f} GB")
    print(found["share_of_the_fgd_step"])
    if not asked.quick:
        write_json(PATH, found)
        print(f"written to {PATH}")


if __name__ == "__main__":
    main()
