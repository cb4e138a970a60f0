"""Time from a key press on the explorer to the repainted maps, in a real JupyterLab: temperature, level, next image.

The baseline is the simplest notebook code: ipywidgets' ``interact`` around a function that draws a new inline
matplotlib figure. Both are measured in the page, from the keydown event to the animation frame after the new picture is
in place, in turns of one run.
"""
import os
import statistics
import sys
import tempfile
from pathlib import Path

import torch
from torch import nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from fgdlab.lab.io import write_json
from fgdlab.lab.provenance import provenance

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "browser"))
from tests.browser import browser_lab  # noqa: E402

TURNS, REST = 25, 400  # turns; milliseconds before each
COCO_SIZE = (800, 1344)  # pixels of a COCO image as detectors see it: P3 is 100 x 168


class Patches(nn.Module):
    """A pyramid of full size, 256 channels on P3-P7, that costs next to nothing to run."""

    def __init__(self, channels: int = 256):
        super().__init__()
        self.patches = nn.Conv2d(3, channels, 8, stride=8)

    def forward(self, pixels):
        maps = {"0": self.patches(pixels)}
        for level in range(1, 5):
            maps[str(level)] = nn.functional.avg_pool2d(maps[str(level - 1)], 2, ceil_mode=True)
        return maps


class FullSize(nn.Module):
    """A detector that finds nothing."""

    def __init__(self, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        self.transform = GeneralizedRCNNTransform(COCO_SIZE[0], COCO_SIZE[1], [0.5] * 3, [0.25] * 3)
        self.backbone = Patches()

    def forward(self, images, targets=None):
        batch, _ = self.transform(images, targets)
        self.backbone(batch.tensors)
        nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "scores": torch.zeros(0)}
        return [nothing for _ in images]


class Noise:
    """Two images of full size with a few boxes."""

    classes, image_ids = ["object"], [1, 2]

    def __len__(self) -> int:
        return 2

    def __getitem__(self, i: int):
        image = torch.rand(3, *COCO_SIZE, generator=torch.Generator().manual_seed(i))
        boxes = torch.tensor([[100.0, 80.0, 300.0, 420.0], [700.0, 300.0, 760.0, 380.0], [900.0, 50.0, 1300.0, 700.0]])
        return image, {"boxes": boxes, "labels": torch.ones(3, dtype=torch.int64), "image_id": torch.tensor(i + 1)}


SET_UP = """
import torch, matplotlib.pyplot as plt
torch.set_num_threads(1)
from ipywidgets import FloatSlider, interact
from benchmarks.explorer import FullSize, Noise
from fgdlab import attention
from fgdlab.lab.config.run_config import RunConfig
from fgdlab.lab.datasets.dataset import open_split
from fgdlab.lab.explorer import explore
from fgdlab.lab.course.pretrained import pretrained_detector
from fgdlab.lab.plots import scene_and_teacher_maps

few = RunConfig(train_images=16, eval_images=8)
laptop = pretrained_detector("distilled"), pretrained_detector("teacher"), open_split(few, "val", progress=False)
full = FullSize(0), FullSize(1), Noise()

def naive(student, teacher, data):
    with torch.no_grad():
        scene, maps = scene_and_teacher_maps(student, teacher, *data[1])
    def draw(T=0.5):
        figure, axes = plt.subplots(1, 3, figsize=(9, 3))
        a_t, a_s = (attention(each["P3"], T).spatial[0].detach() for each in (maps, scene.features))
        for ax, values in zip(axes, (a_t, a_s, a_t - a_s)):
            ax.imshow(values)
        plt.show()
    return interact(draw, T=FloatSlider(value=0.5, min=0.05, max=3, step=0.05))
"""
CELLS = (SET_UP, "explore(*laptop, image=1)", "explore(*full, image=1)", "naive(*laptop);", "naive(*full);")

# Both record performance.now() - keydown in window.took, in the task after the animation frame of the new picture.
WATCH = """() => {
    window.took = []; let pressed = 0;
    document.addEventListener('keydown', () => { pressed = performance.now(); window.took = []; }, true);
    const note = () => requestAnimationFrame(() => {
        const port = new MessageChannel();
        port.port1.onmessage = () => window.took.push(performance.now() - pressed);
        port.port2.postMessage(0);
    });
    const images = (node) => node.querySelectorAll
        ? [...(node.matches('img') ? [node] : []), ...node.querySelectorAll('img')] : [];
    document.querySelectorAll('.fgd').forEach((each) => each.addEventListener('fgd-painted', note));
    const interacts = document.querySelectorAll('.widget-interact');
    interacts.forEach((each) => new MutationObserver((changes) => {
        for (const change of changes) for (const node of change.addedNodes)
            for (const image of images(node)) image.decode().then(note);
    }).observe(each, { childList: true, subtree: true }));
}"""


def measured(page, control, key: str) -> float:
    """Milliseconds from one key press to the repaint."""
    control.scroll_into_view_if_needed()
    control.focus()
    page.wait_for_timeout(REST)  # the page has drawn scrolling and focus, and the kernel is idle
    page.evaluate("() => { window.took = []; }")
    page.keyboard.press(key)
    page.wait_for_function("() => window.took.length > 0")
    return page.evaluate("() => window.took[0]")


def time_all(page) -> dict[str, list[float]]:
    """{control: milliseconds of every turn}; the first three turns do not count."""
    handles, controls = page.locator(".widget-interact .noUi-handle"), {}
    for i, which in enumerate(("laptop", "full")):
        explorer = page.locator(".fgd").nth(i)
        controls |= {
            f"temperature, {which}": explorer.locator('input[data-control="temperature"]'),
            f"level, {which}": explorer.locator('[data-control="level"] input:checked'),
            f"next image, {which}": explorer.locator('input[data-control="image"]'),
            f"interact, {which}": handles.nth(i),
        }
    times = {name: [] for name in controls}
    for turn in range(TURNS + 3):
        for name, control in controls.items():
            times[name].append(measured(page, control, "ArrowRight" if turn % 2 else "ArrowLeft"))
    return {name: values[3:] for name, values in times.items()}


def rows(times: dict[str, list[float]]) -> list[dict]:
    """Rows as in the other benchmarks, with the explorer's 90th percentile."""
    result = []
    for which, what in (("laptop", "48 x 16 x 16 map of the laptop detectors"), ("full", "256 x 100 x 168 map")):
        baseline = times[f"interact, {which}"]
        for action in ("temperature", "level", "next image"):
            ours = times[f"{action}, {which}"]
            result.append({
                "what": f"{action}: key press to repaint, {what}", "ours_ms": round(statistics.median(ours), 1),
                "ours_p90_ms": round(statistics.quantiles(ours, n=10)[-1], 1),
                "baseline": "interact and a new inline figure", "baseline_ms": round(statistics.median(baseline), 1),
                "baseline_over_ours": round(statistics.median(b / a for a, b in zip(ours, baseline, strict=True)), 2),
            })
    return result


def main() -> None:
    reason = browser_lab.absent()
    if reason:
        print(f"explorer: skipped, because {reason}")
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        browser_lab.jupyter_lab(Path(folder), PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1") as lab,
        browser_lab.chromium() as browser,
    ):
        notebook = browser_lab.write_notebook(Path(folder) / "latency.ipynb", *CELLS)
        page = browser_lab.open_and_run(lab, browser, notebook)
        for selector in (".fgd", ".widget-interact img"):
            page.wait_for_function(f"() => document.querySelectorAll('{selector}').length === 2")
        page.evaluate(WATCH)
        results = rows(time_all(page))
        version, complaints, load = browser.version, page.complaints, os.getloadavg()[0]
    for row in results:
        print(
            f"{row['what']}: {row['ours_ms']} ms; {row['baseline']}: {row['baseline_ms']} ms; "
            f"baseline / ours = {row['baseline_over_ours']}"
        )
    if complaints:
        raise RuntimeError(f"the page must have no error, got {complaints}")
    path = Path("benchmarks/results/explorer.json")
    write_json(path, {
        "turns": TURNS, "threads": 1, "chromium": version, "load_average": round(load, 1), "results": results,
        "machine": provenance(),
    })
    print(f"written to {path}")


if __name__ == "__main__":
    main()
