"""The fused FGD loss, all terms, forward and backward, against a plain transcription and the readable implementation.

Times: the implementations take turns in one run. The floor is seven passes over the maps at the speed of a copy of the
same size (two passes). The sums need seven where each pass reads or writes one map: student and teacher twice forward,
once backward, and one gradient. (The CPU loops read each map once forward, five passes; the floor is the same for both
devices.)
Memory: the increase of a fresh process's peak memory during one forward and backward, after its inputs are allocated.

    python -m benchmarks.fgd_loss                     on the CPU, with 1 thread and with all
    python -m benchmarks.fgd_loss --device cuda       on a GPU: 16 images, bfloat16, two layouts, waits of the CPU
    python -m benchmarks.fgd_loss --quick             a trial of the script on small maps; writes nothing
"""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.plain_fgd import plain_fgd
from benchmarks.timing import in_turns, ratio
from fgdlab import FGDConfig, FGDLoss, FusedFGDLoss, Scene, total
from fgdlab.lab.io import write_json
from fgdlab.lab.provenance import provenance

PATHS = {"cpu": Path("benchmarks/results/fgd_loss.json"), "cuda": Path("benchmarks/results/gpu_fgd_loss.json")}
TURNS = 5
COCO = (800, 1344)                                                   # pixels of a COCO image as detectors see it
BOXES = (1, 10, 100, 1000)
PASSES = 7
BASELINES = ("plain transcription", "readable implementation")
LAYOUTS = {"channels_last": torch.channels_last, "NCHW": torch.contiguous_format}
BALLAST = 2**26                                                      # bytes


class Case:
    """Random maps on P3-P7, boxes, and a loss whose blocks are not at their start."""

    def __init__(
        self, batch: int, channels: int, frame: tuple[int, int], boxes_per_image: int = 10,
        levels=("P3", "P4", "P5", "P6", "P7"), *,
        device: str = "cpu", dtype: torch.dtype = torch.float32,
        layout: torch.memory_format = torch.contiguous_format,
    ):
        torch.manual_seed(0)
        self.frame, self.levels, self.device = frame, levels, device
        self.boxes = [each.to(device) for each in random_boxes(batch, boxes_per_image, frame)]
        grids = {level: tuple(-(-size // 2**int(level[1:])) for size in frame) for level in levels}
        shapes = {level: (batch, channels, *grid) for level, grid in grids.items()}
        self.student, self.teacher = (
            {level: torch.randn(shape, device=device, dtype=dtype).to(memory_format=layout)
             for level, shape in shapes.items()} for _ in range(2))
        for maps in self.student.values():
            maps.requires_grad_()
        self.loss = FusedFGDLoss(levels, channels, channels, FGDConfig()).to(device)
        with torch.no_grad():
            for parameter in self.loss.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))  # at the start R is the identity

    def clear_gradients(self) -> None:
        for each in (*self.student.values(), *self.loss.parameters()):
            each.grad = None

    def step(self, fused: bool, boxes: list[Tensor] | None = None) -> None:
        self.clear_gradients()
        boxes = self.boxes if boxes is None else boxes
        pixels = torch.zeros(len(boxes), 3, 1, 1, device=self.device).expand(-1, -1, *self.frame)
        scene = Scene(pixels, boxes, [self.frame] * len(boxes), self.student)
        forward = FusedFGDLoss.forward if fused else FGDLoss.forward
        total(forward(self.loss, scene, self.teacher)).backward()

    def plain(self) -> None:
        """The sums as the paper writes them, and the global term as the blocks compute it."""
        self.clear_gradients()
        for level in self.levels:
            student, teacher = self.student[level].float(), self.teacher[level].float()
            fg, bg, attention = plain_fgd(student, teacher, self.boxes, self.frame)
            relation = self.loss.relation[level](student, teacher)
            (1e-3 * fg + 5e-4 * bg + 5e-4 * attention + 5e-6 * relation).backward()

    def timed_steps(self) -> dict[str, Callable[[], None]]:
        copies = {level: torch.empty_like(each) for level, each in self.teacher.items()}

        def copy() -> None:
            for level, each in self.teacher.items():
                copies[level].copy_(each)

        steps = {
            "fused": lambda: self.step(True), "plain transcription": self.plain,
            "readable implementation": lambda: self.step(False), "copy": copy,
        }
        return {name: self.synchronized(step) for name, step in steps.items()}

    def freed(self, step: Callable[[], None]) -> Callable[[], None]:
        """A step that frees its gradients: freeing takes as long as filling, and belongs to its time."""

        def whole() -> None:
            step()
            self.clear_gradients()

        return whole

    def synchronized(self, step: Callable[[], None]) -> Callable[[], None]:
        """A step that returns when its device has finished."""
        if self.device != "cuda":
            return step

        def through() -> None:
            step()
            torch.cuda.synchronize()

        return through


def random_boxes(batch: int, count: int, frame: tuple[int, int]) -> list[Tensor]:
    size = torch.tensor([frame[1], frame[0]])
    corners = torch.rand(batch, count, 2) * 0.8 * size
    return list(torch.cat([corners, corners + torch.rand(batch, count, 2) * 0.2 * size], dim=2))


# ---- times ----

def times(name: str, case: Case) -> dict:
    """Medians in milliseconds, the baselines over the fused loss, and the fused loss over the floor of seven passes."""
    taken = in_turns({who: case.freed(step) for who, step in case.timed_steps().items()}, TURNS)
    return {
        "what": f"FGD loss, forward and backward, {name}",
        "ms": {who: round(statistics.median(each), 2) for who, each in taken.items()},
        "baseline_over_fused": {who: round(ratio(taken, who, "fused"), 2) for who in BASELINES},
        "fused_over_floor": round(ratio(taken, "fused", "copy") * 2 / PASSES, 2),
    }


def by_boxes(case: Case) -> dict:
    """The fused loss by number of boxes per image, as ratios to one box."""
    steps = {}
    for count in BOXES:
        boxes = [of_image.to(case.device) for of_image in random_boxes(len(case.boxes), count, case.frame)]
        steps[str(count)] = case.synchronized(lambda boxes=boxes: case.step(True, boxes))
    taken = in_turns(steps, TURNS)
    return {
        "what": "fused FGD loss by boxes per image, over one box",
        "ms": {count: round(statistics.median(each), 2) for count, each in taken.items()},
        "over_one_box": {count: round(ratio(taken, count, "1"), 2) for count in taken},
    }


# ---- memory ----

def peak_memory() -> int:
    """The peak memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def extra_memory(name: str) -> int:
    """Bytes by which the first step at COCO's size raises this process's peak memory. Call it in a fresh process."""
    small, case = Case(1, 256, (64, 64)).timed_steps(), Case(2, 256, COCO).timed_steps()
    small[name]()  # libraries allocate their own memory on first use
    ballast = []
    while True:  # until the peak is the present use: a process starts with the peak of its parent
        before = peak_memory()
        ballast.append(torch.ones(BALLAST // 4))
        if peak_memory() - before > 0.9 * BALLAST:
            break
    before = peak_memory()
    case[name]()
    return peak_memory() - before


def memory() -> dict:
    found = {}
    for who in ("fused", *BASELINES):
        command = [sys.executable, "-m", "benchmarks.fgd_loss", "memory", who]
        found[who] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return {
        "what": f"peak extra memory of one step, 2 x 256 channels at {COCO[0]}x{COCO[1]}",
        "MB": {who: round(each / 1e6, 1) for who, each in found.items()},
        "fused_over_baseline": {who: round(found["fused"] / each, 3) for who, each in found.items() if who != "fused"},
    }


# ---- cases ----

def on_cpu() -> Iterator[dict]:
    before = torch.get_num_threads()
    for threads in sorted({1, os.cpu_count() or 1}):
        torch.set_num_threads(threads)
        coco = Case(2, 256, COCO)
        rows = [times(f"2 x 256 channels at {COCO[0]}x{COCO[1]}", coco), by_boxes(coco)]
        if threads == 1:
            rows += [
                times("1 x 256 channels at 800x1344", Case(1, 256, COCO)),
                times("4 x 256 channels at 400x672", Case(4, 256, (400, 672))),
                times("8 x 48 channels at 128x128", Case(8, 48, (128, 128), 2)),
            ]
        yield from ({**row, "threads": threads} for row in rows)
    torch.set_num_threads(before)
    yield memory()


def on_gpu() -> Iterator[dict]:
    for layout in LAYOUTS:
        torch._dynamo.reset()  # else later cases are compiled for any size
        case = Case(16, 256, COCO, device="cuda", dtype=torch.bfloat16, layout=LAYOUTS[layout])
        name = f"16 x 256 channels at {COCO[0]}x{COCO[1]}, bfloat16, {layout}"
        started = time.perf_counter()
        case.timed_steps()["fused"]()
        first = {"first_step_s": round(time.perf_counter() - started, 1), "trial": case.loss.trial}
        yield {**times(name, case), **first, "peak_extra_MB": extra_gpu_memory(case)}
        yield {**by_boxes(case), "maps": name, "host_waits": host_waits(case)}


def extra_gpu_memory(case: Case) -> dict[str, float]:
    found = {}
    for name, step in case.timed_steps().items():
        case.clear_gradients()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        found[name] = round((torch.cuda.max_memory_allocated() - before) / 1e6, 1)
    return found


def host_waits(case: Case) -> bool:
    """Whether a step, once compiled, makes the CPU wait for the GPU."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        case.step(True)
    except RuntimeError:
        return True
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return False


def quick(device: str) -> list[dict]:
    case = Case(2, 16, (96, 128), device=device)
    return [times("2 x 16 channels at 96x128", case), by_boxes(case)]


def main(device: str = "cpu", trial: bool = False) -> None:
    load, results = os.getloadavg()[0], []
    for row in quick(device) if trial else on_gpu() if device == "cuda" else on_cpu():
        print(json.dumps(row), flush=True)
        results.append(row)
        if not trial:  # after every case: a machine may be taken away
            write_json(PATHS[device], {
                "turns": TURNS, "load_average": {"before": round(load, 1), "after": round(os.getloadavg()[0], 1)},
                "results": results, "machine": provenance(device),
            })
    if not trial:
        print(f"written to {PATHS[device]}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["memory"]:
        torch.set_num_threads(1)
        print(extra_memory(sys.argv[2]))
    else:
        parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
        parser.add_argument("--device", default="cpu", choices=tuple(PATHS))
        parser.add_argument("--quick", action="store_true", help="a trial on small maps; writes nothing")
        args = parser.parse_args()
        if args.device == "cuda" and not torch.cuda.is_available():
            raise SystemExit("device cuda must find a CUDA GPU, got none; try the script with --quick")
        main(args.device, args.quick)
