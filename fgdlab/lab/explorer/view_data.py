"""All arrays and numbers that the panels show at one state; the widget, the figure and the tables only draw them."""
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from fgdlab.config import ROUNDINGS

from .inference import DetectorInference, Predictions, Sample
from .loss_maps import WEIGHT_OF, LossMaps, MapPair, gap, loss_maps
from .state import State
from .teacher_checks import check_teacher


@dataclass(frozen=True, eq=False)
class Panel:
    """A map (H, W) with its colours.

    network: whose map, "" for a difference. kind: "amount" or "difference". low, high: colour limits.
    detections: (box x1 y1 x2 y2 in pixels of the sample, label).
    """

    title: str
    network: str
    values: np.ndarray
    kind: str
    unit: str
    detections: list[tuple[list[float], str]] = field(default_factory=list)
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True, eq=False)
class Channels:
    """Two values per channel (C,). what: their quantity."""

    what: str
    student: np.ndarray
    teacher: np.ndarray

    @property
    def order(self) -> np.ndarray:
        """Channels from the largest |teacher - student| to the smallest; equal gaps by channel number."""
        return np.argsort(-np.abs(self.teacher - self.student), kind="stable")


@dataclass(frozen=True, eq=False)
class ViewData:
    """grid: (H, W). fg, bg: (H, W) mask weights. percent: (H, W), of the loss. ranges: {rounding: (K, 4) cells}.

    terms, gaps, networks, checkpoints: rows of numbers. warnings, notes: lines.
    """

    state: State
    sample: Sample
    grid: tuple[int, int]
    panels: list[Panel]
    fg: np.ndarray
    bg: np.ndarray
    percent: np.ndarray
    ranges: dict[str, np.ndarray]
    channels: Channels
    terms: list[dict]
    gaps: list[dict]
    networks: list[dict]
    checkpoints: list[dict]
    warnings: list[str]
    notes: list[str]

    @property
    def stride(self) -> int:
        return round(self.sample.padded_size[0] / self.grid[0])


def view_data(inference: DetectorInference, state: State, ap: dict[str, float]) -> ViewData:
    """The view at one state. ``ap``: {network: AP}, as far as known."""
    image, level, name = state.image, state.level, state.student_name
    checkpoints = inference.shown(state)
    pairs = {each: inference.pairs(image, each, checkpoint) for each, checkpoint in checkpoints.items()}

    def maps_of(student: str, level: str) -> LossMaps:
        fg, bg, _ = inference.masks(image, level, state.rounding)
        return loss_maps(pairs[student][level], fg, bg, state.temperature, inference.config)

    by_level = {each: maps_of(name, each) for each in inference.levels}
    by_student = {each: by_level[level] if each == name else maps_of(each, level) for each in pairs}
    here = {each: pairs[each][level] for each in pairs}
    terms = term_rows(state, by_level)
    total = sum(row["weighted"] for row in terms)
    fg, bg, inside = inference.masks(image, level, state.rounding)
    gaps = {each: gap(here[each], by_student[each], inside) for each in pairs}
    key, parts = (image, level, name, state.rounding), ("feature_fg", "feature_bg")
    inference.checkpoint_gaps[(*key, state.checkpoint)] = {part: gaps[name][part] for part in parts}
    predictions = {"teacher": inference.teacher_predictions(image).above(state.score)}
    for each, checkpoint in checkpoints.items():
        predictions[each] = inference.student_predictions(image, each, checkpoint).above(state.score)
    sample = inference.sample(image)
    networks, warnings = check_teacher(inference, sample, predictions, ap)
    return ViewData(
        state=state, sample=sample, grid=fg.shape,
        panels=panels_of(inference, state, here, by_student, total, predictions),
        fg=fg, bg=bg, percent=cell_percent(state, by_level[level], total),
        ranges={each: inference.ranges(image, level, each) for each in ROUNDINGS},
        channels=channels_of(state, here[name], by_level[level]), terms=terms,
        gaps=[{"student": each, **row} for each, row in gaps.items()], networks=networks,
        checkpoints=[
            {"checkpoint": label, **inference.checkpoint_gaps.get((*key, i), dict.fromkeys(parts))}
            for i, label in enumerate(inference.students[name].checkpoints)
        ],
        warnings=warnings, notes=inference.notes(name),
    )


# --- the loss

def weight(state: State, term: str) -> float:
    return getattr(state, WEIGHT_OF[term])


def term_rows(state: State, by_level: dict[str, LossMaps]) -> list[dict]:
    """student, level, term, raw, weight, weighted, and percent of the student's whole loss on this image."""
    total = sum(weight(state, term) * raw for maps in by_level.values() for term, raw in maps.raw.items()) or 1.0
    rows = []
    for level, maps in by_level.items():
        for term, raw in maps.raw.items():
            factor = weight(state, term)
            row = {"student": state.student_name, "level": level, "term": term, "raw": raw, "weight": factor}
            rows.append({**row, "weighted": factor * raw, "percent": 100 * factor * raw / total})
    return rows


def cell_percent(state: State, maps: LossMaps, total: float) -> np.ndarray:
    """(H, W): percent per cell of the loss of this image over all levels."""
    nothing = np.zeros_like(maps.spatial["teacher"])
    cells = sum((weight(state, term) * each for term, each in maps.cells.items()), nothing)
    return 100 * cells / (total or 1.0)


# --- panels

UNITS = {
    "attention": "spatial attention, 1 = average cell", "channel": "F of channel {}",
    "context": "context weight, 1 = average cell",
}


def panels_of(
    inference: DetectorInference, state: State, pairs: dict[str, MapPair], maps: dict[str, LossMaps], total: float,
    predictions: dict[str, Predictions],
) -> list[Panel]:
    """The maps of one view; compared maps have the same colours.

    Args:
        pairs, maps: {student: ...} of the level shown.
        total: weighted loss of the chosen student.
    """
    chosen, shown = state.student_name, list(pairs) if state.view == "before_after" else [state.student_name]
    titles = {"teacher": "teacher"}
    for name in shown:
        checkpoint = inference.students[name].checkpoints[state.checkpoint if name == chosen else -1]
        titles[name] = f"{name} {checkpoint}".strip()
    if state.quantity == "loss" and state.view == "difference":  # one panel per term
        percent = 100 / (total or 1.0)
        panels = [
            Panel(f"{term} of {chosen}", chosen, percent * weight(state, term) * cells, "amount", "% of the loss")
            for term, cells in maps[chosen].cells.items()
        ]
        return with_limits(panels, state.limits)
    if state.quantity == "loss":
        unit = "weighted loss of a cell"
        panels = [Panel(titles[name], name, cell_percent(state, maps[name], 100.0), "amount", unit) for name in shown]
        return with_limits(panels, state.limits)

    amounts, values, unit = [], {}, UNITS[state.quantity].format(state.channel)
    for name in ("teacher", *shown):
        student, network = (chosen, name) if name == "teacher" else (name, "student")
        values[name] = quantity_map(state, pairs, maps, student, network)
        detections = labelled_detections(predictions[name], getattr(inference.dataset, "classes", []))
        amounts.append(Panel(titles[name], name, values[name], "amount", unit, detections))
    differences = [
        Panel(f"teacher - {name}", "", values["teacher"] - values[name], "difference", unit) for name in shown
    ]
    return [*with_limits(amounts, state.limits), *with_limits(differences, state.limits)]


def quantity_map(
    state: State, pairs: dict[str, MapPair], maps: dict[str, LossMaps], student: str, network: str,
) -> np.ndarray:
    """(H, W) of the chosen quantity; network: "student" or "teacher"."""
    if state.quantity == "attention":
        return maps[student].spatial[network]
    if state.quantity == "channel":
        return getattr(pairs[student], network)[state.channel]
    context = pairs[student].context[network]
    return context.size * context


def with_limits(panels: list[Panel], limits: str) -> list[Panel]:
    """The same panels with colour limits: shared by all, or each panel's own. Limits of a difference are symmetric."""
    def with_limits_of(panel: Panel, group: list[Panel]) -> Panel:
        values = np.concatenate([each.values[np.isfinite(each.values)] for each in group])
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
        if panel.kind == "difference":
            low, high = -max(-low, high), max(-low, high)
        if low == high:
            low, high = low - 0.5, high + 0.5
        return replace(panel, values=panel.values.astype(np.float32), low=low, high=high)

    return [with_limits_of(panel, panels if limits == "shared" else [panel]) for panel in panels]


def labelled_detections(predictions: Predictions, classes: list[str]) -> list[tuple[list[float], str]]:
    """Each detection's box and "class score"."""
    detections = []
    for box, label, score in zip(predictions.boxes.tolist(), predictions.labels, predictions.scores, strict=True):
        known = 0 < label <= len(classes) and classes != ["object"]
        detections.append((box, f"{classes[label - 1] if known else label} {score:.2f}"))
    return detections


def panel_rows(view: ViewData) -> list[list[int | str]]:
    """Rows of indices into ``view.panels``, or "image"; differences below students, the teacher below the image."""
    amounts = [i for i, panel in enumerate(view.panels) if panel.kind == "amount"]
    differences = [i for i, panel in enumerate(view.panels) if panel.kind == "difference"]
    if view.state.view == "before_after" and differences:
        return [["image", *amounts[1:]], [amounts[0], *differences]]
    return [["image", *amounts, *differences]]


def mask_edges(inside: np.ndarray) -> list[list[int]]:
    """Edges between cells inside and outside, as x1, y1, x2, y2 in cells."""
    padded = np.pad(inside, 1)
    horizontal = [[x, y, x + 1, y] for y, x in np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1]).tolist()]
    vertical = [[x, y, x, y + 1] for y, x in np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1]).tolist()]
    return horizontal + vertical


def scale_mask(view: ViewData) -> np.ndarray:
    """(H, W) in 0..1: log of S (eqs. 3-4) from its smallest to its largest weight on this image."""
    logs = np.log(np.maximum(view.fg, view.bg))  # no cell has weight 0
    span = logs.max() - logs.min()
    return ((logs - logs.min()) / span if span > 0 else np.ones_like(logs)).astype(np.float32)


def channels_of(state: State, pair: MapPair, maps: LossMaps) -> Channels:
    if state.cell is None:
        return Channels("channel attention, 1 = average channel", maps.channel["student"], maps.channel["teacher"])
    row, col = state.cell
    return Channels(f"F in cell row {row}, column {col}", pair.student[:, row, col], pair.teacher[:, row, col])


# --- tables

TABLES = ("terms", "gaps", "cells", "channels", "networks", "checkpoints")


def table(view: ViewData, kind: str) -> pd.DataFrame:
    """The numbers of a view. ``kind`` is one of TABLES."""
    if kind == "cells":
        rows, cols = (each.ravel() for each in np.indices(view.grid))
        maps = {panel.title: panel.values.ravel() for panel in view.panels}
        columns = {name: getattr(view, name).ravel() for name in ("fg", "bg", "percent")}
        return pd.DataFrame({"row": rows, "col": cols, **maps, **columns})
    if kind == "channels":
        order, teacher, student = view.channels.order, view.channels.teacher, view.channels.student
        columns = {"teacher": teacher[order], "student": student[order], "gap": (teacher - student)[order]}
        return pd.DataFrame({"channel": order, **columns})
    return pd.json_normalize(getattr(view, kind), sep="_")
