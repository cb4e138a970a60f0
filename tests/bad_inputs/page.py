"""The table as Markdown, between two marks of tests/ROBUST.md."""
import re
from pathlib import Path

from .table import TABLE
from .world import PETS, TAUGHT, Row

PAGE = Path(__file__).parents[1] / "ROBUST.md"
BEGIN, END = "<!-- rows: written by `python -m tests.bad_inputs` -->", "<!-- end of rows -->"
SHORT = {" ".join(TAUGHT): "run TAUGHT", " ".join(PETS): "PETS"}


def rendered() -> str:
    """All rows, kind by kind, with their counts."""
    count = sum(map(len, TABLE.values()))
    works = sum(not row.says for rows in TABLE.values() for row in rows)
    blocks = [f"{count} rows: {count - works} end in one line and a status that is not 0, {works} are unusual and work."]
    for kind, rows in TABLE.items():
        lines = [f"| {cell(row.name)} | `{cell(command(row))}` | {result(row)} |" for row in rows]
        blocks.append("\n".join([f"### {kind} ({len(rows)})", "", "| what is wrong | `fgdlab` | what it says |", "|---|---|---|", *lines]))
    return "\n\n".join(blocks)


def command(row: Row) -> str:
    text = " ".join(row.command)
    for long, short in SHORT.items():
        text = text.replace(long, short)
    return text


def result(row: Row) -> str:
    """What the command says; a row that is tried by a test of its own names it."""
    own = f" ([{row.elsewhere.split('::')[0]}]({row.elsewhere.split('::')[0]}))" if row.elsewhere else ""
    return ("works" if not row.says else cell(row.says).replace("<", "&lt;").replace("*", "\\*")) + own


def cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


def with_rows(page: str) -> str:
    """The page with its rows written anew."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{rendered()}\n\n{END}{rest.partition(END)[2]}"
