"""A table as HTML by pandas' Styler: for a notebook, for a report, or a page of its own; readable on light and dark ground, nothing fetched.

Colours are those of whatever is around: text inherits, lines and muted words are greys that show on both grounds.
"""
from html import escape

import pandas as pd
from pandas.io.formats.style import Styler

from .cells import Block

MUTED = "#7a7a7a"                           # 4.3 : 1 on white, 4.9 : 1 on black
LINE = "rgba(128, 128, 128, 0.45)"
STYLES = [
    {"selector": "", "props": "border-collapse: collapse; border-top: 1.5px solid; border-bottom: 1.5px solid; margin: 0.6em 0; font-variant-numeric: tabular-nums;"},
    {"selector": "th, td", "props": "padding: 0.3em 0.8em; text-align: right; border: none; white-space: nowrap; background: none; color: inherit; vertical-align: baseline;"},
    {"selector": "th", "props": f"font-weight: 600; line-height: 1.3; vertical-align: bottom; border-bottom: 1px solid {LINE};"},
    {"selector": "th:first-child, td:first-child", "props": "text-align: left; padding-left: 0.2em; white-space: normal; min-width: 8em;"},
    {"selector": "tbody tr + tr td", "props": f"border-top: 1px solid {LINE};"},
    {"selector": ".paper", "props": f"color: {MUTED};"},
]
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; }}</style>
</head>
<body>
{body}
</body>
</html>
"""


def styled(block: Block, name: str, words: tuple[str, ...] = ()) -> Styler:
    """The block as a Styler, its columns' headers on as many lines as they have; the paper's columns stand back, columns of ``words`` begin at the left."""
    headers = [escape(header).replace("\n", "<br>") for header in block.headers]
    frame = pd.DataFrame(block.rows, columns=headers)
    classes = pd.DataFrame([["paper" if header.startswith("paper") else "" for header in block.headers]] * len(frame), columns=headers, index=frame.index)
    left = [{"selector": f"th.col{i}, td.col{i}", "props": "text-align: left; white-space: normal;"} for i, header in enumerate(block.headers) if header in words]
    return (
        frame.style.hide(axis="index").format(escape="html").set_table_styles([*STYLES, *left]).set_td_classes(classes).set_uuid(name)
        .set_table_attributes('class="fgdlab-table"')
    )


def table_html(block: Block, name: str, words: tuple[str, ...] = ()) -> str:
    """One block as ``<style>`` and ``<table>``, in a box that scrolls where the table is wider than its place. ``name`` must differ within a page."""
    return f'<div style="overflow-x: auto">{styled(block, name, words).to_html(cell_ids=False, bold_headers=False)}</div>'


def caption_html(caption: list[str]) -> str:
    return f'<ul style="font-size: 0.87em; line-height: 1.45; max-width: 60em;">{"".join(f"<li>{escape(line)}</li>" for line in caption)}</ul>'


def html(name: str, heads: list[str], blocks: list[Block], caption: list[str], strong: int) -> str:
    """Headings, tables and caption for a notebook's cell; the first ``strong`` headings are bold."""
    titles = [f"<p>{f'<strong>{escape(head)}</strong>' if i < strong else escape(head)}</p>" for i, head in enumerate(heads)]
    tables = [table_html(block, f"{name}-{i}") for i, block in enumerate(blocks)]
    return "\n".join([*titles, *tables, caption_html(caption)])


def page(title: str, body: str) -> str:
    """A file that any browser shows, without a network."""
    return PAGE.format(title=escape(title), body=body)
