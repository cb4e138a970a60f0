"""Time from a key press on the explorer to the repainted maps, by segment, in a real JupyterLab; and the saved page.

Measured: an image that was not seen before, temperature, level, and the next image, which was fetched while the reader
rested. Segments: the way to the kernel and back, Python, the explorer's script, and the wait for the frame with its
painting. The baseline is the simplest notebook code: ipywidgets' ``interact`` around a function that draws a new inline
matplotlib figure. It has a notebook and a kernel of its own, as the explorer has. All are measured in the page, actions
in turns, the baseline last; each press waits until page and kernel rest.
"""
import gzip
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from tqdm import tqdm

from fgdlab.lab.config import RunConfig
from fgdlab.lab.course import pretrained_detector
from fgdlab.lab.datasets import open_split
from fgdlab.lab.explorer import explore
from fgdlab.lab.io import write_json
from fgdlab.lab.provenance import provenance

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "browser"))
from tests.browser import browser_lab  # noqa: E402

TURNS, REST = 15, 250  # turns; milliseconds of rest of page and kernel before each
BOUNDS = {"temperature": 33, "level": 33, "image in order": 33, "new image": 66}  # ms; twice that for full size
MAPS = {"laptop": "48 x 16 x 16 map of the laptop detectors", "full": "256 x 100 x 168 map"}
IMAGES, JUMP = 200, 5  # images; from one image that was not seen before to the next
COCO_SIZE = (800, 1344)  # pixels of a COCO image as detectors see it: P3 is 100 x 168


class Patches(nn.Module):
    """A pyramid of full size, 256 channels on P3-P7, that costs next to nothing to run: mixed means of 8 x 8 pixels."""

    def __init__(self, channels: int = 256):
        super().__init__()
        self.mix = nn.Conv2d(3, channels, 1)

    def forward(self, pixels):
        maps = {"0": self.mix(nn.functional.avg_pool2d(pixels, 8))}
        for level in range(1, 5):
            maps[str(level)] = maps[str(level - 1)][..., ::2, ::2].contiguous()
        return maps


class Normalised(GeneralizedRCNNTransform):
    """Images come in the detector's size."""

    def resize(self, image, target=None):
        return image, target


class FullSize(nn.Module):
    """A detector that finds nothing."""

    def __init__(self, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        self.transform = Normalised(*COCO_SIZE, [0.5] * 3, [0.25] * 3)
        self.backbone = Patches()

    def forward(self, images, targets=None):
        batch, _ = self.transform(images, targets)
        self.backbone(batch.tensors)
        nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "scores": torch.zeros(0)}
        return [nothing for _ in images]


class Noise:
    """Images of full size with a few boxes."""

    classes, image_ids = ["object"], list(range(1, IMAGES + 1))

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, i: int):
        tiles = torch.rand(3, COCO_SIZE[0] // 8, COCO_SIZE[1] // 8, generator=torch.Generator().manual_seed(i))
        image = nn.functional.interpolate(tiles[None], scale_factor=8.0)[0]
        boxes = torch.tensor([[100.0, 80.0, 300.0, 420.0], [700.0, 300.0, 760.0, 380.0], [900.0, 50.0, 1300.0, 700.0]])
        return image, {"boxes": boxes, "labels": torch.ones(3, dtype=torch.int64), "image_id": torch.tensor(i + 1)}


SET_UP = """
import torch, matplotlib.pyplot as plt
torch.set_num_threads(1)
from ipywidgets import FloatSlider, interact
from benchmarks.explorer import FullSize, Noise
from fgdlab import attention
from fgdlab.lab.config import RunConfig
from fgdlab.lab.course import pretrained_detector
from fgdlab.lab.datasets import open_split
from fgdlab.lab.explorer import explore
from fgdlab.lab.plots import scene_and_teacher_maps

few = RunConfig(train_images=16, eval_images=200)
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


class Tool(NamedTuple):
    """What is timed: one cell per size of maps; the selector of the tool, of a picture in it, and of its controls."""

    cells: tuple[str, str]
    root: str
    picture: str
    controls: dict[str, str]


TOOLS = (
    Tool(("explore(*laptop, image=1)", "explore(*full, image=1)"), ".fgd", ".fgd", {
        "new image": '[aria-label="image number"]', "temperature": 'input[data-control="temperature"]',
        "level": '[data-control="level"] input:checked', "image in order": 'input[data-control="image"]',
    }),
    Tool(("naive(*laptop);", "naive(*full);"), ".widget-interact", ".widget-interact img", {
        "interact": ".noUi-handle",
    }),
)

# Segments in milliseconds after the keydown: the answer of the kernel, its seconds of Python, the new picture, and the
# task after the animation frame that paints it.
WATCH = """() => {
    window.took = []; let pressed = 0, answer = null;
    document.addEventListener('keydown', () => { pressed = performance.now(); answer = null; window.took = []; }, true);
    const note = () => {
        const drawn = performance.now() - pressed, [came, python] = answer || [0, 0];
        requestAnimationFrame(() => {
            const port = new MessageChannel();
            port.port1.onmessage = () => {
                const total = performance.now() - pressed;
                const transport = came - python, script = drawn - came, paint = total - drawn;
                window.took.push({ total, transport, python, script, paint });
            };
            port.port2.postMessage(0);
        });
    };
    const images = (node) => node.querySelectorAll
        ? [...(node.matches('img') ? [node] : []), ...node.querySelectorAll('img')] : [];
    document.querySelectorAll('.fgd').forEach((each) => {
        each.addEventListener('fgd-answered', (event) => {
            answer = [performance.now() - pressed, 1000 * event.detail];
        });
        each.addEventListener('fgd-painted', note);
    });
    const interacts = document.querySelectorAll('.widget-interact');
    interacts.forEach((each) => new MutationObserver((changes) => {
        for (const change of changes) for (const node of change.addedNodes)
            for (const image of images(node)) image.decode().then(note);
    }).observe(each, { childList: true, subtree: true }));
    const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    let changed = performance.now();
    kernel.statusChanged.connect(() => { changed = performance.now(); });
    window.rests = (ms) => kernel.status === 'idle' && performance.now() - changed > ms;
}"""


def measured(page, control, key: str, typed: int | None = None) -> dict[str, float]:
    """Segments of one key press, in milliseconds. typed: a number that is typed just before, too late to be fetched."""
    control.scroll_into_view_if_needed()
    control.focus()
    page.wait_for_timeout(REST)  # the page has drawn scrolling and focus
    page.wait_for_function("(ms) => window.rests(ms)", arg=REST)  # neighbours are fetched
    if typed is not None:
        control.fill(str(typed))
    page.evaluate("() => { window.took = []; }")
    page.keyboard.press(key)
    page.wait_for_function("() => window.took.length > 0")
    return page.evaluate("() => window.took[0]")


def time_all(page, tool: Tool, which: str, place: int) -> dict[str, list[dict]]:
    """{action: segments of every turn} on the page's ``tool`` number ``place``; the first two turns do not count."""
    root, times = page.locator(tool.root).nth(place), {}
    controls = {action: root.locator(selector) for action, selector in tool.controls.items()}
    for turn in tqdm(range(TURNS + 2), which, unit="turn"):
        for action, control in controls.items():
            key = "Enter" if action == "new image" else "ArrowRight" if "image" in action or turn % 2 else "ArrowLeft"
            typed = 20 + JUMP * turn if action == "new image" else None
            times.setdefault(action, []).append(measured(page, control, key, typed))
    return {name: values[2:] for name, values in times.items()}


def rows(times: dict[str, list[dict]], which: str) -> list[dict]:
    """Rows as in the other benchmarks, with least, 90th percentile, and the median of every segment."""
    result, baseline, load = [], [each["total"] for each in times["interact"]], round(os.getloadavg()[0], 1)
    for action, bound in BOUNDS.items():
        ours = [each["total"] for each in times[action]]
        result.append({
            "what": f"{action}: key press to repaint, {MAPS[which]}", "ours_ms": round(statistics.median(ours), 1),
            "ours_min_ms": round(min(ours), 1), "bound_ms": bound * (1 if which == "laptop" else 2),
            "ours_p90_ms": round(statistics.quantiles(ours, n=10)[-1], 1),
            "segments_ms": {
                name: round(statistics.median(each[name] for each in times[action]), 1)
                for name in ("transport", "python", "script", "paint")
            },
            "baseline": "interact and a new inline figure", "baseline_ms": round(statistics.median(baseline), 1),
            "baseline_over_ours": round(statistics.median(b / a for a, b in zip(ours, baseline, strict=True)), 2),
            "load_average": load,
        })
    return result


def saved_page(browser, folder: Path) -> dict:
    """Size of a saved page, and milliseconds from opening it from disk, offline, to its first picture."""
    students = {name: pretrained_detector(name) for name in ("baseline", "distilled")}
    data = open_split(RunConfig(train_images=16, eval_images=200), "val", progress=False)
    path = explore(students, pretrained_detector("teacher"), data).save(folder / "view.html")
    times = []
    for _ in tqdm(range(5), "saved page"):
        context = browser.new_context(offline=True)
        page = context.new_page()
        page.goto(path.as_uri())
        page.locator(".fgd[data-frames='1']").wait_for()
        times.append(page.evaluate("() => performance.getEntriesByName('fgd-first-picture')[0].startTime"))
        images = page.locator(".fgd-image output").inner_text()
        context.close()
    text = path.read_bytes()
    return {
        "images": images, "megabytes": round(len(text) / 1e6, 2),
        "megabytes_compressed": round(len(gzip.compress(text)) / 1e6, 2), "load_ms": round(statistics.median(times)),
    }


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
        times, complaints = {which: {} for which in MAPS}, []
        for tool in TOOLS:
            notebook = browser_lab.write_notebook(Path(folder) / f"{tool.root[1:]}.ipynb", SET_UP, *tool.cells)
            page = browser_lab.open_and_run(lab, browser, notebook)
            page.wait_for_function("(picture) => document.querySelectorAll(picture).length === 2", arg=tool.picture)
            page.evaluate(WATCH)
            for place, which in enumerate(MAPS):
                times[which].update(time_all(page, tool, which, place))
            complaints += page.complaints
            page.close()
        results = [row for which in MAPS for row in rows(times[which], which)]
        saved = saved_page(browser, Path(folder))
        version = browser.version
    for row in results:
        segments = ", ".join(f"{name} {value}" for name, value in row["segments_ms"].items())
        print(
            f"{row['what']}: {row['ours_ms']} ms ({segments}; least {row['ours_min_ms']}, bound {row['bound_ms']}); "
            f"{row['baseline']}: {row['baseline_ms']} ms; baseline / ours = {row['baseline_over_ours']}"
        )
    print(f"saved page: {saved}")
    if complaints:
        raise RuntimeError(f"the page must have no error, got {complaints}")
    path = Path("benchmarks/results/explorer.json")
    write_json(path, {
        "turns": TURNS, "threads": 1, "chromium": version, "results": results,
        "saved_page": saved,
        "machine": provenance(),
    })
    print(f"written to {path}")


if __name__ == "__main__":
    main()
