"""``make screenshots``: screenshots of the explorer for README and notebook 03, taken in a real JupyterLab.

    notebook of two cells --JupyterLab in headless Chromium--> notebooks/images/explorer.png, explorer_before_after.png
"""
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.browser import browser_lab  # noqa: E402

IMAGES = ROOT / "notebooks" / "images"
MAX_BYTES = 400_000
SIZE = (1300, 1500)  # pixels of the window; the explorer is as wide as its cell

SET_UP = """
import torch
torch.set_num_threads(1)
from pathlib import Path
from fgdlab.lab.course import distilled_config, pretrained_detector, pretrained_facts
from fgdlab.lab.datasets import open_split
from fgdlab.lab.explorer import explore

config = distilled_config()
students = {name: pretrained_detector(name) for name in ("baseline", "distilled")}
teacher = pretrained_detector("teacher")
dataset = open_split(config, "val", progress=False)
ap = {name: pretrained_facts(name)["AP"] for name in ("teacher", "baseline", "distilled")}
"""
CALL = "explore(students, teacher, dataset, config, image=IMAGE, ap=ap, gamma=5e-4, lambda_=5e-6, {})"
SHOTS = {
    "explorer": CALL.format("overlays=('boxes', 'detections')"),
    "explorer_before_after": CALL.format("view='before_after', overlays=('boxes', 'mask')"),
}
IMAGE = 3            # of the val split: a digit, and two look-alikes to which the teacher responds
CELL = (0.62, 0.46)  # where the pointer rests on the teacher's map, as fractions of its width and height


def screenshot(page, name: str) -> bytes:
    """Screenshot of the explorer with the pointer on a cell, as PNG."""
    explorer = page.locator(".fgd")
    explorer.wait_for()
    page.wait_for_timeout(500)
    panel = page.locator('.fgd-map[data-map="teacher"] .fgd-panel').bounding_box()
    page.mouse.move(panel["x"] + CELL[0] * panel["width"], panel["y"] + CELL[1] * panel["height"])
    page.wait_for_timeout(200)
    if page.complaints:
        raise RuntimeError(f"{name}: the page must have no errors, got {page.complaints}")
    return explorer.screenshot()


def compressed(png: bytes) -> bytes:
    """The same PNG, better compressed. No palette: the colours of a map are its values."""
    file = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(file, "PNG", optimize=True)
    if len(file.getvalue()) > MAX_BYTES:
        raise RuntimeError(f"a screenshot must be at most {MAX_BYTES} bytes, got {len(file.getvalue())}; reduce SIZE")
    return file.getvalue()


def main() -> None:
    reason = browser_lab.absent()
    if reason:
        sys.exit(f"screenshots need a browser, but {reason}; install what is missing")
    IMAGES.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        browser_lab.jupyter_lab(Path(folder)) as lab,
        browser_lab.chromium() as browser,
    ):
        for name, line in SHOTS.items():
            notebook = browser_lab.write_notebook(Path(folder) / f"{name}.ipynb", SET_UP + f"IMAGE = {IMAGE}", line)
            page = browser_lab.open_and_run(lab, browser, notebook, size=SIZE)
            path = IMAGES / f"{name}.png"
            path.write_bytes(compressed(screenshot(page, name)))
            page.close()
            print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
