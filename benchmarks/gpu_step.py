"""Time of a distilling step at the ``gpu`` scale by part: data, student, teacher, distillation; and GPU memory.

    python -m benchmarks.gpu_step                           on a CUDA GPU
    python -m benchmarks.gpu_step --device cpu --quick      a trial of the script on small detectors; writes nothing

All steps but one take the same batch of digit scenes, which is on the GPU already. "fed" is the fgd step with a fresh
batch from the loader each time, as in a run: its time above "fgd" is the data's. "fgd" uses the implementation that
runs use by default on that device; the readable one is timed too, where "fgd" is another. The loader alone shows how
many images per second its worker processes give: from the pixels that runs share, and from files, as for a folder of
images of different sizes.
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
SCENES, LOADED = 512, 60  # scenes to load from; batches over which a loader is timed
QUICK = {
    "student": "compact_s", "teacher": "compact_t", "image_size": 64,
    "batch_size": 2, "precision": "fp32", "workers": 1,
}


class FromFiles(data.DetectionDataset):
    """Scenes that are decoded every time."""

    def _pixels(self, i: int) -> torch.Tensor:
        return torch.from_numpy(self.decode(i))


def endless(scenes: data.DetectionDataset, config: RunConfig, device: str) -> Iterator[tuple[list, list]]:
    """Batches as a run takes them, without end."""
    settings = {"epoch": 0, "epochs": 10**6, "workers": config.workers, "device": device}
    return data.shuffled_batches(scenes, config.batch_size, seed=0, **settings)


def images_per_second(scenes: data.DetectionDataset, config: RunConfig, device: str) -> float:
    """Images per second of a loader alone, after its worker processes have started."""
    batches, wait = endless(scenes, config, device), torch.cuda.synchronize if device == "cuda" else lambda: None
    for _ in range(2 * config.workers + WARM):  # batches that were loaded in advance
        next(batches)
    wait()
    started = time.perf_counter()
    for _ in range(LOADED):
        next(batches)
    wait()
    return LOADED * config.batch_size / (time.perf_counter() - started)


def timed_steps(config: RunConfig, device: str, scenes: data.DetectionDataset) -> dict[str, Callable[[], None]]:
    """{name: step}, each with forward and backward.

    "teacher" is its forward alone; a second one runs under inference_mode, with the copy that backward needs.
    """
    fixed, batches = next(endless(scenes, config.but(workers=0), device)), endless(scenes, config, device)
    teacher = build("retinanet", config.teacher, 10).to(device, memory_format=torch.channels_last).eval()
    half = {"device_type": device, "dtype": torch.bfloat16, "enabled": config.precision == "bf16"}

    def step(config: RunConfig, batch: Callable[[], tuple[list, list]] = lambda: fixed) -> Callable[[], None]:
        torch.manual_seed(0)
        student = build("retinanet", config.student, 10).to(device, memory_format=torch.channels_last)
        levels = tuple(level for level in student.levels if level in teacher.levels)
        if config.method == "none":
            distiller = Distiller(student)
        else:
            distiller = Distiller(student, teacher, make_loss(config, levels, student, teacher, device))
        parameters = list(distiller.to(device).train().parameters())

        def once() -> None:
            images, targets = batch()
            with torch.autocast(**half):
                loss = total(distiller(images, targets))
            loss.backward()
            for parameter in parameters:  # as training does
                parameter.grad = None

        return once

    def teacher_maps() -> dict[str, torch.Tensor]:
        with torch.autocast(**half):
            return teacher.backbone(teacher.transform(fixed[0], None)[0].tensors)

    def teacher_alone() -> None:
        with torch.no_grad():
            teacher_maps()

    def copied() -> None:
        with torch.inference_mode():
            maps = teacher_maps()
        for features in maps.values():
            features.clone()

    fgd = config.but(method="fgd")
    fused = device == "cuda" or why_readable(fgd.fgd(), device) is None  # on a GPU its first maps tell
    others = {"fgd, readable": step(fgd.but(fused="off"))} if fused else {}
    return {
        "plain": step(config.but(method="none")),
        "teacher": teacher_alone, "teacher, inference_mode and a copy": copied,
        "hint": step(config.but(method="hint")),
        "fgd": step(fgd), **others, "fed": step(fgd, lambda: next(batches)),
    }


def timed(step: Callable[[], None], device: str) -> float:
    """Milliseconds of one call, synchronised with the GPU before and after."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    started = time.perf_counter()
    step()
    wait()
    return 1000 * (time.perf_counter() - started)


def measure(config: RunConfig, device: str) -> Iterator[dict]:
    """First without the loader alone, then with it."""
    scenes = data.open_split(config.but(train_images=SCENES, eval_images=16), "train").cache_pixels()
    steps = timed_steps(config, device, scenes)
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
    parts = {
        "data": ms["fed"] - ms["fgd"], "student": ms["plain"], "teacher": ms["teacher"],
        "distillation": ms["fgd"] - ms["plain"] - ms["teacher"],
    }
    of_step = {name: 1000 * config.batch_size / ms[name] for name in ("plain", "fgd", "fed")}
    found = {
        "what": "training step at the gpu scale, forward and backward; medians of turns",
        "settings": {name: getattr(config, name) for name in QUICK},
        "ms": {name: round(value, 2) for name, value in ms.items()}, "peak_memory_gb": memory,
        "images_per_second": {name: round(value, 1) for name, value in of_step.items()},
        "share_of_the_fed_step": {name: round(value / ms["fed"], 3) for name, value in parts.items()},
        "turns": TURNS, "machine": provenance(device),
    }
    yield found
    loader = {
        name: images_per_second(dataset, config, device)
        for name, dataset in {"shared pixels": scenes, "files": FromFiles(scenes.annotations)}.items()
    }
    yield {**found, "loader": {
        name: {"images_per_second": round(value, 1), "over_the_fgd_step": round(value / of_step["fgd"], 2)}
        for name, value in loader.items()
    }}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--quick", action="store_true", help="a trial on small detectors; writes nothing")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("device cuda must find a CUDA GPU, got none; try the script with --device cpu --quick")
    config = RunConfig.of({**scale_settings("gpu"), "device": args.device, **(QUICK if args.quick else {})})
    for found in measure(config, args.device):
        if "loader" not in found:
            for name, ms in found["ms"].items():
                memory = found["peak_memory_gb"].get(name, 0)
                print(f"{name:34} {ms:8.2f} ms   {ms / found['ms']['plain']:.2f} x plain   {memory:.2f} GB")
            print(found["share_of_the_fed_step"], flush=True)
        for name, loader in found.get("loader", {}).items():
            rate, ratio = loader["images_per_second"], loader["over_the_fgd_step"]
            print(f"loader alone, {name}: {rate:.0f} images per second, {ratio:.2f} times what the fgd step takes")
        if not args.quick:
            write_json(PATH, found)
    if not args.quick:
        print(f"written to {PATH}")


if __name__ == "__main__":
    main()
