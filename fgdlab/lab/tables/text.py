"""A table as plain text for a terminal, or as Markdown."""
import textwrap

from tabulate import tabulate

from .cells import Block

WIDTH = 100  # columns of a terminal


def text(headings: list[str], blocks: list[Block], caption: list[str]) -> str:
    """Headings, tables, caption, wrapped at :data:`WIDTH` columns."""
    notes = "\n".join(textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in caption)
    return "\n\n".join([*(textwrap.fill(heading, WIDTH) for heading in headings), *map(aligned, blocks), notes]) + "\n"


def aligned(block: Block) -> str:
    """A table for a terminal. The first column is wrapped so that the table fits; the others are right-aligned."""
    headers, rows = block.headers, block.rows

    def width(column) -> int:
        return max(len(line) for cell in column for line in cell.split("\n"))

    widths = [width(column) for column in zip(headers, *rows, strict=True)]
    room = max(WIDTH - sum(widths[1:]) - 2 * len(widths[1:]), 14)
    rows = [["\n".join(textwrap.wrap(row[0], room)), *row[1:]] for row in rows]
    widths[0] = width([headers[0], *(row[0] for row in rows)])
    lines = [headers, ["-" * each for each in widths], *rows]
    return tabulate(lines, tablefmt="plain", colalign=alignment(block), disable_numparse=True)


def markdown(headings: list[str], blocks: list[Block], caption: list[str], bold: int) -> str:
    """The same for a README; the first ``bold`` headings are bold."""
    headings = [f"**{heading}**" for heading in headings[:bold]] + headings[bold:]
    return "\n\n".join([*headings, *map(pipes, blocks), "\n".join(f"- {line}" for line in caption)]) + "\n"


def pipes(block: Block) -> str:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in block.rows]
    headers = [name.replace("\n", " ") for name in block.headers]
    return tabulate(cells, headers, "pipe", colalign=alignment(block), disable_numparse=True)


def alignment(block: Block) -> list[str]:
    return ["left", *["right"] * (len(block.headers) - 1)]
