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


def network_colours(students: list[str]) -> dict[str, str]:
    colours = plots.STUDENT_COLOUR, plots.DISTILLED_COLOUR, plots.ATTENTION_COLOUR, plots.NEUTRAL_COLOUR
    return {"teacher": plots.TEACHER_COLOUR, **dict(zip(students, cycle(colours), strict=False))}


def figure(view: ViewData) -> plots.NotebookFigure:
    """The same view gives the same figure."""
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
        f"Image {view.sample.image_id}, {state.level} ({rows} x {columns} cells), "
        f"T = {state.temperature:g}, {weights}, {state.rounding} rounding"
    )


# --- maps

def draw_image(ax: Axes, view: ViewData, colours: dict[str, str]) -> None:
    (rows, columns), (height, width) = view.grid, view.sample.padded_size
    style = {"extent": (0, columns, rows, 0), "aspect": columns / rows * height / width, "interpolation": "nearest"}
    ax.imshow(view.sample.rgb, **{**style, "interpolation": None})
    if "scale" in view.state.overlays:
        ax.imshow(scale_mask(view), cmap="cividis", norm=Normalize(0, 1), alpha=0.75, **style)
    elif "mask" in view.state.overlays:
        ax.imshow(np.where(view.fg[..., None] > 0, (1, 1, 1, 0), (1, 1, 1, 0.6)), **style)
    draw_overlays(ax, view)
    for panel in view.panels:
        draw_detections(ax, view, panel, colours, labels=False)
    plots.set_title(ax, f"image {view.sample.image_id}\n{height} x {width} pixels")


def draw_panel(ax: Axes, view: ViewData, panel: Panel, colours: dict[str, str]) -> None:
    values, none = torch.from_numpy(panel.values), torch.zeros(0, 4)
    norm, cmap = Normalize(panel.low, panel.high), COLOUR_MAPS[panel.kind]
    drawn = plots.draw_map(ax, values, view.sample.padded_size, none, norm, cmap, panel.title)
    draw_overlays(ax, view)
    draw_detections(ax, view, panel, colours)
    plots.colour_bar(ax, drawn, panel.unit)
    for side in ax.spines.values():
        side.set(color=colours.get(panel.network, "#999999"), linewidth=2 if panel.network in colours else 0.8)


def cells_per_pixel(view: ViewData) -> tuple[float, float]:
    return view.grid[1] / view.sample.padded_size[1], view.grid[0] / view.sample.padded_size[0]


def draw_overlays(ax: Axes, view: ViewData) -> None:
    overlays = view.state.overlays
    if "mask" in overlays:
        edges = [((x1, y1), (x2, y2)) for x1, y1, x2, y2 in mask_edges(view.fg > 0)]
        rim = [withStroke(linewidth=2.6, foreground="white", alpha=0.9)]
        ax.add_collection(LineCollection(edges, colors="black", linewidths=1.2, path_effects=rim, gid="mask"))
    if "roundings" in overlays:
        for rounding, color, line in (("authors", "black", "-"), ("exact", plots.BACKGROUND_COLOUR, "--")):
            cells = torch.from_numpy(view.ranges[rounding])
            plots.draw_boxes(ax, cells, color=color, linestyle=line, linewidth=1.4, gid=rounding)
    if "boxes" in overlays:
        plots.draw_boxes(ax, view.sample.boxes[0], cells_per_pixel(view))
    ax.set(xlim=(0, view.grid[1]), ylim=(view.grid[0], 0))
    if view.state.cell is not None:
        row, col = view.state.cell
        cell = torch.tensor([[col, row, col + 1, row + 1]])
        plots.draw_boxes(ax, cell, color=CHOSEN_COLOUR, linewidth=1.6, gid="cell")


def draw_detections(ax: Axes, view: ViewData, panel: Panel, colours: dict[str, str], labels: bool = True) -> None:
    scale, color = cells_per_pixel(view), colours.get(panel.network, plots.NEUTRAL_COLOUR)
    for box, text in panel.detections if "detections" in view.state.overlays else ():
        plots.draw_boxes(ax, torch.tensor([box]), scale, color=color, gid="detection")
        if labels:
            plots.write_label(ax, [each * scale[i % 2] for i, each in enumerate(box)], text, color)


# --- numbers

def draw_channels(ax: Axes, view: ViewData, colours: dict[str, str]) -> None:
    shown, state = view.channels.head(MAX_CHANNELS), view.state
    x = np.arange(len(shown))
    for shift, column, name in ((-0.21, "teacher", "teacher"), (0.21, "student", state.student_name)):
        ax.bar(x + shift, shown[column], color=colours[name], width=0.42, label=name)
    ax.axhline(0, color="black", linewidth=0.6)
    if state.quantity == "channel" and state.channel in shown.index:
        chosen = shown.index.get_loc(state.channel)
        ax.axvspan(chosen - 0.5, chosen + 0.5, color=CHOSEN_COLOUR, alpha=0.2)
    step = 1 if len(shown) <= 16 else 4
    ax.set_xticks(x[::step], shown.index[::step].astype(str))
    title = f"{len(shown)} of {len(view.channels)} channels, largest gap first"
    style_chart(ax, f"{view.channels.attrs['what']}\n{title}")


def draw_loss(ax: Axes, view: ViewData, colours: dict[str, str]) -> None:
    weights = {row["term"]: row["weight"] for row in view.terms}
    styles = {term: plots.TERM_STYLES[term] for term in weights}
    plots.draw_loss_percentages(ax, pd.DataFrame(view.terms).rename(columns={"term": "name"}), styles)
    labels = {term: f"{term}, {GREEK[WEIGHT_OF[term]]} = {weight:g}" for term, weight in weights.items()}
    handles = [Patch(color=styles[term][0], label=label) for term, label in labels.items()]
    ax.legend(handles=handles, fontsize=6.5, loc="lower right", frameon=False)
    total = sum(row["weighted"] for row in view.terms)
    ax.set_title(f"Loss of {view.state.student_name} on this image: {total:.3g}", fontsize=7.5)


def draw_numbers(ax: Axes, view: ViewData, colours: dict[str, str]) -> None:
    """Gaps, networks and warnings as text."""
    ax.set_axis_off()
    networks = [{**row, "scale": row["scale"][view.state.level]} for row in view.networks]
    names = {"feature": "features, ", "fg": "objects", "attention": "attention, ", "bg": "background"}
    gaps = pd.DataFrame(view.gaps).rename(columns=lambda key: "".join(names.get(part, part) for part in key.split("_")))
    tables = {"gap to the teacher": gaps.set_index("student").T, "network": pd.DataFrame(networks).set_index("name").T}
    text = [
        each.astype(float).rename_axis(name, axis=1).to_string(float_format="{:.3g}".format, na_rep="-")
        for name, each in tables.items()
    ]
    style = {"va": "top", "transform": ax.transAxes}
    ax.text(0, 1, "\n\n".join(text), fontsize=6.5, family="monospace", **style)
    lines = "\n".join([f"! {line}" for line in view.warnings] + view.notes)
    color = WARNING_COLOUR if view.warnings else plots.NEUTRAL_COLOUR
    ax.text(0, 0.12, lines, fontsize=6, wrap=True, color=color, **style)


def draw_checkpoints(ax: Axes, view: ViewData, colours: dict[str, str]) -> None:
    x, step = np.arange(len(view.checkpoints)), max(len(view.checkpoints) // 6, 1)
    for area, color, label in (("fg", plots.BOX_COLOUR, "objects"), ("bg", plots.BACKGROUND_COLOUR, "background")):
        values = np.array([row[f"feature_{area}"] for row in view.checkpoints], dtype=float)
        ax.plot(x, values, marker="o", markersize=3, color=color, label=label)
    ax.axvline(view.state.checkpoint, color=CHOSEN_COLOUR, linewidth=0.8)
    ax.set_xticks(x[::step], [row["checkpoint"] for row in view.checkpoints][::step], rotation=30)
    ax.set_ylim(bottom=0)
    style_chart(ax, f"Gap of features on {view.state.level}\nover checkpoints of {view.state.student_name}")


def style_chart(ax: Axes, title: str) -> None:
    plots.style_axes(ax, "y")
    ax.tick_params(axis="x", labelsize=6)
    ax.set_title(title, fontsize=7.5)
    ax.legend(fontsize=6.5, frameon=False, ncols=2, loc="upper right")


def lookup_table(kind: str) -> bytes:
    return (mpl.colormaps[COLOUR_MAPS[kind]](np.arange(256))[:, :3] * 255).round().astype(np.uint8).tobytes()
