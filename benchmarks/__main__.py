"""``make bench``: medians and ratios on this machine, as a table and as JSON in benchmarks/results/."""
from pathlib import Path

import torch

from benchmarks import explorer, fgd_loss, laptop_run, laptop_step, methods, runner
from benchmarks.plain_fgd import plain_fgd
from benchmarks.timing import TURNS, duel
from fgdlab import FGDConfig, FGDLoss, Scene
from fgdlab.lab.disk import write_json
from fgdlab.lab.provenance import provenance


def loss_duel(batch: int, channels: int, grids: dict[str, tuple[int, int]], frame: tuple[int, int], boxes_per_image: int) -> dict:
    """FGD's focal and attention terms, forward and backward on every level, against the plain transcription."""
    torch.manual_seed(0)
    corners = torch.rand(batch, boxes_per_image, 2) * torch.tensor([frame[1] * 0.8, frame[0] * 0.8])
    boxes = list(torch.cat([corners, corners + torch.rand(batch, boxes_per_image, 2) * torch.tensor([frame[1] * 0.2, frame[0] * 0.2])], dim=2))
    student = {level: torch.randn(batch, channels, *grid, requires_grad=True) for level, grid in grids.items()}
    teacher = {level: torch.randn(batch, channels, *grid) for level, grid in grids.items()}
    scene = Scene(torch.zeros(batch, 3, *frame), boxes, [frame] * batch, student)
    loss = FGDLoss(tuple(grids), channels, channels, FGDConfig(lambda_=0))

    def ours() -> None:
        sum(term.weight * term.raw for term in loss(scene, teacher)).backward()

    def rival() -> None:
        for level in grids:
            fg, bg, attention = plain_fgd(student[level], teacher[level], boxes, frame)
            (1e-3 * fg + 5e-4 * bg + 5e-4 * attention).backward()

    name = f"FGD loss, focal and attention terms, {batch} x {channels} channels at {frame[0]}x{frame[1]}, {boxes_per_image} boxes an image"
    return duel(name, ours, rival, "plain transcription")


def main() -> None:
    torch.set_num_threads(1)
    laptop, coco = {"P3": (16, 16), "P4": (8, 8), "P5": (4, 4)}, {f"P{level}": (-(-800 // 2**level), -(-1344 // 2**level)) for level in range(3, 8)}
    results = [loss_duel(16, 48, laptop, (128, 128), 2), loss_duel(1, 256, coco, (800, 1344), 10)]
    for row in results:
        print(f"{row['what']}: {row['ours_ms']} ms; {row['rival']}: {row['rival_ms']} ms; rival / ours = {row['rival_over_ours']}")
    path = Path("benchmarks/results/cpu.json")
    write_json(path, {"turns": TURNS, "threads": 1, "results": results, "machine": provenance()})
    print(f"written to {path}")
    laptop_step.main()
    laptop_run.main()
    runner.main()
    fgd_loss.main()
    methods.main()
    explorer.main()


if __name__ == "__main__":
    main()
