"""The explorer in a live notebook: one anywidget sends the reader's choice to the kernel and draws the answer.

    browser --choice (State as JSON)--> kernel --view (numbers), maps and masks (float32), rgb--> browser
"""
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import traitlets
from anywidget import AnyWidget
from PIL import Image

from ..plots import TERM_STYLES
from .figure import GREEK, format_number, lookup_table, network_colours
from .inference import DetectorInference, Sample
from .loss_maps import WEIGHT_OF
from .state import SLIDERS, State
from .view_data import ViewData, mask_edges, panel_rows, scale_mask

STATIC = Path(__file__).parent / "static"
SCRIPTS = ("maps.js", "channels.js", "controls.js", "explorer.js")  # joined to one module in this order
MAX_IMAGE_SIDE = 800  # pixels of an image's longer side in the browser
MAX_BARS = 64  # channels in the browser, largest gaps first
LABELS = {
    "difference": "Teacher, student, difference", "before_after": "All students", "attention": "Attention A^S",
    "channel": "One channel", "context": "Context of R", "loss": "Loss per cell", "shared": "Shared", "own": "Own",
    "boxes": "Boxes", "mask": "Foreground", "scale": "Scale mask", "roundings": "Both roundings",
    "detections": "Detections", "authors": "Authors'", "exact": "Exact", "temperature": "Temperature T",
    "alpha": f"{GREEK['alpha']} foreground", "beta": f"{GREEK['beta']} background",
    "gamma": f"{GREEK['gamma']} attention", "lambda_": f"{GREEK['lambda_']} global",
}
HINTS = {
    "attention": "Softmax of the mean |F| over channels at temperature T (eqs. 5 and 7). 1 is the average cell.",
    "channel": "The map of one channel in both networks. Choose the channel among the bars, by click or arrow keys.",
    "context": "Softmax over W_k F: the weights of cells in R of the global term (eq. 13), equal for every query cell.",
    "loss": "Each cell's part of the weighted loss of this image; all levels together are 100 %.",
}


def static_info(inference: DetectorInference, start: State, choices: dict[str, Iterable[str]]) -> dict:
    """What stays the same: choices with labels, values of the sliders, colours."""
    students, colours = inference.students, network_colours(list(inference.students))
    return {
        "images": len(inference.dataset),
        "choices": {
            field: [{"value": name, "label": LABELS.get(name, name), "hint": HINTS.get(name, "")} for name in names]
            for field, names in choices.items()
        },
        "students": [
            {"value": name, "label": name, "hint": "", "color": colours[name], "checkpoints": student.checkpoints}
            for name, student in students.items()
        ],
        "sliders": {name: slider(name, getattr(start, name)) for name in SLIDERS},
        "colours": colours,
        "terms": {
            term: {"color": color, "weight": WEIGHT_OF[term]}
            for term, (color, _) in TERM_STYLES.items() if term in WEIGHT_OF
        },
    }


def slider(name: str, start: float) -> dict:
    """Label, values and texts of a slider. ``start`` is among the values, so that it can be set again.

    Weights: 0, then ten per decade from 1e-8 to 1. Temperature: 0.05 to 10, denser where softmax changes fast.
    """
    if name == "temperature":
        values = [*(round(0.05 * i, 2) for i in range(1, 31)), 1.75, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0]
    else:
        values = [0.0, *(float(f"{10 ** (i / 10):.2g}") for i in range(-80, 1))]
    values = sorted({*values, float(start)})
    texts = ["off" if value == 0 else f"{value:g}" for value in values]
    return {"label": LABELS[name], "values": values, "texts": texts}


def view_message(view: ViewData) -> tuple[dict, bytes, bytes]:
    """A view as JSON and two blocks of float32 arrays, row by row.

    First block: the panels' maps and the percent per cell. Second block: fg, bg, the scale mask.
    """
    state, channels, order = view.state, view.channels, view.channels.order[:MAX_BARS]
    percent_of_terms: dict[str, float] = {}
    for row in view.terms:
        percent_of_terms[row["term"]] = percent_of_terms.get(row["term"], 0.0) + row["percent"]
    message = {
        "state": state.dict(), "grid": view.grid, "size": view.sample.padded_size, "image_id": view.sample.image_id,
        "rows": panel_rows(view),
        "panels": [panel_message(panel) for panel in view.panels],
        "boxes": view.sample.boxes[0].cpu().tolist(),
        "ranges": {name: cells.tolist() for name, cells in view.ranges.items() if "roundings" in state.overlays},
        "mask_edges": mask_edges(view.fg > 0) if "mask" in state.overlays else [],
        "channels": {
            "what": channels.what, "total": len(channels.order), "order": order.tolist(),
            "teacher": channels.teacher[order].tolist(), "student": channels.student[order].tolist(),
        },
        "terms": [
            {**row, "texts": [format_number(row["raw"]), format_number(row["weighted"]), f"{row['percent']:.1f} %"]}
            for row in view.terms
        ],
        "total": format_number(sum(row["weighted"] for row in view.terms)),
        "percents": {term: f"{percent:.1f} %" for term, percent in percent_of_terms.items()},
        "gaps": [
            {name: value if name == "student" else format_number(value) for name, value in row.items()}
            for row in view.gaps
        ],
        "networks": [{
            "name": row["name"], "AP": "not given" if row["AP"] is None else f"{row['AP']:.1f}",
            "detections": row["detections"], "detected": f"{row['detected']} of {row['objects']}",
            "scale": format_number(row["scale"][state.level]),
        } for row in view.networks],
        "checkpoints": view.checkpoints if len(view.checkpoints) > 1 else [],
        "warnings": view.warnings, "notes": view.notes,
    }
    maps, masks = [*(panel.values for panel in view.panels), view.percent], [view.fg, view.bg, scale_mask(view)]
    return as_json(message), *(np.stack(group).astype(np.float32).tobytes() for group in (maps, masks))


def panel_message(panel) -> dict:
    middle = (panel.low + panel.high) / 2 if panel.kind == "amount" else 0.0
    return {
        "title": panel.title, "network": panel.network, "kind": panel.kind, "unit": panel.unit,
        "low": panel.low, "high": panel.high, "detections": panel.detections,
        "ticks": [format_number(value) for value in (panel.low, middle, panel.high)],
        "range": f"{panel.values.min():.3g} to {panel.values.max():.3g}",
    }


def as_json(value):
    """The same with lists for tuples, and None for NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {name: as_json(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def image_message(sample: Sample) -> tuple[list[int], bytes]:
    """(height, width) and RGB bytes of the image, shrunk to MAX_IMAGE_SIDE."""
    image = Image.fromarray(sample.rgb)
    scale = min(1.0, MAX_IMAGE_SIDE / max(image.size))
    if scale < 1:
        image = image.resize([max(round(side * scale), 1) for side in image.size], Image.Resampling.BILINEAR)
    return [image.height, image.width], image.tobytes()


class ExplorerWidget(AnyWidget):
    """The synchronised traits. explorer.py has the behaviour."""

    _esm = "\n".join((STATIC / name).read_text(encoding="utf-8") for name in SCRIPTS)
    _css = STATIC / "explorer.css"
    info = traitlets.Dict().tag(sync=True)
    choice = traitlets.Dict().tag(sync=True)
    view = traitlets.Dict().tag(sync=True)
    maps = traitlets.Bytes(b"").tag(sync=True)
    masks = traitlets.Bytes(b"").tag(sync=True)
    rgb = traitlets.Bytes(b"").tag(sync=True)
    rgb_size = traitlets.List().tag(sync=True)
    lookup_tables = traitlets.Bytes(lookup_table("amount") + lookup_table("difference")).tag(sync=True)
