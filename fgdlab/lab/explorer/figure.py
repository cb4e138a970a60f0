"""A frame as a figure: the explorer's panels for papermill, reports and readers without a kernel.

    ViewData --figure--> plots.Picture      maps above; channels, loss, numbers, and checkpoints below
"""
import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from ..plots import (
    ATTENTION_COLOUR,
    BACKGROUND_COLOUR,
    BOX_COLOUR,
    DISTILLED_COLOUR,
    DPI,
    NEUTRAL_COLOUR,
    STUDENT_COLOUR,
    TEACHER_COLOUR,
    TERM_STYLES,
    NotebookFigure,
    colour_bar,
    draw_boxes,
    set_title,
    style_axes,
)
from .loss_maps import WEIGHT_OF
from .view_data import Panel, ViewData, arranged, outline, scale_mask

WIDTH, TOP, HEAD, BELOW = 11.0, 0.3, 0.42, 3.2                       # inches: the figure, its headline, a panel's title, the row of numbers
EDGE, BAR = 0.1, 0.84                                                # inches: left of a panel; left and right of it, with its colour bar
MAPS = {"amount": "cividis", "difference": "PuOr"}
GREEK = {"alpha": "α", "beta": "β", "gamma": "γ", "lambda_": "λ"}
MOST_CHANNELS = 48                                                   # bars that can be told apart on paper
RIM = [withStroke(linewidth=2.6, foreground="white", alpha=0.9)]


def role_colours(students: list[str]) -> dict[str, str]:
    """{network: colour}: the teacher blue, the first student orange, the second green."""
    return {"teacher": TEACHER_COLOUR, **dict(zip(students, [STUDENT_COLOUR, DISTILLED_COLOUR, ATTENTION_COLOUR, NEUTRAL_COLOUR] * (1 + len(students) // 4), strict=False))}


def figure(frame: ViewData) -> NotebookFigure:
    """The panels of a frame, 11 inches wide. Nothing of it depends on what was shown before."""
    rows = arranged(frame)
    columns = max(len(row) for row in rows)
    wide = WIDTH / columns - BAR
    tall = wide * min(max(frame.place.padded_size[0] / frame.place.padded_size[1], 0.5), 1.5)
    height = TOP + len(rows) * (HEAD + tall) + BELOW
    picture = NotebookFigure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
    picture.text(EDGE / WIDTH, 1 - 0.08 / height, headline(frame), fontsize=9.5, va="top")
    colours = role_colours([row["student"] for row in frame.gaps])
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            if cell is None:
                continue
            ax = picture.add_axes(((j * WIDTH / columns + EDGE) / WIDTH, (height - TOP - (i + 1) * (HEAD + tall)) / height, wide / WIDTH, tall / height))
            draw_photo(ax, frame, colours) if cell == "image" else draw_panel(ax, frame, frame.panels[cell], colours)
    widths = (3.3, 2.2, 3.2, 2.3) if len(frame.curve) > 1 else (4.2, 3.1, 3.7)
    starts = np.cumsum([0, *widths[:-1]])
    below = [picture.add_axes(((start + 0.4) / WIDTH, 0.5 / height, (width - 0.6) / WIDTH, (BELOW - 1.15) / height)) for start, width in zip(starts, widths, strict=True)]
    draw_channels(below[0], frame, colours)
    draw_shares(below[1], frame)
    draw_numbers(below[2], frame)
    if len(frame.curve) > 1:
        draw_curve(below[3], frame)
    return picture


def headline(frame: ViewData) -> str:
    state, grid = frame.state, frame.grid
    weights = ", ".join(f"{sign} {getattr(state, name):g}" for name, sign in GREEK.items())
    return f"Image {frame.place.image_id}, {state.level} ({grid[0]} x {grid[1]} cells of {frame.stride} px), T = {state.temperature:g}, {weights}, {state.rounding} rounding"


# --- maps ---------------------------------------------------------------------------------------------------------------------------

def draw_photo(ax: Axes, frame: ViewData, colours: dict[str, str]) -> None:
    height, width = frame.place.padded_size
    ax.imshow(frame.place.photo, extent=(0, frame.grid[1], frame.grid[0], 0), aspect=square_pixels(frame))
    overlays = frame.state.overlays
    whole = {"extent": (0, frame.grid[1], frame.grid[0], 0), "interpolation": "nearest", "aspect": square_pixels(frame)}
    if "scale" in overlays:
        ax.imshow(scale_mask(frame), cmap="cividis", norm=Normalize(0, 1), alpha=0.75, **whole)
    elif "mask" in overlays:
        ax.imshow(np.where(frame.fg[..., None] > 0, (1, 1, 1, 0), (1, 1, 1, 0.6)), **whole)
    draw_overlays(ax, frame)
    if "detections" in overlays:
        for panel in frame.panels:
            draw_found(ax, frame, panel, colours, words=False)
    set_title(ax, f"image {frame.place.image_id}\n{height} x {width} pixels")


def draw_panel(ax: Axes, frame: ViewData, panel: Panel, colours: dict[str, str]) -> None:
    drawn = ax.imshow(
        panel.values, extent=(0, frame.grid[1], frame.grid[0], 0), norm=Normalize(panel.low, panel.high), cmap=MAPS[panel.kind], interpolation="nearest",
        aspect=square_pixels(frame),
    )
    draw_overlays(ax, frame)
    if "detections" in frame.state.overlays:
        draw_found(ax, frame, panel, colours)
    set_title(ax, f"{panel.title}\n{panel.values.min():.3g} to {panel.values.max():.3g}")
    colour_bar(ax, drawn, panel.unit)
    for side in ax.spines.values():
        side.set_color(colours.get(panel.role, "#999999"))
        side.set_linewidth(2 if panel.role in colours else 0.8)


def square_pixels(frame: ViewData) -> float:
    """The aspect that shows a cell as wide and tall as its pixels are."""
    return (frame.grid[1] / frame.grid[0]) * (frame.place.padded_size[0] / frame.place.padded_size[1])


def in_cells(frame: ViewData) -> tuple[float, float]:
    """Cells a pixel, in x and y."""
    return frame.grid[1] / frame.place.padded_size[1], frame.grid[0] / frame.place.padded_size[0]


def draw_overlays(ax: Axes, frame: ViewData) -> None:
    overlays = frame.state.overlays
    if "mask" in overlays:
        edges = [((x1, y1), (x2, y2)) for x1, y1, x2, y2 in outline(frame.fg > 0)]
        ax.add_collection(LineCollection(edges, colors="black", linewidths=1.2, path_effects=RIM, gid="mask"))
    if "roundings" in overlays:
        for rounding, color, line in (("authors", "black", "-"), ("exact", BACKGROUND_COLOUR, "--")):
            for col0, row0, col1, row1 in frame.ranges[rounding].tolist():
                ax.add_patch(Rectangle((col0, row0), col1 - col0, row1 - row0, fill=False, edgecolor=color, linestyle=line, linewidth=1.4, gid=rounding, path_effects=RIM))
    if "boxes" in overlays:
        draw_boxes(ax, frame.place.boxes, in_cells(frame))
    ax.set_xlim(0, frame.grid[1])
    ax.set_ylim(frame.grid[0], 0)
    if frame.state.cell is not None:
        row, col = frame.state.cell
        ax.add_patch(Rectangle((col, row), 1, 1, fill=False, edgecolor="#E4007C", linewidth=1.6, gid="cell"))


def draw_found(ax: Axes, frame: ViewData, panel: Panel, colours: dict[str, str], words: bool = True) -> None:
    across, down = in_cells(frame)
    written: list[tuple[float, float]] = []
    for box, text in panel.found:
        draw_boxes(ax, torch.tensor([box]), (across, down), color=colours.get(panel.role, NEUTRAL_COLOUR), gid="detection")
        at = (box[0] * across / frame.grid[1], box[1] * down / frame.grid[0])
        if words and all(abs(at[0] - x) > 0.2 or abs(at[1] - y) > 0.06 for x, y in written):         # the surest first, later words give way
            written.append(at)
            ax.text(box[0] * across, box[1] * down, text, fontsize=6, color=colours.get(panel.role, NEUTRAL_COLOUR), va="bottom", clip_on=True, path_effects=RIM)


# --- numbers ------------------------------------------------------------------------------------------------------------------------

def draw_channels(ax: Axes, frame: ViewData, colours: dict[str, str]) -> None:
    """Two bars a channel, from the largest gap to the smallest."""
    each = frame.channels
    order = each.order[:MOST_CHANNELS]
    at = np.arange(len(order))
    ax.bar(at - 0.21, each.teacher[order], color=colours["teacher"], width=0.42, label="teacher")
    ax.bar(at + 0.21, each.student[order], color=colours[frame.state.who], width=0.42, label=frame.state.who)
    ax.legend(fontsize=6.5, frameon=False, ncols=2, loc="upper right")
    ax.axhline(0, color="black", linewidth=0.6)
    if frame.state.quantity == "channel" and frame.state.channel in order:
        ax.axvspan(*(int(np.flatnonzero(order == frame.state.channel)[0]) + np.array([-0.5, 0.5])), color="#E4007C", alpha=0.2)
    few = len(order) <= 16
    ax.set_xticks(at if few else at[::4], [str(channel) for channel in (order if few else order[::4])], fontsize=6)
    counted = "all" if len(order) == len(each.order) else f"{len(order)} of"
    ax.set_title(f"{each.what}\n{counted} {len(each.order)} channels, largest gap first", fontsize=7.5)
    ax.set_xlabel("channel", fontsize=7.5)
    style_axes(ax, "y")


def draw_shares(ax: Axes, frame: ViewData) -> None:
    """A bar a level, stacked by term; all bars together are 100 %."""
    levels = list(dict.fromkeys(row["level"] for row in frame.terms))
    ends = dict.fromkeys(levels, 0.0)
    for row in frame.terms:
        color, line = TERM_STYLES[row["term"]]
        label = f"{row['term']}, {GREEK[WEIGHT_OF[row['term']]]} = {row['weight']:g}" if row["level"] == levels[0] else None
        ax.barh(levels.index(row["level"]), row["share"], left=ends[row["level"]], height=0.6, color=color, edgecolor="white", linewidth=0.5,
                hatch=None if line == "-" else "////", label=label)
        ends[row["level"]] += row["share"]
    for i, level in enumerate(levels):
        ax.text(ends[level], i, f" {ends[level]:.3g} %", va="center", fontsize=7)
    ax.set_yticks(range(len(levels)), levels)
    ax.set_ylim(max(len(levels), 3) - 0.4, -0.6)
    ax.set_xlim(0, 1.2 * max([1.0, *ends.values()]))
    ax.legend(fontsize=6.5, loc="lower right", frameon=False)
    total = sum(row["weighted"] for row in frame.terms)
    ax.set_title(f"Loss of {frame.state.who} on this image: {total:.3g}\npercent by level and term", fontsize=7.5)
    style_axes(ax, "x")


def draw_numbers(ax: Axes, frame: ViewData) -> None:
    """Gaps, networks and warnings as text."""
    ax.set_axis_off()
    rows = [["gap to the teacher", *(row["student"] for row in frame.gaps)]]
    for key, words in (("feature_fg", "features, objects"), ("feature_bg", "features, background"), ("attention_fg", "attention, objects"),
                       ("attention_bg", "attention, background")):
        rows.append([words, *(number(row[key]) for row in frame.gaps)])
    names = [row["name"] for row in frame.networks]
    rows.append(["network", *names])
    rows.append(["AP", *(number(row["AP"]) for row in frame.networks)])
    rows.append(["found / objects", *(f"{row['found']} / {row['objects']}" for row in frame.networks)])
    rows.append(["scale of features", *(number(row["scale"][frame.state.level]) for row in frame.networks)])
    for i, row in enumerate(rows):
        y = 1 - (i + (0.6 if i > 4 else 0)) / 11.5
        for j, text in enumerate(row):
            ax.text(0 if j == 0 else 0.425 + 0.66 / len(frame.networks) * (j - 1), y, text, fontsize=7, va="top", weight="bold" if row[0] in ("network", "gap to the teacher") else None,
                    transform=ax.transAxes)
    lines = [f"! {line}" for line in frame.warnings] + frame.notes
    ax.text(0, 0.12, "\n".join(lines), fontsize=6, va="top", wrap=True, transform=ax.transAxes, color="#8a3b00" if frame.warnings else NEUTRAL_COLOUR)


def draw_curve(ax: Axes, frame: ViewData) -> None:
    at = np.arange(len(frame.curve))
    for key, color, words in (("feature_fg", BOX_COLOUR, "objects"), ("feature_bg", BACKGROUND_COLOUR, "background")):
        values = np.array([np.nan if row[key] is None else row[key] for row in frame.curve], dtype=float)
        ax.plot(at, values, marker="o", markersize=3, color=color, label=words)
    ax.axvline(frame.state.stage, color="#E4007C", linewidth=0.8)
    ax.set_xticks(at[:: max(len(at) // 6, 1)], [row["stage"] for row in frame.curve][:: max(len(at) // 6, 1)], fontsize=6, rotation=30)
    ax.set_ylim(bottom=0)
    ax.legend(fontsize=6.5, frameon=False)
    ax.set_title(f"Gap of features on {frame.state.level}\nover checkpoints of {frame.state.who}", fontsize=7.5)
    style_axes(ax, "y")


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def lut(kind: str) -> bytes:
    """256 RGB colours of the map that a kind of panel is drawn with."""
    return (mpl.colormaps[MAPS[kind]](np.arange(256))[:, :3] * 255).round().astype(np.uint8).tobytes()
