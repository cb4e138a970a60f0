"""A table as plain text that fits a terminal, or as Markdown."""
import textwrap
from itertools import zip_longest

from tabulate import tabulate

from .cells import Block

WIDTH = 100                                 # columns of a terminal


def text(heads: list[str], blocks: list[Block], caption: list[str]) -> str:
    """Headings, tables, caption, wrapped at :data:`WIDTH` columns."""
    notes = "\n".join(textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in caption)
    return "\n\n".join([*(textwrap.fill(head, WIDTH) for head in heads), *(aligned(block) for block in blocks), notes]) + "\n"


def aligned(block: Block) -> str:
    """A table for a terminal: the first column wrapped so that the whole fits :data:`WIDTH`, the others to the right."""
    headers, cells = block.headers, block.rows
    widths = [max(len(part) for cell in column for part in cell.split("\n")) for column in zip(headers, *cells, strict=True)]
    room = max(WIDTH - sum(widths[1:]) - 2 * len(widths[1:]), 14)
    cells = [["\n".join(textwrap.wrap(line[0], room)), *line[1:]] for line in cells]
    widths[0] = max(len(part) for line in [headers, *cells] for part in line[0].split("\n"))
    lines = []
    for line in [headers, ["-" * width for width in widths], *cells]:
        for first, *others in zip_longest(*(cell.split("\n") for cell in line), fillvalue=""):
            lines.append("  ".join([first.ljust(widths[0]), *(part.rjust(width) for part, width in zip(others, widths[1:], strict=True))]).rstrip())
    return "\n".join(lines)


def markdown(heads: list[str], blocks: list[Block], caption: list[str], strong: int) -> str:
    """The same for a README; the first ``strong`` headings are bold."""
    heads = [f"**{head}**" if i < strong else head for i, head in enumerate(heads)]
    return "\n\n".join([*heads, *(pipes(block) for block in blocks), "\n".join(f"- {line}" for line in caption)]) + "\n"


def pipes(block: Block) -> str:
    align = ["left"] + ["right"] * (len(block.headers) - 1)
    cells = [[cell.replace("|", "\\|") for cell in line] for line in block.rows]
    return tabulate(cells, [name.replace("\n", " ") for name in block.headers], "pipe", colalign=align, disable_numparse=True)
