"""The explorer in a live notebook: one anywidget that sends what the reader chose to the kernel and draws what comes back.

    browser --choice (State as JSON)--> kernel --frame (numbers), maps and ground (float32), photo (RGB)--> browser

static/*.js colours, lays out and reads out these arrays; it computes nothing. Hover needs no kernel: the arrays are there.
"""
import math
from pathlib import Path

import numpy as np
import traitlets
from anywidget import AnyWidget
from PIL import Image

from fgdlab.config import ROUNDINGS

from ..plots import TERM_STYLES
from .figure import GREEK, lut, number, role_colours
from .inference import DetectorInference, Sample
from .loss_maps import WEIGHT_OF
from .state import LIMITS, OVERLAYS, VIEWS, WEIGHTS, State, stops
from .view_data import ViewData, arranged, outline, scale_mask

STATIC = Path(__file__).parent / "static"
SCRIPTS = ("maps.js", "channels.js", "controls.js", "explorer.js")   # one module when joined, in this order
PHOTO_SIDE = 800                                                     # pixels of the longer side of a photo that is sent
MOST_BARS = 64                                                      # channels drawn, the largest gaps first
WORDS = {
    "difference": "Teacher, student, difference", "before_after": "All students", "attention": "Attention A^S", "channel": "One channel",
    "context": "Context of R", "loss": "Where the loss is", "shared": "Shared", "own": "Own", "boxes": "Boxes", "mask": "Foreground", "scale": "Scale mask",
    "roundings": "Both roundings", "detections": "Detections", "authors": "Authors'", "exact": "Exact",
}
HINTS = {
    "attention": "Which cells are strong: softmax of the mean |F| over channels at temperature T (eqs. 5 and 7). 1 is the average cell.",
    "channel": "The map of one channel in both networks. Pick it among the bars, by click or with the arrow keys.",
    "context": "softmax over W_k F, which cells R of the global term (eq. 13) gathers. One map for all: every cell as a query gets the same weights.",
    "loss": "Each cell's part of the weighted loss of this image, all levels together 100 %.",
}


def about(inference: DetectorInference, start: State, quantities: tuple[str, ...]) -> dict:
    """What does not change while the explorer is open: choices with their words, stops of the sliders, colours."""
    colours = role_colours(list(inference.students))

    def choices(names) -> list[dict]:
        return [{"value": name, "label": WORDS.get(name, name), "hint": HINTS.get(name, "")} for name in names]

    return {
        "images": len(inference.scenes),
        "levels": choices(inference.levels),
        "students": [{"value": name, "label": name, "hint": "", "color": colours[name], "stages": who.stages} for name, who in inference.students.items()],
        "views": choices(VIEWS if len(inference.students) > 1 else VIEWS[:1]),
        "quantities": choices(quantities),
        "limits": choices(LIMITS), "roundings": choices(ROUNDINGS), "overlays": choices(OVERLAYS),
        "sliders": {name: slider(name, getattr(start, name)) for name in ("temperature", *WEIGHTS)},
        "colours": colours,
        "terms": {term: {"color": color, "hatch": line != "-", "weight": WEIGHT_OF[term]} for term, (color, line) in TERM_STYLES.items() if term in WEIGHT_OF},
    }


def slider(name: str, start: float) -> dict:
    values = stops(name, start)
    words = {"temperature": "Temperature T", **{weight: f"{sign} {what}" for weight, sign, what in (
        ("alpha", GREEK["alpha"], "foreground"), ("beta", GREEK["beta"], "background"), ("gamma", GREEK["gamma"], "attention"), ("lambda_", GREEK["lambda_"], "global"))}}
    return {"label": words[name], "stops": values, "labels": ["off" if value == 0 else f"{value:g}" for value in values]}


def packed(frame: ViewData) -> tuple[dict, bytes, bytes]:
    """A frame as JSON and float32 bytes, row by row: the panels' maps and share; and fg, bg, the scale mask, which no weight and no T moves."""
    maps, ground = [*(panel.values for panel in frame.panels), frame.share], [frame.fg, frame.bg, scale_mask(frame)]
    channels, order = frame.channels, frame.channels.order[:MOST_BARS]
    state = frame.state
    message = {
        "state": state.dict(), "grid": list(frame.grid), "stride": frame.stride, "size": list(frame.place.padded_size), "image_id": frame.place.image_id,
        "rows": arranged(frame),
        "panels": [{
            "title": panel.title, "role": panel.role, "kind": panel.kind, "low": panel.low, "high": panel.high, "unit": panel.unit, "found": panel.found,
            "ends": [number(panel.low), number((panel.low + panel.high) / 2 if panel.kind == "amount" else 0.0), number(panel.high)],
            "range": f"{panel.values.min():.3g} to {panel.values.max():.3g}",
        } for panel in frame.panels],
        "boxes": frame.place.boxes.cpu().tolist(),
        "ranges": {name: cells.tolist() for name, cells in frame.ranges.items()} if "roundings" in state.overlays else {},
        "outline": outline(frame.fg > 0) if "mask" in state.overlays else [],
        "channels": {
            "what": channels.what, "total": len(channels.order), "order": order.tolist(),
            "teacher": channels.teacher[order].tolist(), "student": channels.student[order].tolist(),
        },
        "terms": [{**row, "words": [number(row["raw"]), number(row["weighted"]), f"{row['share']:.1f} %"]} for row in frame.terms],
        "total": number(sum(row["weighted"] for row in frame.terms)),
        "shares": {term: f"{sum(row['share'] for row in frame.terms if row['term'] == term):.1f} %" for term in dict.fromkeys(row["term"] for row in frame.terms)},
        "gaps": [{name: value if name == "student" else number(value) for name, value in row.items()} for row in frame.gaps],
        "networks": [{
            "name": row["name"], "AP": "not given" if row["AP"] is None else f"{row['AP']:.1f}", "detections": row["detections"],
            "found": f"{row['found']} of {row['objects']}", "scale": number(row["scale"][state.level]),
        } for row in frame.networks],
        "curve": frame.curve if len(frame.curve) > 1 else [],
        "warnings": frame.warnings, "notes": frame.notes,
    }
    return as_json(message), *(b"".join(np.ascontiguousarray(each, np.float32).tobytes() for each in group) for group in (maps, ground))


def as_json(value):
    """The same with None for NaN and infinity, which JSON does not know: broken weights must be shown, not break the page."""
    if isinstance(value, dict):
        return {name: as_json(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def packed_photo(place: Sample) -> tuple[list[int], bytes]:
    """(height, width) and RGB bytes of the image, shrunk where it is larger than any panel."""
    height, width = place.photo.shape[:2]
    scale = min(1.0, PHOTO_SIDE / max(height, width))
    size = max(round(height * scale), 1), max(round(width * scale), 1)
    photo = place.photo if scale == 1 else np.asarray(Image.fromarray(place.photo).resize(size[::-1], Image.Resampling.BILINEAR))
    return list(size), np.ascontiguousarray(photo).tobytes()


class ExplorerWidget(AnyWidget):
    """Traits only: what goes over the wire. The behaviour is in explore.py."""

    _esm = "\n".join((STATIC / name).read_text(encoding="utf-8") for name in SCRIPTS)
    _css = STATIC / "explorer.css"
    about = traitlets.Dict().tag(sync=True)
    choice = traitlets.Dict().tag(sync=True)
    frame = traitlets.Dict().tag(sync=True)
    maps = traitlets.Bytes(b"").tag(sync=True)
    ground = traitlets.Bytes(b"").tag(sync=True)
    photo = traitlets.Bytes(b"").tag(sync=True)
    photo_size = traitlets.List().tag(sync=True)
    luts = traitlets.Bytes(lut("amount") + lut("difference")).tag(sync=True)
