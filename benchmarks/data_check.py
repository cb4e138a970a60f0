"""``fgdlab data check`` of 5,000 images of 640 pixels, cold and warm, against decoding the same files.

    python -m benchmarks.data_check [FOLDER]   about two minutes on two idle cores

FOLDER holds the images of an earlier call, or is where to keep them.

The images are noise as JPEG files of some 100 kB, in COCO's layout: 4,000 to train and 1,000 to evaluate. So that they
are made quickly, only DRAWN of them are drawn; the bytes of every file end in a number of its own. Cold: with an empty
cache. Warm: the same call again. Each call is a process of its own; its memory is the largest that it ever had. The
baseline reads and decodes every file with Pillow, one after the other.
"""
import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from fgdlab.lab.io import write_json
from fgdlab.lab.provenance import provenance

PATH = Path("benchmarks/results/data_check.json")
WIDTH, HEIGHT, OBJECTS, DRAWN = 640, 480, 7, 40
SPLITS = {"train": 4000, "val": 1000}


def draw(rng: np.random.Generator) -> bytes:
    """A JPEG file of smooth noise with some fine noise, as large as a photograph's."""
    coarse = Image.fromarray(rng.integers(0, 256, (HEIGHT // 40, WIDTH // 40, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), dtype=np.int16)
    fine = rng.integers(-12, 13, (HEIGHT, WIDTH, 1), dtype=np.int16)
    file = io.BytesIO()
    Image.fromarray((smooth + fine).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue()


def make(folder: Path, splits: dict[str, int] = SPLITS) -> Path:
    """A folder in COCO's layout; 80 classes, seven boxes on each image."""
    rng, next_id = np.random.default_rng(0), 1
    drawn = [draw(rng) for _ in range(DRAWN)]
    categories = [{"id": number + 1, "name": f"class {number}"} for number in range(80)]
    for split, count in splits.items():
        (folder / split).mkdir(parents=True)
        images, annotations = [], []
        for image_id in range(next_id, next_id + count):
            name = f"{image_id:06d}.jpg"
            (folder / split / name).write_bytes(drawn[image_id % DRAWN] + name.encode())
            images.append({"id": image_id, "file_name": name, "width": WIDTH, "height": HEIGHT})
            for width, height in rng.uniform(16, 200, (OBJECTS, 2)).round(1).tolist():
                x, y = rng.uniform(0, [WIDTH - width, HEIGHT - height]).round(1).tolist()
                annotations.append({
                    "id": len(annotations) + 1, "image_id": image_id, "category_id": int(rng.integers(1, 81)),
                    "bbox": [x, y, width, height], "area": width * height, "iscrowd": 0})
        next_id += count
        (folder / "annotations").mkdir(exist_ok=True)
        document = {"images": images, "annotations": annotations, "categories": categories}
        write_json(folder / f"annotations/instances_{split}.json", document)
    return folder


def check(folder: Path, home: Path) -> dict:
    """Seconds, CPU seconds and megabytes of one call."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "fgdlab", "data", "check", str(folder)]
    process = subprocess.Popen(command, env={**os.environ, "FGDLAB_HOME": str(home)}, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"data check must find nothing to refuse, got status {status}")
    seconds, cpu = time.perf_counter() - started, used.ru_utime + used.ru_stime
    return {"seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2), "peak_mb": round(used.ru_maxrss / 1000)}


def decode(folder: Path) -> float:
    started = time.perf_counter()
    for path in folder.glob("*/*.jpg"):
        with Image.open(path) as image:
            image.convert("RGB")
    return round(time.perf_counter() - started, 2)


def main(kept: str | None = None) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(kept or f"{temporary}/images")
        if not folder.exists():
            make(folder)
        calls = {name: check(folder, Path(temporary, "home")) for name in ("cold", "warm")}
        baseline, size = decode(folder), sum(path.stat().st_size for path in folder.glob("*/*.jpg"))
    for name, call in calls.items():
        call["over_baseline"] = round(call["seconds"] / baseline, 2)
        print(f"{name}: {call}")
    print(f"decoding every file once: {baseline} s")
    write_json(PATH, {
        "what": "fgdlab data check, seconds of a whole call", "images": sum(SPLITS.values()), "size": [WIDTH, HEIGHT],
        "megabytes_of_files": round(size / 1e6), "baseline": "Pillow decodes every file once",
        "baseline_seconds": baseline, **calls, "machine": provenance(),
    })
    print(f"written to {PATH}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
