"""Where the time of a distilling step goes at the ``gpu`` scale: data, student, teacher, distillation; images a second and memory of the card.

    python -m benchmarks.gpu_step                           on a CUDA card
    python -m benchmarks.gpu_step --device cpu --quick      rehearses the script on small detectors; writes nothing

All contestants but one take the same batch of digit scenes, which is on the card already. "fed" is the fgd step that takes a fresh batch from the loader
each time, as a run does: what it costs above "fgd" is the data's share. "fgd" takes the form of FGD's sums that runs take by themselves on that device;
beside it stands the other form, where it applies. The loader alone says how many images a second its processes can give: from the
pixels that runs share, and from files, as of a folder whose images differ in size.
"""
import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks.timing import TURNS, WARM
from fgdlab import Distiller, total
from fgdlab.fused.dispatch import why_readable
from fgdlab.lab.config import RunConfig, scale_settings
from fgdlab.lab.datasets import dataset as data
from fgdlab.lab.detectors import build
from fgdlab.lab.io import write_json
from fgdlab.lab.provenance import provenance
from fgdlab.lab.training import make_loss

PATH = Path("benchmarks/results/gpu_step.json")
SCENES, LOADED = 512, 60                                             # scenes to load from; batches over which a loader's time is taken
QUICK = {"student": "compact_s", "teacher": "compact_t", "image_size": 64, "batch_size": 2, "precision": "fp32", "workers": 1}


class FromFiles(data.DetectionDataset):
    """Scenes that are decoded each time anew."""

    def _pixels(self, i: int) -> torch.Tensor:
        return torch.from_numpy(self.decode(i))


def endless(scenes: data.DetectionDataset, config: RunConfig, device: str) -> Iterator[tuple[list, list]]:
    """Batches as a run takes them, for as long as they are wanted."""
    return data.shuffled_batches(scenes, config.batch_size, seed=0, epoch=0, epochs=10**6, workers=config.workers, device=device)


def images_per_second(scenes: data.DetectionDataset, config: RunConfig, device: str) -> float:
    """What a loader gives when nobody computes, once its processes are at work."""
    drawn, wait = endless(scenes, config, device), torch.cuda.synchronize if device == "cuda" else lambda: None
    for _ in range(2 * config.workers + WARM):                       # what they had ready
        next(drawn)
    wait()
    started = time.perf_counter()
    for _ in range(LOADED):
        next(drawn)
    wait()
    return LOADED * config.batch_size / (time.perf_counter() - started)


def named_detectors(config: RunConfig, device: str, scenes: data.DetectionDataset) -> dict[str, Callable[[], None]]:
    """Steps to be timed, each with forward and backward; the teacher is its forward alone, once more under inference_mode with the copy that backward needs."""
    still, drawn = next(endless(scenes, config.but(workers=0), device)), endless(scenes, config, device)
    teacher = build("retinanet", config.teacher, 10).to(device, memory_format=torch.channels_last).eval()
    half = {"device_type": device, "dtype": torch.bfloat16, "enabled": config.precision == "bf16"}

    def step(config: RunConfig, batch: Callable[[], tuple[list, list]] = lambda: still) -> Callable[[], None]:
        torch.manual_seed(0)
        student = build("retinanet", config.student, 10).to(device, memory_format=torch.channels_last)
        levels = tuple(level for level in student.levels if level in teacher.levels)
        distiller = Distiller(student) if config.method == "none" else Distiller(student, teacher, make_loss(config, levels, student, teacher, device))
        parameters = list(distiller.to(device).train().parameters())

        def once() -> None:
            images, targets = batch()
            with torch.autocast(**half):
                loss = total(distiller(images, targets))
            loss.backward()
            for each in parameters:                                  # as training does
                each.grad = None

        return once

    def teacher_maps() -> dict[str, torch.Tensor]:
        with torch.autocast(**half):
            return teacher.backbone(teacher.transform(still[0], None)[0].tensors)

    def teacher_alone() -> None:
        with torch.no_grad():
            teacher_maps()

    def copied() -> None:
        with torch.inference_mode():
            maps = teacher_maps()
        for each in maps.values():
            each.clone()

    fgd = config.but(method="fgd")
    other, switch = ("fgd, fused", "on") if device == "cuda" else ("fgd, readable", "off")
    beside = {other: step(fgd.but(fused=switch))} if why_readable(fgd.fgd(), device) is None else {}
    return {
        "plain": step(config.but(method="none")), "teacher": teacher_alone, "teacher, inference_mode and a copy": copied, "hint": step(config.but(method="hint")),
        "fgd": step(fgd), **beside, "fed": step(fgd, lambda: next(drawn)),
    }


def timed(step: Callable[[], None], device: str) -> float:
    """Milliseconds of one call, the card's queue drained before and after."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    started = time.perf_counter()
    step()
    wait()
    return 1000 * (time.perf_counter() - started)


def measure(config: RunConfig, device: str) -> dict:
    scenes = data.open_split(config.but(train_images=SCENES, eval_images=16), "train").cache_pixels()
    loader = {"shared pixels": images_per_second(scenes, config, device), "files": images_per_second(FromFiles(scenes.annotations), config, device)}
    steps = named_detectors(config, device, scenes)
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
    share = {"data": ms["fed"] - ms["fgd"], "student": ms["plain"], "teacher": ms["teacher"], "distillation": ms["fgd"] - ms["plain"] - ms["teacher"]}
    taken = 1000 * config.batch_size / ms["fgd"]
    return {
        "what": "training step at the gpu scale, forward and backward; medians of turns", "settings": {
            name: getattr(config, name) for name in ("student", "teacher", "image_size", "batch_size", "precision", "workers")},
        "ms": {name: round(each, 2) for name, each in ms.items()}, "peak_memory_gb": memory,
        "images_per_second": {name: round(1000 * config.batch_size / ms[name], 1) for name in ("plain", "fgd", "fed")},
        "share_of_the_fed_step": {name: round(each / ms["fed"], 3) for name, each in share.items()},
        "loader": {name: {"images_per_second": round(each, 1), "over_the_fgd_step": round(each / taken, 2)} for name, each in loader.items()},
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
        print(f"{name:34} {each:8.2f} ms   {each / found['ms']['plain']:.2f} x plain   {found['peak_memory_gb'].get(name, 0):.2f} GB")
    print(found["share_of_the_fed_step"])
    for name, each in found["loader"].items():
        print(f"loader alone, {name}: {each['images_per_second']:.0f} images a second, {each['over_the_fgd_step']:.2f} of what the step takes")
    if not asked.quick:
        write_json(PATH, found)
        print(f"written to {PATH}")


if __name__ == "__main__":
    main()
