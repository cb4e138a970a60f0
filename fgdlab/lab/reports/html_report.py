"""A report as one HTML file: pictures and style are in it, nothing is fetched, no script is needed.

    Report --sections--> words, tables, pictures as data URIs --page.html, page.css--> a page for light and dark, wide and narrow screens
"""
import base64
import io
from collections.abc import Iterator
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

import fgdlab

from ..tables import DASH, SMOKE, Block, caption_html, expected_seeds, is_smoke, missing_line, not_done, setting, table_html

HERE = Path(__file__).parent
DOTS = 125                                                           # an inch, of every picture


def page(report) -> str:
    """The whole page of a :class:`fgdlab.lab.reports.sweep_report.Report`."""
    table, sweep = report.table, report.runs.sweep
    missing = missing_line(table.runs, sweep, table.metrics[0])
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template("page.html").render(
        title=sweep.title, question=sweep.question, css=Markup((HERE / "page.css").read_text(encoding="utf-8")), version=fgdlab.__version__,
        smoke=SMOKE if is_smoke(table.done) else "", missing="" if missing.startswith("All ") else missing.split(":")[0] + ".",
        setting=setting(table.done, expected_seeds(table.runs, sweep)), sections=list(sections(report)), command=command(report),
    )


def sections(report) -> Iterator[dict]:
    """What stands on the page, from top to bottom."""
    table, sweep = report.table, report.runs.sweep
    yield section("table", "Table", "", *(frame(block, f"table-{i}") for i, block in enumerate(table.blocks)), {"table": Markup(caption_html(table.caption[1:]))})
    yield section("points", "Every run", "", picture(
        report.figure(), "Every run as a point",
        "Left: each run, with mean and 95 % t-interval of the row below the points. Right: each run minus the baseline's run of the same seed. A row whose interval "
        "holds 0 may owe its difference to the seed.",
    ))
    yield section("losses", "Loss terms", "", picture(
        report.losses(), "Loss terms over training, a panel a row",
        "Each term after its weight, summed over levels; the detector's own terms in orange. A row whose distillation ends far above the detector's own loss steers the student "
        "more than the labels do; rows are easier to compare where these sizes are alike.",
    ))
    yield section("rows", "Where rows look, what they find", not_shown(report), *pictures(report))
    yield section("settings", "What tells the rows apart", "Settings that differ between rows; all others are equal.", frame(block_of(report.settings()), "settings"))
    failed = report.failures()
    words = "" if len(not_done(table.runs, sweep, table.metrics[0])) else "Every expected run is done."
    yield section("failures", "Failures and missing runs", words, *([frame(block_of(failed), "failures", words=("state", "why", "notebook"))] if len(failed) else []))
    yield section(
        "cost", "Cost", "Means over a row's done runs on the machine below, beside whatever else it was doing; no benchmark.",
        frame(block_of(report.cost()), "cost"),
    )
    yield section("provenance", "Where the numbers come from", "", frame(block_of(report.provenance()), "provenance", words=("value",)))


def section(name: str, title: str, words: str, *parts: dict) -> dict:
    empty = {"heading": "", "absent": "", "image": "", "table": ""}
    return {"id": name, "title": title, "words": words, "parts": [empty | part for part in parts]}


def pictures(report) -> Iterator[dict]:
    """Masks, attention and detections of each image; once the reason, where there is none to show."""
    if isinstance(report.opened, str):
        yield {"absent": f"Not here: {report.opened}."}
        return
    for image, place in enumerate(report.opened.images(report.images)):
        yield {"heading": f"Image {report.opened.scenes.image_ids[place]}"}
        yield picture(report.masks(image), "Weights of cells", "How heavy a cell counts in the rows' losses, on one logarithmic scale; zeros are grey. Rows that weigh alike share a panel.")
        yield picture(report.attention(image), "Spatial attention by row",
                      "Spatial attention of the teacher and of each row's student, on one logarithmic scale; 1 is the average cell. Whose student attends where the teacher does?")
        yield picture(report.found(image), "Detections by row",
                      "What is found on this image. Look for objects without a blue box (missed), blue boxes without an orange one (false), and boxes with a wrong class. "
                      "One image is an example, the table is the measure.")


def command(report) -> str:
    scales = set(report.table.done["scale"]) if "scale" in report.table.done else {"laptop"}
    return f"fgdlab report {report.runs.sweep.name}" + "".join(f" --scale {scale}" for scale in sorted(scales - {"laptop"}))


def not_shown(report) -> str:
    """Which run of a row the pictures are of, and which rows they leave out."""
    if isinstance(report.opened, str):
        return ""
    seeds = sorted({row.seed for row in report.opened.rows})
    shown = f"The same images in every row, the student of seed {', '.join(map(str, seeds))}, opened again from the runs' folders."
    left_out = "; ".join(f"{label} ({why.rstrip('.')})" for label, why in report.opened.left_out.items())
    return shown + (f" Not shown: {left_out}." if left_out else "")


def picture(made: Figure | str, alt: str, caption: str) -> dict:
    """A figure as an image of the page, or why there is none. It shrinks with the screen to the least width that can be read, then scrolls."""
    if isinstance(made, str):
        return {"absent": f"Not here: {made}."}
    width = made.get_size_inches()[0] * 100
    return {"image": data_uri(made), "width": round(width), "least": round(min(width, 0.62 * width + 120)), "alt": alt, "caption": caption}


def data_uri(figure: Figure) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DOTS, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def block_of(lines: pd.DataFrame) -> Block:
    """A frame as words: numbers to one decimal from 10 up, else to two; a dash where there is nothing."""
    return Block(list(lines.columns), [[word(value) for value in line] for line in lines.itertuples(index=False)], [])


def word(value) -> str:
    if value is None or pd.isna(value):
        return DASH
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return str(value)


def frame(block: Block, name: str, words: tuple[str, ...] = ()) -> dict:
    return {"table": Markup(table_html(block, name, words))}
