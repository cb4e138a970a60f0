"""A table as plain text for a terminal, or as Markdown."""
import textwrap

import pandas as pd
from tabulate import tabulate

WIDTH = 100  # columns of a terminal


def text(headings: list[str], blocks: list[pd.DataFrame], caption: list[str]) -> str:
    headings = [textwrap.fill(heading, WIDTH) for heading in headings]
    return "\n\n".join([*headings, *map(aligned, blocks), wrapped(caption)]) + "\n"


def wrapped(lines: list[str]) -> str:
    return "\n".join(textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in lines)


def aligned(block: pd.DataFrame) -> str:
    """A table for a terminal. The first column is wrapped so that the table fits; the others are right-aligned."""
    def width(column) -> int:
        return max(len(line) for cell in column for line in cell.split("\n"))

    headers, rows = list(block), block.to_numpy().tolist()
    widths = [width(column) for column in zip(headers, *rows, strict=True)]
    room = max(WIDTH - sum(widths[1:]) - 2 * len(widths[1:]), 14)
    rows = [["\n".join(textwrap.wrap(row[0], room)), *row[1:]] for row in rows]
    widths[0] = width([headers[0], *(row[0] for row in rows)])
    lines = [headers, ["-" * each for each in widths], *rows]
    return tabulate(lines, tablefmt="plain", colalign=alignment(block), disable_numparse=True)


def markdown(headings: list[str], blocks: list[pd.DataFrame], caption: list[str]) -> str:
    *bold, question = headings
    parts = [*(f"**{each}**" for each in bold), question, *map(pipes, blocks)]
    return "\n\n".join([*parts, "\n".join(f"- {line}" for line in caption)]) + "\n"


def pipes(block: pd.DataFrame) -> str:
    cells = block.map(lambda cell: cell.replace("|", "\\|")).to_numpy().tolist()
    headers = [name.replace("\n", " ") for name in block]
    return tabulate(cells, headers, "pipe", colalign=alignment(block), disable_numparse=True)


def alignment(block: pd.DataFrame) -> list[str]:
    return ["left", *["right"] * (block.shape[1] - 1)]
