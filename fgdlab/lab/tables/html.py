"""A table as HTML by pandas' Styler: for a notebook, or for a page of its own that fetches nothing.

Text takes the colour of its surroundings. Lines and muted text are greys that are visible on light and dark ground.
"""
from html import escape

import pandas as pd
from pandas.io.formats.style import Styler

from .cells import DASH, Block

MUTED = "#7a7a7a"  # contrast 4.3 : 1 on white, 4.9 : 1 on black
LINE = "rgba(128, 128, 128, 0.45)"
STYLES = {
    "": "border-collapse: collapse; border-top: 1.5px solid; border-bottom: 1.5px solid; margin: 0.6em 0; "
        "font-variant-numeric: tabular-nums;",
    "th, td": "padding: 0.3em 0.8em; text-align: right; border: none; white-space: nowrap; background: none; "
              "color: inherit; vertical-align: baseline;",
    "th": f"font-weight: 600; line-height: 1.3; vertical-align: bottom; border-bottom: 1px solid {LINE};",
    "th:first-child, td:first-child": "text-align: left; padding-left: 0.2em; white-space: normal; min-width: 8em;",
    "tbody tr + tr td": f"border-top: 1px solid {LINE};",
    ".paper": f"color: {MUTED};",
}
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; }}
img {{ max-width: 100%; height: auto; }}
.output_html {{ overflow-x: auto; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def styled(headers: list[str], rows: list[list[str]], name: str, text_columns: tuple[str, ...] = ()) -> Styler:
    """A table of text. The paper's columns are muted, ``text_columns`` left-aligned. ``name``: unique within a page."""
    columns = [escape(header).replace("\n", "<br>") for header in headers]
    frame = pd.DataFrame(rows, columns=columns)
    classes = ["paper" if header.startswith("paper") else "" for header in headers]
    left = {
        f"th.col{i}, td.col{i}": "text-align: left; white-space: normal;"
        for i, header in enumerate(headers) if header in text_columns
    }
    styles = [{"selector": selector, "props": props} for selector, props in {**STYLES, **left}.items()]
    return (
        frame.style.hide(axis="index").format(escape="html").set_table_styles(styles).set_uuid(name)
        .set_td_classes(pd.DataFrame([classes] * len(frame), columns=columns, index=frame.index))
        .set_table_attributes('class="fgdlab-table"')
    )


def styled_frame(frame: pd.DataFrame, name: str, text_columns: tuple[str, ...] = ()) -> Styler:
    """A frame in the style of the tables: numbers with about three digits, a dash for missing values."""
    def cell(value) -> str:
        if value is None or pd.isna(value):
            return DASH
        if isinstance(value, float):
            return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
        return str(value)

    return styled(list(frame), [list(map(cell, line)) for line in frame.itertuples(index=False)], name, text_columns)


def html(name: str, headings: list[str], blocks: list[Block], caption: list[str], bold: int) -> str:
    """Headings, tables and caption for a notebook's cell; the first ``bold`` headings are bold. Wide tables scroll."""
    parts = [f"<p><strong>{escape(heading)}</strong></p>" for heading in headings[:bold]]
    parts += [f"<p>{escape(heading)}</p>" for heading in headings[bold:]]
    for i, block in enumerate(blocks):
        table = styled(block.headers, block.rows, f"{name}-{i}").to_html(cell_ids=False, bold_headers=False)
        parts.append(f'<div style="overflow-x: auto">{table}</div>')
    lines = "".join(f"<li>{escape(line)}</li>" for line in caption)
    parts.append(f'<ul style="font-size: 0.87em; line-height: 1.45; max-width: 60em;">{lines}</ul>')
    return "\n".join(parts)


def page(title: str, body: str) -> str:
    """A whole HTML file."""
    return PAGE.format(title=escape(title), body=body)
