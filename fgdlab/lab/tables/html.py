"""A table as HTML by pandas' Styler: for a notebook, or for a page of its own that fetches nothing."""
import re
from html import escape
from pathlib import Path

import pandas as pd
from pandas.io.formats.style import Styler

from .cells import DASH

FOLDER = Path(__file__).parent
STYLES = [  # of table.css, for Styler
    {"selector": selector.strip().removeprefix("table").strip(), "props": " ".join(props.split())}
    for selector, props in re.findall(r"([^{}]+){([^{}]+)}", (FOLDER / "table.css").read_text(encoding="utf-8"))
]


def styled(table: pd.DataFrame, name: str, text_columns: tuple[str, ...] = ()) -> Styler:
    """A table of text. The paper's columns are muted, ``text_columns`` left-aligned. ``name``: unique within a page."""
    frame = table.set_axis([escape(header).replace("\n", "<br>") for header in table], axis=1)
    left = [{"selector": f"th.col{i}, td.col{i}", "props": "text-align: left; white-space: normal;"}
            for i, header in enumerate(table) if header in text_columns]
    classes = ["paper" if header.startswith("paper") else "" for header in table]
    return (
        frame.style.hide(axis="index").format(escape="html").set_table_styles(STYLES + left).set_uuid(name)
        .set_td_classes(pd.DataFrame([classes] * len(frame), columns=frame.columns, index=frame.index))
        .set_table_attributes('class="fgdlab-table"')
    )


def styled_frame(frame: pd.DataFrame, name: str, text_columns: tuple[str, ...] = ()) -> Styler:
    """A frame in the style of the tables: numbers with about three digits, a dash for missing values."""
    def cell(value) -> str:
        if pd.isna(value):
            return DASH
        if isinstance(value, float):
            return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
        return str(value)

    return styled(frame.map(cell), name, text_columns)


def html(name: str, headings: list[str], blocks: list[pd.DataFrame], caption: list[str]) -> str:
    *bold, question = map(escape, headings)
    parts = [*(f"<p><strong>{each}</strong></p>" for each in bold), f"<p>{question}</p>"]
    for i, block in enumerate(blocks):
        table = styled(block, f"{name}-{i}").to_html(cell_ids=False, bold_headers=False)
        parts.append(f'<div style="overflow-x: auto">{table}</div>')
    lines = "".join(f"<li>{escape(line)}</li>" for line in caption)
    return "\n".join([*parts, f'<ul style="font-size: 0.87em; line-height: 1.45; max-width: 60em;">{lines}</ul>'])


def page(title: str, body: str) -> str:
    """A whole HTML file."""
    template = (FOLDER / "page.html").read_text(encoding="utf-8")
    return template.replace("{title}", escape(title)).replace("{body}", body)
