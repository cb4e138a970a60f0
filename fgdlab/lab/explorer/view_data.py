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
    """A map (H, W) with its colours; ``network`` is "" for a difference, ``kind`` "amount" or "difference".

    low, high: colour limits. detections: (box x1 y1 x2 y2 in pixels of the sample, label).
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
class ViewData:
    """fg, bg: (H, W) mask weights. percent: (H, W), of the loss. ranges: {rounding: (K, 4) cells}."""

    state: State
    sample: Sample
    grid: tuple[int, int]
    panels: list[Panel]
    fg: np.ndarray
    bg: np.ndarray
    percent: np.ndarray
    ranges: dict[str, np.ndarray]
    channels: pd.DataFrame
    terms: list[dict]
    gaps: list[dict]
    networks: list[dict]
    checkpoints: list[dict]
    warnings: list[str]
    notes: list[str]


def view_data(inference: DetectorInference, state: State, ap: dict[str, float]) -> ViewData:
    """``ap``: {network: AP}, as far as known."""
    image, level, name = state.image, state.level, state.student_name
    checkpoints = inference.shown(state)
    pairs = {each: inference.pairs(image, each, checkpoint) for each, checkpoint in checkpoints.items()}
    here = {each: pairs[each][level] for each in pairs}
    fg, bg, inside = inference.masks(image, level, state.rounding)

    def maps_of(student: str, level: str) -> LossMaps:
        weights = inference.masks(image, level, state.rounding)[:2]
        return loss_maps(pairs[student][level], *weights, state.temperature, inference.config)

    by_level = {each: maps_of(name, each) for each in inference.levels}
    by_student = {each: by_level[level] if each == name else maps_of(each, level) for each in pairs}
    terms = term_rows(state, by_level)
    total = sum(row["weighted"] for row in terms)
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

def term_rows(state: State, by_level: dict[str, LossMaps]) -> list[dict]:
    """student, level, term, raw, weight, weighted, and percent of the student's whole loss on this image."""
    rows = [
        {"student": state.student_name, "level": level, "term": term, "raw": raw, "weight": weight(state, term),
         "weighted": weight(state, term) * raw}
        for level, maps in by_level.items() for term, raw in maps.raw.items()
    ]
    total = sum(row["weighted"] for row in rows) or 1.0
    return [{**row, "percent": 100 * row["weighted"] / total} for row in rows]


def weight(state: State, term: str) -> float:
    return getattr(state, WEIGHT_OF[term])


def cell_percent(state: State, maps: LossMaps, total: float) -> np.ndarray:
    """(H, W): percent of the loss over all levels."""
    cells = (weight(state, term) * each for term, each in maps.cells.items())
    return 100 / (total or 1.0) * sum(cells, np.zeros(maps.error.shape))


# --- panels

UNITS = {
    "attention": "spatial attention, 1 = average cell", "channel": "F of channel {}",
    "context": "context weight, 1 = average cell",
}


def panels_of(
    inference: DetectorInference, state: State, pairs: dict[str, MapPair], maps: dict[str, LossMaps], total: float,
    predictions: dict[str, Predictions],
) -> list[Panel]:
    """The maps of one view. pairs, maps: {student: ...} of the level shown; total: loss of the chosen student."""
    chosen, shown = state.student_name, list(pairs) if state.view == "before_after" else [state.student_name]
    at = {name: inference.students[name].checkpoints[i] for name, i in inference.shown(state).items()}
    titles = {"teacher": "teacher", **{name: f"{name} {label}".strip() for name, label in at.items()}}
    if state.quantity == "loss":
        if state.view == "difference":  # one panel per term
            panels = [
                Panel(f"{term} of {chosen}", chosen, 100 / (total or 1.0) * weight(state, term) * cells, "amount",
                      "% of the loss")
                for term, cells in maps[chosen].cells.items()
            ]
        else:
            panels = [
                Panel(titles[name], name, cell_percent(state, maps[name], 100.0), "amount", "weighted loss of a cell")
                for name in shown
            ]
        return with_limits(panels, state.limits)

    amounts, values, unit = [], {}, UNITS[state.quantity].format(state.channel)
    for name in ("teacher", *shown):
        student, network = (chosen, name) if name == "teacher" else (name, "student")
        values[name] = quantity_map(state, pairs[student], maps[student], network)
        found = predictions[name].detections(inference.dataset)
        labelled = [(each["box"], f"{each['class']} {each['score']:.2f}") for each in found]
        amounts.append(Panel(titles[name], name, values[name], "amount", unit, labelled))
    differences = [
        Panel(f"teacher - {name}", "", values["teacher"] - values[name], "difference", unit) for name in shown
    ]
    return [*with_limits(amounts, state.limits), *with_limits(differences, state.limits)]


def quantity_map(state: State, pair: MapPair, maps: LossMaps, network: str) -> np.ndarray:
    if state.quantity == "attention":
        return maps.spatial[network]
    if state.quantity == "channel":
        return getattr(pair, network)[state.channel]
    return pair.relation.size * pair.context[network]


def with_limits(panels: list[Panel], limits: str) -> list[Panel]:
    """The same panels with colour limits: shared by all, or each panel's own. Limits of a difference are symmetric."""
    done = []
    for panel in panels:
        group = panels if limits == "shared" else [panel]
        values = np.concatenate([each.values[np.isfinite(each.values)] for each in group])
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
        if panel.kind == "difference":
            low, high = -max(-low, high), max(-low, high)
        if low == high:
            low, high = low - 0.5, high + 0.5
        done.append(replace(panel, values=panel.values.astype(np.float32), low=low, high=high))
    return done


def panel_rows(view: ViewData) -> list[list[int | str]]:
    """Rows of indices into ``view.panels``, or "image"; differences below students, the teacher below the image."""
    of = {kind: [i for i, panel in enumerate(view.panels) if panel.kind == kind] for kind in ("amount", "difference")}
    amounts, differences = of.values()
    if view.state.view == "before_after" and differences:
        return [["image", *amounts[1:]], [amounts[0], *differences]]
    return [["image", *amounts, *differences]]


def mask_edges(inside: np.ndarray) -> list[list[int]]:
    """Edges between cells inside and outside, as x1, y1, x2, y2 in cells."""
    changes = (np.argwhere(np.diff(inside.astype(int), axis=axis, prepend=0, append=0)).tolist() for axis in (0, 1))
    return [[x, y, x + down, y + 1 - down] for down, edges in zip((1, 0), changes, strict=True) for y, x in edges]


def scale_mask(view: ViewData) -> np.ndarray:
    """(H, W) in 0..1: log of S (eqs. 3-4) from its smallest to its largest weight on this image."""
    logs = np.log(np.maximum(view.fg, view.bg))  # no cell has weight 0
    span = logs.max() - logs.min()
    return ((logs - logs.min()) / span if span > 0 else np.ones_like(logs)).astype(np.float32)


def channels_of(state: State, pair: MapPair, maps: LossMaps) -> pd.DataFrame:
    """teacher, student and gap per channel, the largest gap first; ``attrs["what"]``: their quantity."""
    what, values = "channel attention, 1 = average channel", maps.channel
    if state.cell is not None:
        row, col = state.cell
        what = f"F in cell row {row}, column {col}"
        values = {"teacher": pair.teacher[:, row, col], "student": pair.student[:, row, col]}
    frame = pd.DataFrame(values, columns=["teacher", "student"]).rename_axis("channel")
    frame = frame.assign(gap=frame["teacher"] - frame["student"])
    frame = frame.sort_values("gap", key=abs, ascending=False, kind="stable")
    frame.attrs["what"] = what
    return frame


# --- tables

TABLES = ("terms", "gaps", "cells", "channels", "networks", "checkpoints")


def table(view: ViewData, kind: str) -> pd.DataFrame:
    if kind == "cells":
        rows, cols = (each.ravel() for each in np.indices(view.grid))
        maps = {panel.title: panel.values.ravel() for panel in view.panels}
        columns = {name: getattr(view, name).ravel() for name in ("fg", "bg", "percent")}
        return pd.DataFrame({"row": rows, "col": cols, **maps, **columns})
    if kind == "channels":
        return view.channels.reset_index()
    return pd.json_normalize(getattr(view, kind), sep="_")
