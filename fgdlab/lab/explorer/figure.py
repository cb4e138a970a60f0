"""A view as a static figure: maps above; channels, loss, numbers and checkpoints below."""
from itertools import cycle

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from .. import plots
from .loss_maps import WEIGHT_OF
from .view_data import Panel, ViewData, mask_edges, panel_rows, scale_mask

WIDTH, HEADLINE, TITLE, NUMBERS = 11.0, 0.3, 0.42, 3.2  # inches: the figure's width; heights of its parts
LEFT, SIDES = 0.1, 0.84  # inches: left of a panel; both sides together
COLOUR_MAPS = {"amount": "cividis", "difference": "PuOr"}
GREEK = {"alpha": "α", "beta": "β", "gamma": "γ", "lambda_": "λ"}
MAX_CHANNELS = 48  # bars that can be told apart on paper
CHOSEN_COLOUR, WARNING_COLOUR = "#E4007C", "#8a3b00"
RIM = [withStroke(linewidth=2.6, foreground="white", alpha=0.9)]


def network_colours(students: list[str]) -> dict[str, str]:
    """{network: colour}: the teacher blue, the first student orange, the second green."""
    colours = plots.STUDENT_COLOUR, plots.DISTILLED_COLOUR, plots.ATTENTION_COLOUR, plots.NEUTRAL_COLOUR
    return {"teacher": plots.TEACHER_COLOUR, **dict(zip(students, cycle(colours), strict=False))}


def figure(view: ViewData) -> plots.NotebookFigure:
    """The panels of a view, 11 inches wide. The same view gives the same figure."""
    rows = panel_rows(view)
    columns = max(len(row) for row in rows)
    panel_width = WIDTH / columns - SIDES
    panel_height = panel_width * min(max(view.sample.padded_size[0] / view.sample.padded_size[1], 0.5), 1.5)
    height = HEADLINE + len(rows) * (TITLE + panel_height) + NUMBERS
    fig = plots.NotebookFigure(figsize=(WIDTH, height), dpi=plots.DPI, facecolor="white")

    def add_axes(x: float, y: float, width: float, tall: float) -> Axes:
        return fig.add_axes((x / WIDTH, y / height, width / WIDTH, tall / height))

    fig.text(LEFT / WIDTH, 1 - 0.08 / height, headline(view), fontsize=9.5, va="top")
    colours = network_colours([row["student"] for row in view.gaps])
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            y = height - HEADLINE - (i + 1) * (TITLE + panel_height)
            ax = add_axes(j * WIDTH / columns + LEFT, y, panel_width, panel_height)
            draw_image(ax, view, colours) if cell == "image" else draw_panel(ax, view, view.panels[cell], colours)
    widths = (3.3, 2.2, 3.2, 2.3) if len(view.checkpoints) > 1 else (4.2, 3.1, 3.7)
    charts = [draw_channels, draw_loss, draw_numbers, draw_checkpoints]
    for draw, width, right in zip(charts, widths, np.cumsum(widths), strict=False):
        draw(add_axes(right - width + 0.4, 0.5, width - 0.6, NUMBERS - 1.15), view, colours)
    return fig


def headline(view: ViewData) -> str:
    state, (rows, columns) = view.state, view.grid
    weights = ", ".join(f"{letter} {getattr(state, name):g}" for name, letter in GREEK.items())
    return (
        f"Image {view.sample.image_id}, {state.level} ({rows} x {columns} cells of {view.stride} px), "
        f"T = {state.temperature:g}, {weights}, {state.rounding} rounding"
    )


# --- maps

def draw_image(ax: Axes, view: ViewData, colours: dict[str, str]) -> None:
    placing = image_placing(view)
    ax.imshow(view.sample.rgb, **placing)
    if "scale" in view.state.overlays:
        ax.imshow(
            scale_mask(view), cmap="cividis", norm=Normalize(0, 1), alpha=0.75, interpolation="nearest", **placing,
        )
    elif "mask" in view.state.overlays:
        white = np.where(view.fg[..., None] > 0, (1, 1, 1, 0), (1, 1, 1, 0.6))
        ax.imshow(white, interpolation="nearest", **placing)
    draw_overlays(ax, view)
    for panel in view.panels:
        draw_detections(ax, view, panel, colours, labels=False)
    height, width = view.sample.padded_size
    plots.set_title(ax, f"image {view.sample.image_id}\n{height} x {width} pixels")


def draw_panel(ax: Axes, view: ViewData, panel: Panel, colours: dict[str, str]) -> None:
    norm, cmap = Normalize(panel.low, panel.high), COLOUR_MAPS[panel.kind]
    drawn = ax.imshow(panel.values, norm=norm, cmap=cmap, interpolation="nearest", **image_placing(view))
    draw_overlays(ax, view)
    draw_detections(ax, view, panel, colours)
    plots.set_title(ax, f"{panel.title}\n{panel.values.min():.3g} to {panel.values.max():.3g}")
    plots.colour_bar(ax, drawn, panel.unit)
    for side in ax.spines.values():
        side.set_color(colours.get(panel.network, "#999999"))
        side.set_linewidth(2 if panel.network in colours else 0.8)


def image_placing(view: ViewData) -> dict:
    """Arguments of imshow: the axes count cells, and pixels are square."""
    (rows, columns), (height, width) = view.grid, view.sample.padded_size
    return {"extent": (0, columns, rows, 0), "aspect": (columns / rows) * (height / width)}


def cells_per_pixel(view: ViewData) -> tuple[float, float]:
    """In x and y."""
    return view.grid[1] / view.sample.padded_size[1], view.grid[0] / view.sample.padded_size[0]


def draw_overlays(ax: Axes, view: ViewData) -> None:
    overlays = view.state.overlays
    if "mask" in overlays:
        edges = [((x1, y1), (x2, y2)) for x1, y1, x2, y2 in mask_edges(view.fg > 0)]
        ax.add_collection(LineCollection(edges, colors="black", linewidths=1.2, path_effects=RIM, gid="mask"))
    if "roundings" in overlays:
        for rounding, color, line in (("authors", "black", "-"), ("exact", plots.BACKGROUND_COLOUR, "--")):
            cells = torch.from_numpy(view.ranges[rounding])
            plots.draw_boxes(ax, cells, color=color, linestyle=line, linewidth=1.4, gid=rounding)
    if "boxes" in overlays:
        plots.draw_boxes(ax, view.sample.boxes[0], cells_per_pixel(view))
    ax.set_xlim(0, view.grid[1])
    ax.set_ylim(view.grid[0], 0)
    if view.state.cell is not None:
        row, col = view.state.cell
        cell = torch.tensor([[col, row, col + 1, row + 1]])
        plots.draw_boxes(ax, cell, color=CHOSEN_COLOUR, linewidth=1.6, gid="cell")


def draw_detections(ax: Axes, view: ViewData, panel: Panel, colours: dict[str, str], labels: bool = True) -> None:
    if "detections" not in view.state.overlays:
        return
    scale, color = cells_per_pixel(view), colours.get(panel.network, plots.NEUTRAL_COLOUR)
    written: list[tuple[float, float]] = []
    for box, text in panel.detections:
        plots.draw_boxes(ax, torch.tensor([box]), scale, color=color, gid="detection")
        x, y = box[0] * scale[0], box[1] * scale[1]
        place = (x / view.grid[1], y / view.grid[0])
        # High scores come first; a later label that would overlap is left out.
        if labels and all(abs(place[0] - left) > 0.2 or abs(place[1] - top) > 0.06 for left, top in written):
            written.append(place)
            ax.text(x, y, text, fontsize=6, color=color, va="bottom", clip_on=True, path_effects=RIM)


# --- numbers

def draw_channels(ax: Axes, view: ViewData, colours: dict[str, str]) -> None:
    """Two bars per channel, from the largest gap to the smallest."""
    channels, state = view.channels, view.state
    order = channels.order[:MAX_CHANNELS]
    x = np.arange(len(order))
    ax.bar(x - 0.21, channels.teacher[order], color=colours["teacher"], width=0.42, label="teacher")
    ax.bar(x + 0.21, channels.student[order], color=colours[state.student_name], width=0.42, label=state.student_name)
    ax.legend(fontsize=6.5, frameon=False, ncols=2, loc="upper right")
    ax.axhline(0, color="black", linewidth=0.6)
    if state.quantity == "channel" and state.channel in order:
        chosen = int(np.flatnonzero(order == state.channel)[0])
        ax.axvspan(chosen - 0.5, chosen + 0.5, color=CHOSEN_COLOUR, alpha=0.2)
    step = 1 if len(order) <= 16 else 4
    ax.set_xticks(x[::step], [str(channel) for channel in order[::step]], fontsize=6)
    count = "all" if len(order) == len(channels.order) else f"{len(order)} of"
    ax.set_title(f"{channels.what}\n{count} {len(channels.order)} channels, largest gap first", fontsize=7.5)
    ax.set_xlabel("channel", fontsize=7.5)
    plots.style_axes(ax, "y")


def draw_loss(ax: Axes, view: ViewData, colours: dict[str, str]) -> None:
    weights = {row["term"]: row["weight"] for row in view.terms}
    styles = {term: plots.TERM_STYLES[term] for term in weights}
    plots.draw_loss_percentages(ax, pd.DataFrame(view.terms).rename(columns={"term": "name"}), styles)
    ax.legend(
        handles=[
            Patch(color=styles[term][0], label=f"{term}, {GREEK[WEIGHT_OF[term]]} = {weight:g}")
            for term, weight in weights.items()
        ],
        fontsize=6.5, loc="lower right", frameon=False,
    )
    total = sum(row["weighted"] for row in view.terms)
    ax.set_title(f"Loss of {view.state.student_name} on this image: {total:.3g}", fontsize=7.5)


def draw_numbers(ax: Axes, view: ViewData, colours: dict[str, str]) -> None:
    """Gaps, networks and warnings as text."""
    ax.set_axis_off()
    networks, rows = view.networks, [["gap to the teacher", *(row["student"] for row in view.gaps)]]
    for quantity, key in (("features", "feature"), ("attention", "attention")):
        for area, end in (("objects", "fg"), ("background", "bg")):
            rows.append([f"{quantity}, {area}", *(format_number(row[f"{key}_{end}"]) for row in view.gaps)])
    rows += [
        ["network", *(row["name"] for row in networks)],
        ["AP", *(format_number(row["AP"]) for row in networks)],
        ["detected / objects", *(f"{row['detected']} / {row['objects']}" for row in networks)],
        ["scale of features", *(format_number(row["scale"][view.state.level]) for row in networks)],
    ]
    for i, row in enumerate(rows):
        y = 1 - (i + (0.6 if i > 4 else 0)) / 11.5
        for j, text in enumerate(row):
            x = 0 if j == 0 else 0.425 + 0.66 / len(networks) * (j - 1)
            ax.text(x, y, text, fontsize=7, va="top", weight="bold" if i in (0, 5) else None, transform=ax.transAxes)
    lines = [f"! {line}" for line in view.warnings] + view.notes
    color = WARNING_COLOUR if view.warnings else plots.NEUTRAL_COLOUR
    ax.text(0, 0.12, "\n".join(lines), fontsize=6, va="top", wrap=True, transform=ax.transAxes, color=color)


def draw_checkpoints(ax: Axes, view: ViewData, colours: dict[str, str]) -> None:
    x, step = np.arange(len(view.checkpoints)), max(len(view.checkpoints) // 6, 1)
    for area, color, label in (("fg", plots.BOX_COLOUR, "objects"), ("bg", plots.BACKGROUND_COLOUR, "background")):
        values = np.array([row[f"feature_{area}"] for row in view.checkpoints], dtype=float)
        ax.plot(x, values, marker="o", markersize=3, color=color, label=label)
    ax.axvline(view.state.checkpoint, color=CHOSEN_COLOUR, linewidth=0.8)
    ax.set_xticks(x[::step], [row["checkpoint"] for row in view.checkpoints][::step], fontsize=6, rotation=30)
    ax.set_ylim(bottom=0)
    ax.legend(fontsize=6.5, frameon=False)
    ax.set_title(f"Gap of features on {view.state.level}\nover checkpoints of {view.state.student_name}", fontsize=7.5)
    plots.style_axes(ax, "y")


def format_number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def lookup_table(kind: str) -> bytes:
    """The colour map of a kind of panel as 256 RGB colours."""
    return (mpl.colormaps[COLOUR_MAPS[kind]](np.arange(256))[:, :3] * 255).round().astype(np.uint8).tobytes()
