"""Everything that the panels show at one state, as plain arrays and numbers; the widget, the figure and the tables draw it and add nothing.

    Looker, State --frame_of--> ViewData --tables--> DataFrames
"""
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from fgdlab.config import ROUNDINGS

from .inference import DetectorInference, Predictions, Sample
from .loss_maps import WEIGHT_OF, Weighed, by_gap, gap, weigh
from .state import State
from .teacher_checks import sanity


@dataclass(frozen=True, eq=False)
class Panel:
    """A map (H, W) and how to colour it. kind: "amount" or "difference" (zero in the middle). role: whose it is, "" for nobody's.

    found: detections to draw on it, (box x1 y1 x2 y2 in pixels of the place, words).
    """

    title: str
    role: str
    values: np.ndarray
    kind: str
    low: float
    high: float
    unit: str
    found: list[tuple[list[float], str]] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class ViewData:
    """state, and: place; grid (H, W) and stride; maps to draw; fg, bg (H, W) mask weights and share (H, W), percent of the loss that a cell carries;
    ranges {rounding: (K, 4) cells}; channels (see Channels); terms, gaps, networks, curve: rows of numbers; warnings and notes: lines."""

    state: State
    place: Sample
    grid: tuple[int, int]
    panels: list[Panel]
    fg: np.ndarray
    bg: np.ndarray
    share: np.ndarray
    ranges: dict[str, np.ndarray]
    channels: "Channels"
    terms: list[dict]
    gaps: list[dict]
    networks: list[dict]
    curve: list[dict]
    warnings: list[str]
    notes: list[str]

    @property
    def stride(self) -> int:
        return round(self.place.padded_size[0] / self.grid[0])


@dataclass(frozen=True, eq=False)
class Channels:
    """Two values a channel. order (C,): from the largest gap to the smallest. what: of what."""

    what: str
    student: np.ndarray
    teacher: np.ndarray
    order: np.ndarray


def view_data(inference: DetectorInference, state: State, *, ap: dict[str, float], threshold: float = 0.3) -> ViewData:
    """Args: ap: {network: AP} as far as known. threshold: least score of a detection that is shown."""
    image, level, name = state.image, state.level, state.who
    stages = {each: len(who.stages) - 1 for each, who in inference.students.items()} | {name: state.stage}
    pairs = {each: inference.pairs(image, each, stage) for each, stage in stages.items()}
    masks = {each: inference.masks(image, each, state.rounding) for each in inference.levels}
    weighed = {each: weigh(pairs[name][each], *masks[each], state.temperature, inference.config) for each in inference.levels}
    here = {each: weighed[level] if each == name else weigh(pairs[each][level], *masks[level], state.temperature, inference.config) for each in pairs}
    terms = term_rows(state, name, weighed)
    networks, warnings = sanity(inference, image, stages, ap, threshold)
    inside = inference.masks(image, level, state.rounding)[0] > 0 if inference.config.area != "both" else split_inside(inference, state)
    gaps = [{"student": each, **gap(pairs[each][level], here[each], inside)} for each in pairs]
    inference.curves[(image, level, name, state.stage, state.rounding)] = {key: gaps[list(pairs).index(name)][key] for key in ("feature_fg", "feature_bg")}
    total = sum(row["weighted"] for row in terms)
    return ViewData(
        state=state, place=inference.place(image), grid=tuple(masks[level][0].shape), panels=panels_of(inference, state, pairs, here, terms, stages, threshold),
        fg=masks[level][0], bg=masks[level][1], share=share_of(state, weighed[level], total),
        ranges={each: inference.ranges(image, level, each) for each in ROUNDINGS}, channels=channels_of(state, pairs[name][level], weighed[level]),
        terms=terms, gaps=gaps, networks=networks, curve=curve_rows(inference, state), warnings=warnings, notes=inference.notes(name),
    )


def split_inside(inference: DetectorInference, state: State) -> np.ndarray:
    """Cells in a box where the loss itself makes no difference between them and the rest."""
    inside = np.zeros(inference.masks(state.image, state.level, state.rounding)[0].shape, bool)
    for col0, row0, col1, row1 in inference.ranges(state.image, state.level, state.rounding):
        inside[max(row0, 0):max(row1, 0), max(col0, 0):max(col1, 0)] = True
    return inside


# --- the loss -----------------------------------------------------------------------------------------------------------------------

def weight(state: State, term: str) -> float:
    return getattr(state, WEIGHT_OF[term])


def term_rows(state: State, name: str, weighed: dict[str, Weighed]) -> list[dict]:
    """student, level, term, raw, weight, weighted, share (percent of all weighted terms of this student on this image; 0 where all are silent)."""
    rows = [
        {"student": name, "level": level, "term": term, "raw": raw, "weight": weight(state, term), "weighted": weight(state, term) * raw}
        for level, each in weighed.items() for term, raw in each.raw.items()
    ]
    total = sum(row["weighted"] for row in rows)
    return [{**row, "share": 100 * row["weighted"] / total if total else 0.0} for row in rows]


def share_of(state: State, weighed: Weighed, total: float) -> np.ndarray:
    """(H, W): percent of the whole loss of this image, all levels, that each cell carries."""
    cells = sum((weight(state, term) * each for term, each in weighed.cells.items()), np.zeros(weighed.spatial["teacher"].shape))
    return 100 * cells / total if total else cells


# --- panels -------------------------------------------------------------------------------------------------------------------------

def panels_of(inference: DetectorInference, state: State, pairs: dict, here: dict, terms: list[dict], stages: dict[str, int], threshold: float) -> list[Panel]:
    """The maps of one view, coloured alike where they are compared."""
    shown = list(pairs) if state.view == "before_after" else [state.who]
    sights = {"teacher": inference.teacher_sight(state.image), **{name: inference.student_sight(state.image, name, stages[name]) for name in shown}}
    found = {name: words(sight, inference, threshold) for name, sight in sights.items()}
    if state.quantity == "loss":
        return loss_panels(state, pairs, here, shown, terms, inference)
    maps, unit = quantity_maps(state, pairs, here, shown)
    amounts = [Panel(titled(name, state, inference), name, values, "amount", 0, 0, unit, found[name]) for name, values in maps.items()]
    differences = [
        Panel(f"teacher - {name}", "", maps["teacher"] - maps[name], "difference", 0, 0, unit) for name in shown
    ]
    return [*limited(amounts, state.limits), *limited(differences, state.limits)]


def quantity_maps(state: State, pairs: dict, here: dict, shown: list[str]) -> tuple[dict[str, np.ndarray], str]:
    """{network: (H, W)} of the chosen quantity, the teacher first, and its unit."""
    level, first = state.level, pairs[state.who][state.level]
    if state.quantity == "attention":
        return {"teacher": here[state.who].spatial["teacher"], **{name: here[name].spatial["student"] for name in shown}}, "A^S, 1 = average cell"
    if state.quantity == "channel":
        return {"teacher": first.teacher[state.channel], **{name: pairs[name][level].student[state.channel] for name in shown}}, f"F of channel {state.channel}"
    size = first.spatial["teacher"].size                             # context: as the attention, 1 is the average cell
    return {"teacher": size * first.context["teacher"], **{name: size * pairs[name][level].context["student"] for name in shown}}, "context weight, 1 = average cell"


def loss_panels(state: State, pairs: dict, here: dict, shown: list[str], terms: list[dict], inference: DetectorInference) -> list[Panel]:
    """Where the loss comes from: a panel a term, or with several students a panel each; percent of the loss on this image."""
    if state.view == "difference":
        total = sum(row["weighted"] for row in terms) or 1.0
        maps = {term: 100 * weight(state, term) * cells / total for term, cells in here[state.who].cells.items()}
        return limited([Panel(f"{term} of {state.who}", state.who, each, "amount", 0, 0, "% of the loss") for term, each in maps.items()], state.limits)
    maps = {name: share_of(state, here[name], 100.0) for name in shown}
    return limited([Panel(titled(name, state, inference), name, each, "amount", 0, 0, "weighted loss of a cell") for name, each in maps.items()], state.limits)


def limited(panels: list[Panel], limits: str) -> list[Panel]:
    """The same panels with colour limits: of all of them together, or of each alone. A difference is as far below zero as above."""
    def ends(group: list[Panel]) -> tuple[float, float]:
        finite = np.concatenate([each.values[np.isfinite(each.values)] for each in group] or [np.zeros(0)])
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        if group[0].kind == "difference":
            high = max(abs(low), abs(high)) or 1.0
            return -high, high
        return (low, high) if high > low else (low - 0.5, high + 0.5)

    together = ends(panels) if limits == "shared" and panels else None
    result = []
    for each in panels:
        low, high = together or ends([each])
        result.append(Panel(each.title, each.role, each.values.astype(np.float32), each.kind, low, high, each.unit, each.found))
    return result


def titled(name: str, state: State, inference: DetectorInference) -> str:
    stages = inference.students[name].stages if name in inference.students else [""]
    stage = stages[state.stage] if name == state.who else stages[-1]
    return " ".join(filter(None, (name, stage)))


def words(sight: Predictions, inference: DetectorInference, threshold: float) -> list[tuple[list[float], str]]:
    """Detections of at least ``threshold``, the surest first: box and "class score"."""
    classes = getattr(inference.scenes, "classes", [])
    named = lambda label: classes[label - 1] if 0 < label <= len(classes) and classes != ["object"] else str(label)          # noqa: E731
    order = [i for i in np.argsort(-sight.scores, kind="stable") if sight.scores[i] >= threshold]
    return [([float(v) for v in sight.boxes[i]], f"{named(int(sight.labels[i]))} {sight.scores[i]:.2f}") for i in order]


def arranged(frame: ViewData) -> list[list[int | str | None]]:
    """Rows of indices into ``frame.panels``, "image", or None for an empty place; a difference stands below its student where there are several."""
    amounts, differences = ([i for i, panel in enumerate(frame.panels) if panel.kind == kind] for kind in ("amount", "difference"))
    if frame.state.view == "before_after" and differences:
        return [["image", *amounts], [None, None, *differences]]
    return [["image", *amounts, *differences]]


def outline(inside: np.ndarray) -> list[list[int]]:
    """Edges between cells inside and outside, as x1, y1, x2, y2 in cells."""
    padded = np.pad(inside, 1)
    down = [[int(x), int(y), int(x) + 1, int(y)] for y, x in np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1])]
    across = [[int(x), int(y), int(x), int(y) + 1] for y, x in np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1])]
    return down + across


def scale_mask(frame: ViewData) -> np.ndarray:
    """(H, W) in 0..1: where S of eqs. 3-4 lies between its least and largest weight on this image, logarithmically; 1 on the smallest box."""
    weights = np.maximum(frame.fg, frame.bg)
    logs = np.log(np.where(weights > 0, weights, np.nan))
    if not np.isfinite(logs).any() or np.nanmax(logs) == np.nanmin(logs):
        return np.where(weights > 0, 1.0, 0.0).astype(np.float32)
    return np.nan_to_num((logs - np.nanmin(logs)) / (np.nanmax(logs) - np.nanmin(logs))).astype(np.float32)


# --- channels and checkpoints -------------------------------------------------------------------------------------------------------

def channels_of(state: State, pair, weighed: Weighed) -> Channels:
    if state.cell is None:
        student, teacher, what = weighed.channel["student"], weighed.channel["teacher"], "channel attention A^C, 1 = average channel"
    else:
        row, col = state.cell
        student, teacher, what = pair.student[:, row, col], pair.teacher[:, row, col], f"F in cell row {row}, column {col}"
    return Channels(what, student.astype(np.float32), teacher.astype(np.float32), by_gap(student, teacher))


def curve_rows(inference: DetectorInference, state: State) -> list[dict]:
    """stage, feature_fg, feature_bg of every checkpoint of the chosen student; None for those that were not looked at yet on this image."""
    nothing = {"feature_fg": None, "feature_bg": None}
    key = (state.image, state.level, state.who)
    return [{"stage": label, **inference.curves.get((*key, i, state.rounding), nothing)} for i, label in enumerate(inference.students[state.who].stages)]


# --- tables -------------------------------------------------------------------------------------------------------------------------

TABLES = ("terms", "gaps", "cells", "channels", "networks", "checkpoints")


def table(frame: ViewData, kind: str) -> pd.DataFrame:
    """The numbers of a frame: ``kind`` is one of TABLES."""
    if kind == "terms":
        return pd.DataFrame(frame.terms, columns=["student", "level", "term", "raw", "weight", "weighted", "share"])
    if kind == "gaps":
        return pd.DataFrame(frame.gaps)
    if kind == "cells":
        rows, cols = (each.ravel() for each in np.indices(frame.grid))
        maps = {panel.title: panel.values.ravel() for panel in frame.panels}
        return pd.DataFrame({"row": rows, "col": cols, **maps, "fg": frame.fg.ravel(), "bg": frame.bg.ravel(), "share": frame.share.ravel()})
    if kind == "channels":
        each, order = frame.channels, frame.channels.order
        return pd.DataFrame({"channel": order, "teacher": each.teacher[order], "student": each.student[order], "gap": (each.teacher - each.student)[order]})
    if kind == "networks":
        return pd.DataFrame([{**{key: value for key, value in row.items() if key != "scale"}, **{f"scale_{level}": v for level, v in row["scale"].items()}}
                             for row in frame.networks])
    return pd.DataFrame(frame.curve)
