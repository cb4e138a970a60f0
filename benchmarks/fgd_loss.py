"""The fused FGD loss, all terms, forward and backward, against a plain transcription, the readable form and the bandwidth of a copy.

Times: contestants take turns in one run. The floor is seven passes over the maps at the speed of a copy of the same size (two passes),
which is what the sums need when each pass reads or writes one map: student and teacher twice forward, once backward, and one gradient. (The
CPU's loops read each map once forward, five passes; the floor stays, for the card's kernels need seven.)
Memory: how far a fresh process's high-water mark moves during one forward and backward, its inputs being there before.

    python -m benchmarks.fgd_loss                     on the CPU, with 1 thread and with all
    python -m benchmarks.fgd_loss --device cuda       on a card: 16 images in bfloat16, and whether the host ever waits
    python -m benchmarks.fgd_loss --quick             rehearses the script on small maps; writes nothing
"""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
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
BALLAST = 2**26                                                      # bytes


class Case:
    """Random maps on P3-P7, boxes, and one loss with trained-like blocks."""

    def __init__(
        self, batch: int, channels: int, frame: tuple[int, int], boxes_per_image: int = 10, levels=("P3", "P4", "P5", "P6", "P7"), *,
        device: str = "cpu", dtype: torch.dtype = torch.float32,
    ):
        torch.manual_seed(0)
        self.frame, self.levels, self.device = frame, levels, device
        self.boxes = [each.to(device) for each in random_boxes(batch, boxes_per_image, frame)]
        grids = {level: tuple(-(-size // 2**int(level[1:])) for size in frame) for level in levels}
        self.student = {level: torch.randn(batch, channels, *grid, device=device, dtype=dtype, requires_grad=True) for level, grid in grids.items()}
        self.teacher = {level: torch.randn(batch, channels, *grid, device=device, dtype=dtype) for level, grid in grids.items()}
        self.loss = FusedFGDLoss(levels, channels, channels, FGDConfig()).to(device)
        with torch.no_grad():
            for parameter in self.loss.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))   # off its start, where R is the identity

    def forget(self) -> None:
        for each in (*self.student.values(), *self.loss.parameters()):
            each.grad = None

    def step(self, fused: bool, boxes: list[Tensor] | None = None) -> None:
        self.forget()
        boxes = self.boxes if boxes is None else boxes
        scene = Scene(torch.zeros(len(boxes), 3, 1, 1, device=self.device).expand(-1, -1, *self.frame), boxes, [self.frame] * len(boxes), self.student)
        forward = FusedFGDLoss.forward if fused else FGDLoss.forward
        total(forward(self.loss, scene, self.teacher)).backward()

    def plain(self) -> None:
        """Sum after sum as the paper writes them, and the global term as the blocks compute it."""
        self.forget()
        for level in self.levels:
            student, teacher = self.student[level].float(), self.teacher[level].float()
            fg, bg, attention = plain_fgd(student, teacher, self.boxes, self.frame)
            relation = self.loss.relation[level](student, teacher)
            (1e-3 * fg + 5e-4 * bg + 5e-4 * attention + 5e-6 * relation).backward()

    def named_detectors(self) -> dict[str, Callable[[], None]]:
        copies = {level: torch.empty_like(each) for level, each in self.teacher.items()}

        def copy() -> None:
            for level, each in self.teacher.items():
                copies[level].copy_(each)

        steps = {"fused": lambda: self.step(True), "plain transcription": self.plain, "readable form": lambda: self.step(False), "copy": copy}
        return {name: self.waited(step) for name, step in steps.items()}

    def freed(self, step: Callable[[], None]) -> Callable[[], None]:
        """A step that gives its gradients back itself: else the next contestant would pay for it, and large tensors cost as much to free as to fill."""

        def whole() -> None:
            step()
            self.forget()

        return whole

    def waited(self, step: Callable[[], None]) -> Callable[[], None]:
        """A step that ends when its device has done it."""
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


# ---- times -------------------------------------------------------------------------------------------------------------------------

def times(name: str, case: Case) -> dict:
    """Medians of all contestants in milliseconds, the rivals' over ours, and ours over the floor of seven passes."""
    taken = in_turns({who: case.freed(step) for who, step in case.named_detectors().items()}, TURNS)
    rivals = {method_class: round(ratio(taken, method_class, "fused"), 2) for method_class in ("plain transcription", "readable form")}
    return {
        "what": f"FGD loss, forward and backward, {name}", "ms": {who: round(statistics.median(each), 2) for who, each in taken.items()},
        "rival_over_fused": rivals, "fused_over_floor": round(ratio(taken, "fused", "copy") * 2 / PASSES, 2),
    }


def by_boxes(case: Case) -> dict:
    """Ours by number of boxes an image, as ratios to one box."""
    given = {str(count): random_boxes(len(case.boxes), count, case.frame) for count in BOXES}
    given = {count: [each.to(case.device) for each in boxes] for count, boxes in given.items()}
    taken = in_turns({count: case.waited(lambda boxes=boxes: case.step(True, boxes)) for count, boxes in given.items()}, TURNS)
    return {
        "what": "fused FGD loss by boxes an image, over one box", "ms": {count: round(statistics.median(each), 2) for count, each in taken.items()},
        "over_one_box": {count: round(ratio(taken, count, "1"), 2) for count in given},
    }


# ---- memory ------------------------------------------------------------------------------------------------------------------------

def high_water() -> int:
    """Bytes that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def extra_memory(contestant: str) -> int:
    """Bytes by which the first step at COCO's size moves this process's high-water mark; to be called in a fresh process."""
    small, case = Case(1, 256, (64, 64)).named_detectors(), Case(2, 256, COCO).named_detectors()
    small[contestant]()                                              # libraries fetch their own memory on first use
    ballast = []
    while True:                                                      # until the mark is where we are: a process may start below its parent's
        before = high_water()
        ballast.append(torch.ones(BALLAST // 4))
        if high_water() - before > 0.9 * BALLAST:
            break
    before = high_water()
    case[contestant]()
    return high_water() - before


def memory() -> dict:
    found = {}
    for who in ("fused", "plain transcription", "readable form"):
        done = subprocess.run([sys.executable, "-m", "benchmarks.fgd_loss", "memory", who], capture_output=True, text=True, check=True)
        found[who] = json.loads(done.stdout)
    return {
        "what": f"peak extra memory of one step, 2 x 256 channels at {COCO[0]}x{COCO[1]}",
        "MB": {who: round(each / 1e6, 1) for who, each in found.items()},
        "fused_over_rival": {who: round(found["fused"] / each, 3) for who, each in found.items() if who != "fused"},
    }


# ---- what is run -------------------------------------------------------------------------------------------------------------------

def on_cpu() -> list[dict]:
    before, results = torch.get_num_threads(), []
    for threads in sorted({1, os.cpu_count() or 1}):
        torch.set_num_threads(threads)
        coco = Case(2, 256, COCO)
        rows = [times(f"2 x 256 channels at {COCO[0]}x{COCO[1]}", coco), by_boxes(coco)]
        if threads == 1:
            rows += [
                times("1 x 256 channels at 800x1344", Case(1, 256, COCO)), times("4 x 256 channels at 400x672", Case(4, 256, (400, 672))),
                times("8 x 48 channels at 128x128", Case(8, 48, (128, 128), 2)),
            ]
        results += [{**row, "threads": threads} for row in rows]
    torch.set_num_threads(before)
    return [*results, memory()]


def on_card() -> list[dict]:
    results = []
    for batch, dtype in ((16, torch.bfloat16), (2, torch.bfloat16), (2, torch.float32)):
        case, name = Case(batch, 256, COCO, device="cuda", dtype=dtype), f"{batch} x 256 channels at {COCO[0]}x{COCO[1]}, {str(dtype).split('.')[1]}"
        results += [{**times(name, case), "peak_extra_MB": extra_memory_of_card(case)}, {**by_boxes(case), "maps": name, "host_waits": host_waits(case)}]
    return results


def extra_memory_of_card(case: Case) -> dict[str, float]:
    found = {}
    for name, step in case.named_detectors().items():
        case.forget()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        found[name] = round((torch.cuda.max_memory_allocated() - before) / 1e6, 1)
    return found


def host_waits(case: Case) -> bool:
    """Does a step, once compiled, ever make the host wait for the card?"""
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


def main(device: str = "cpu", rehearse: bool = False) -> None:
    load = os.getloadavg()[0]
    results = quick(device) if rehearse else on_card() if device == "cuda" else on_cpu()
    for row in results:
        print(json.dumps(row))
    if rehearse:
        return
    write_json(PATHS[device], {
        "turns": TURNS, "load_average": {"before": round(load, 1), "after": round(os.getloadavg()[0], 1)}, "results": results, "machine": provenance(device),
    })
    print(f"written to {PATHS[device]}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["memory"]:
        torch.set_num_threads(1)
        print(extra_memory(sys.argv[2]))
    else:
        parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
        parser.add_argument("--device", default="cpu", choices=tuple(PATHS))
        parser.add_argument("--quick", action="store_true", help="small maps: rehearses the script, writes nothing")
        asked = parser.parse_args()
        if asked.device == "cuda" and not torch.cuda.is_available():
            raise SystemExit("device cuda must find a CUDA card, got none; rehearse with --quick")
        main(asked.device, asked.quick)
