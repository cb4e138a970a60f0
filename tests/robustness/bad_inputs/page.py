"""Figures and rows as Markdown, each between two marks of tests/robustness/ROBUST.md.

    tests/robustness/robust.json (tests/robustness/record.py) --figures-----+
    TABLE                             --rendered----+--with_rows--> tests/robustness/ROBUST.md
"""
import json
import os
import re
from pathlib import Path

from .table import TABLE
from .world import PETS, TAUGHT, Row

PAGE = Path(__file__).parents[1] / "ROBUST.md"
BEGIN, END = "<!-- rows: written by `python -m tests.robustness.bad_inputs` -->", "<!-- end of rows -->"
RECORDS = PAGE.with_name("robust.json")
FIGURES, FIGURES_END = "<!-- figures: written by `make robust` -->", "<!-- end of figures -->"
SHORT = {" ".join(TAUGHT): "run TAUGHT", " ".join(PETS): "PETS"}


def rendered() -> str:
    """All rows, kind by kind, with their counts."""
    count = sum(map(len, TABLE.values()))
    works = sum(not row.says for rows in TABLE.values() for row in rows)
    blocks = [
        f"{count} rows: {count - works} end in one line and a status that is not 0, {works} are unusual and work."
    ]
    for kind, rows in TABLE.items():
        lines = [f"| {cell(row.name)} | `{cell(command(row))}` | {result(row)} |" for row in rows]
        blocks.append(
            "\n".join(
                [
                    f"### {kind} ({len(rows)})", "", "| what is wrong | `fgdlab` | what it says |", "|---|---|---|",
                    *lines,
                ]
            )
        )
    return "\n\n".join(blocks)


def command(row: Row) -> str:
    text = " ".join(row.command)
    for long, short in SHORT.items():
        text = text.replace(long, short)
    return text


def result(row: Row) -> str:
    """What the command prints; a row with its own test names that test."""
    name = row.elsewhere.split("::")[0]
    own = f" ([{name}]({link(name)}))" if name else ""
    return ("works" if not row.says else cell(row.says).replace("<", "&lt;").replace("*", "\\*")) + own


def link(name: str) -> str:
    """The path of a test file, relative to the page."""
    path = next(PAGE.parents[1].rglob(name))
    return os.path.relpath(path, PAGE.parent)


def cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


def recorded() -> dict[str, dict]:
    """The records that tests/robustness/record.py wrote, by check."""
    return json.loads(RECORDS.read_text(encoding="utf-8")) if RECORDS.exists() else {}


def figures() -> str:
    """One line per check: command, figures, date and machine."""
    lines = [
        f"| {name} | `{each['command']}` | {'<br>'.join(map(cell, each['lines']))} | "
        f"{each['date']}{'' if each['minutes'] is None else ', ' + str(each['minutes']) + ' min'} |"
        for name, each in recorded().items()
    ]
    where = "; ".join(dict.fromkeys(each["machine"] for each in recorded().values()))
    return "\n".join(
        [
            "| check | command | figures | when |", "|---|---|---|---|", *lines, "",
            f"Measured on {where}, beside other work: the minutes say little.",
        ]
    )


def with_rows(page: str) -> str:
    """The page with its figures and rows written anew."""
    for begin, end, text in ((FIGURES, FIGURES_END, figures()), (BEGIN, END, rendered())):
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}"
    return page
