"""Drawing digit scenes and writing them as a COCO folder, against reading the same images back, in one process.

    python -m benchmarks.making            about a minute
"""
import itertools
import statistics
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.timing import in_turns, ratio
from fgdlab.lab.datasets import DetectionDataset, DigitScenes, digit_folder, read_split
from fgdlab.lab.io import write_json
from fgdlab.lab.provenance import provenance

PATH = Path("benchmarks/results/making.json")
SCENES, TURNS = 200, 7
RECIPES = {
    "laptop, 128 px": DigitScenes(128, SCENES, 1, 1),
    "the same with masks": DigitScenes(128, SCENES, 1, 1, masks=True),
    "gpu, 256 px": DigitScenes(256, SCENES, 1, 1),
}


def against_reading(what: str, recipe: DigitScenes, folder: Path) -> dict:
    """Images a second of both, CPU time, and the median of the ratios reading / making of times."""
    made, numbers = recipe.train + recipe.tune + recipe.val, itertools.count()

    def make() -> None:
        digit_folder(recipe, folder / f"{next(numbers)}", progress=False)

    def read() -> None:
        for split in ("train", "tune", "val"):
            for image, _ in DetectionDataset(read_split(folder / "0", split, masks=recipe.masks)):
                assert image.shape == (3, recipe.size, recipe.size)

    times = in_turns({"making": make, "reading": read}, TURNS, time.process_time)
    speed = {name: 1000 * made / statistics.median(each) for name, each in times.items()}
    return {
        "what": what, "images": made, "made_per_second": round(speed["making"], 1),
        "baseline": "reading them back as tensors", "read_per_second": round(speed["reading"], 1),
        "baseline_over_ours": round(ratio(times, "reading", "making"), 3),
    }


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rows = [against_reading(what, recipe, Path(folder) / what) for what, recipe in RECIPES.items()]
    for row in rows:
        print(
            f"{row['what']:20} {row['made_per_second']:7.1f} images per second made, {row['read_per_second']:7.1f} "
            f"read back; times reading / making = {row['baseline_over_ours']}"
        )
    write_json(PATH, {
        "what": "digit scenes made and written, CPU time of one process, medians of turns", "turns": TURNS,
        "results": rows, "machine": provenance(),
    })
    print(f"written to {PATH}")


if __name__ == "__main__":
    main()
