"""All arrays and numbers that the panels show at one state; the widget, the figure and the tables only draw them."""
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from fgdlab.config import ROUNDINGS

from .inference import DetectorInference, Predictions, Sample
from .loss_maps import WEIGHT_OF, LossMaps, MapPair, channels_by_gap, gap, loss_maps
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
    """Two values per channel. what: their quantity. order: (C,), from the largest gap to the smallest."""

    what: str
    student: np.ndarray
    teacher: np.ndarray
    order: np.ndarray


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


def view_data(inference: DetectorInference, state: State, *, ap: dict[str, float], threshold: float = 0.3) -> ViewData:
    """The view at one state.

    Args:
        ap: {network: AP}, as far as known.
        threshold: lowest score of a detection that is shown.
    """
    image, level, name = state.image, state.level, state.student_name
    checkpoints = {each: len(student.checkpoints) - 1 for each, student in inference.students.items()}
    checkpoints[name] = state.checkpoint
    pairs = {each: inference.pairs(image, each, checkpoint) for each, checkpoint in checkpoints.items()}

    def maps_of(student: str, level: str) -> LossMaps:
        masks = inference.masks(image, level, state.rounding)
        return loss_maps(pairs[student][level], *masks, state.temperature, inference.config)

    by_level = {each: maps_of(name, each) for each in inference.levels}
    by_student = {each: by_level[level] if each == name else maps_of(each, level) for each in pairs}
    here = {each: pairs[each][level] for each in pairs}
    terms = term_rows(state, by_level)
    total = sum(row["weighted"] for row in terms)
    fg, bg = inference.masks(image, level, state.rounding)
    ranges = {each: inference.ranges(image, level, each) for each in ROUNDINGS}
    inside = fg > 0 if inference.config.area != "both" else cells_in_boxes(ranges[state.rounding], fg.shape)
    gaps = {each: gap(here[each], by_student[each], inside) for each in pairs}
    key, parts = (image, level, name, state.rounding), ("feature_fg", "feature_bg")
    inference.checkpoint_gaps[(*key, state.checkpoint)] = {part: gaps[name][part] for part in parts}
    predictions = {"teacher": inference.teacher_predictions(image)}
    for each, checkpoint in checkpoints.items():
        predictions[each] = inference.student_predictions(image, each, checkpoint)
    networks, warnings = check_teacher(inference, inference.sample(image), predictions, ap, threshold)
    return ViewData(
        state=state, sample=inference.sample(image), grid=fg.shape,
        panels=panels_of(inference, state, here, by_student, total, predictions, threshold),
        fg=fg, bg=bg, percent=cell_percent(state, by_level[level], total),
        ranges=ranges, channels=channels_of(state, here[name], by_level[level]), terms=terms,
        gaps=[{"student": each, **row} for each, row in gaps.items()], networks=networks,
        checkpoints=[
            {"checkpoint": label, **inference.checkpoint_gaps.get((*key, i), dict.fromkeys(parts))}
            for i, label in enumerate(inference.students[name].checkpoints)
        ],
        warnings=warnings, notes=inference.notes(name),
    )


def cells_in_boxes(ranges: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: the masks of an unsplit loss do not separate these cells from the background."""
    inside = np.zeros(grid, bool)
    for col0, row0, col1, row1 in ranges.clip(min=0):
        inside[row0:row1, col0:col1] = True
    return inside


# --- the loss

def weight(state: State, term: str) -> float:
    return getattr(state, WEIGHT_OF[term])


def term_rows(state: State, by_level: dict[str, LossMaps]) -> list[dict]:
    """student, level, term, raw, weight, weighted, and percent of the student's whole loss on this image."""
    rows = []
    for level, maps in by_level.items():
        for term, raw in maps.raw.items():
            factor = weight(state, term)
            row = {"student": state.student_name, "level": level, "term": term, "raw": raw, "weight": factor}
            rows.append({**row, "weighted": factor * raw})
    total = sum(row["weighted"] for row in rows) or 1.0
    return [{**row, "percent": 100 * row["weighted"] / total} for row in rows]


def cell_percent(state: State, maps: LossMaps, total: float) -> np.ndarray:
    """(H, W): percent per cell of the loss of this image over all levels."""
    cells = np.zeros(maps.spatial["teacher"].shape)
    for term, each in maps.cells.items():
        cells += weight(state, term) * each
    return 100 * cells / (total or 1.0)


# --- panels

UNITS = {
    "attention": "A^S, 1 = average cell", "channel": "F of channel {}", "context": "context weight, 1 = average cell",
}


def panels_of(
    inference: DetectorInference, state: State, pairs: dict[str, MapPair], maps: dict[str, LossMaps], total: float,
    predictions: dict[str, Predictions], threshold: float,
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
    if state.quantity == "loss":
        if state.view == "difference":  # one panel per term
            unit = "% of the loss"
            losses = {
                f"{term} of {chosen}": (chosen, 100 * weight(state, term) * each / (total or 1.0))
                for term, each in maps[chosen].cells.items()
            }
        else:
            unit = "weighted loss of a cell"
            losses = {titles[name]: (name, cell_percent(state, maps[name], 100.0)) for name in shown}
        panels = [Panel(title, name, cells, "amount", unit) for title, (name, cells) in losses.items()]
        return with_limits(panels, state.limits)

    amounts, values, unit = [], {}, UNITS[state.quantity].format(state.channel)
    for name in ("teacher", *shown):
        student, network = (chosen, name) if name == "teacher" else (name, "student")
        values[name] = quantity_map(state, pairs, maps, student, network)
        detections = labelled_detections(predictions[name], inference, threshold)
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
    def ends(group: list[Panel]) -> tuple[float, float]:
        finite = np.concatenate([each.values[np.isfinite(each.values)] for each in group])
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        if group[0].kind == "difference":
            high = max(abs(low), abs(high)) or 1.0
            return -high, high
        return (low, high) if high > low else (low - 0.5, high + 0.5)

    shared, result = ends(panels) if limits == "shared" and panels else None, []
    for panel in panels:
        low, high = shared or ends([panel])
        result.append(replace(panel, values=panel.values.astype(np.float32), low=low, high=high))
    return result


def labelled_detections(
    predictions: Predictions, inference: DetectorInference, threshold: float,
) -> list[tuple[list[float], str]]:
    """Detections with at least ``threshold``, highest score first: box and "class score"."""
    classes, detections = getattr(inference.dataset, "classes", []), []
    for i in np.argsort(-predictions.scores, kind="stable"):
        label, score = predictions.labels[i], predictions.scores[i]
        known = 0 < label <= len(classes) and classes != ["object"]
        if score >= threshold:
            detections.append((predictions.boxes[i].tolist(), f"{classes[label - 1] if known else label} {score:.2f}"))
    return detections


def panel_rows(view: ViewData) -> list[list[int | str | None]]:
    """Rows of indices into ``view.panels``, "image", or None for an empty place; differences below their students."""
    amounts = [i for i, panel in enumerate(view.panels) if panel.kind == "amount"]
    differences = [i for i, panel in enumerate(view.panels) if panel.kind == "difference"]
    if view.state.view == "before_after" and differences:
        return [["image", *amounts], [None, None, *differences]]
    return [["image", *amounts, *differences]]


def mask_edges(inside: np.ndarray) -> list[list[int]]:
    """Edges between cells inside and outside, as x1, y1, x2, y2 in cells."""
    padded = np.pad(inside, 1)
    horizontal = [[x, y, x + 1, y] for y, x in np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1]).tolist()]
    vertical = [[x, y, x, y + 1] for y, x in np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1]).tolist()]
    return horizontal + vertical


def scale_mask(view: ViewData) -> np.ndarray:
    """(H, W) in 0..1: log of S (eqs. 3-4) from its smallest to its largest weight on this image."""
    weights = np.maximum(view.fg, view.bg)
    positive = weights > 0
    logs = np.log(weights, where=positive, out=np.zeros_like(weights))
    low, high = (logs[positive].min(), logs[positive].max()) if positive.any() else (0.0, 0.0)
    scaled = (logs - low) / (high - low) if high > low else 1.0
    return np.where(positive, scaled, 0.0).astype(np.float32)


def channels_of(state: State, pair: MapPair, maps: LossMaps) -> Channels:
    if state.cell is None:
        student, teacher = maps.channel["student"], maps.channel["teacher"]
        what = "channel attention A^C, 1 = average channel"
    else:
        row, col = state.cell
        student, teacher = pair.student[:, row, col], pair.teacher[:, row, col]
        what = f"F in cell row {row}, column {col}"
    return Channels(what, student.astype(np.float32), teacher.astype(np.float32), channels_by_gap(student, teacher))


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
    if kind == "networks":
        return pd.json_normalize(view.networks, sep="_")
    columns = ["student", "level", "term", "raw", "weight", "weighted", "percent"] if kind == "terms" else None
    return pd.DataFrame(getattr(view, kind), columns=columns)
