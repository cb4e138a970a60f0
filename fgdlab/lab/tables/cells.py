"""From numbers to the words in a table's cells, the same in every format.

    numbers of tables.py --blocks, contrast_block--> Block(headers, rows) --table_text.py, table_latex.py, table_html.py--> a page
"""
from typing import NamedTuple

import pandas as pd

DASH = "–"


class Block(NamedTuple):
    """One table as words. ``headers``: a column each, lines of a header parted by a newline; ``keys``: the row that each line shows."""

    headers: list[str]
    rows: list[list[str]]
    keys: list[str]


def amount(value: float) -> str:
    """One decimal, or a dash."""
    return DASH if pd.isna(value) else f"{value:.1f}"


def signed(value: float) -> str:
    """One decimal with its sign, never "-0.0", or a dash."""
    return DASH if pd.isna(value) else f"{round(value, 1) + 0.0:+.1f}"


def ours(line: pd.Series, metric: str) -> str:
    """``30.5 ± 0.7 (2 of 3)``: mean, sample std, how many of the expected runs; a dash where none is done."""
    n, missing = line[f"{metric}_n"], line[f"{metric}_missing"]
    if n == 0:
        return DASH
    count = f"{n} of {n + missing}" if missing else f"{n}"
    return f"{amount(line[f'{metric}_mean'])} ± {amount(line[f'{metric}_std'])} ({count})"


def delta(line: pd.Series, metric: str) -> str:
    """``+9.0 [+8.5, +9.5] (3)``: mean difference, its interval, number of pairs."""
    low, high, n = (line[f"{metric}_delta_{part}"] for part in ("low", "high", "n"))
    if line["row"] == line["against"]:
        return "baseline"
    if n == 0:
        return DASH
    interval = f"[{DASH}]" if pd.isna(low) else f"[{signed(low)}, {signed(high)}]"
    return f"{signed(line[f'{metric}_delta'])} {interval} ({n})"


def interval_header(noise: str) -> str:
    """The line of a header that says what stands in brackets."""
    return "[95 % t-interval] (n)" if noise == "seeds" else f"[95 %, {'seeds and images' if noise == 'both' else noise}] (n)"


def blocks(table: pd.DataFrame, metrics: tuple[str, ...], cost: dict[str, float], noise: str = "seeds") -> list[Block]:
    """The table of all metrics, in blocks that fit a page; difference to the baseline, and cost of a step, only beside the first metrics."""
    made = []
    for start in (0, *range(2, len(metrics), 3)):
        part = metrics[:2] if start == 0 else metrics[start:start + 3]
        paper = [metric for metric in part if table[f"{metric}_paper"].notna().any()]
        headers = ["", *(f"paper\n{metric}" for metric in paper), *(f"ours: {metric}\nmean ± std (n)" for metric in part)]
        cells = [[line["label"], *(amount(line[f"{metric}_paper"]) for metric in paper), *(ours(line, metric) for metric in part)] for _, line in table.iterrows()]
        if start == 0:
            headers.append(f"ours: Δ{part[0]}, paired\n{interval_header(noise)}")
            cells = [[*shown, delta(line, part[0])] for shown, (_, line) in zip(cells, table.iterrows(), strict=True)]
            if cost:
                headers.append("a step,\n× plain")
                cells = [[*shown, f"{cost[row]:.2f}" if row in cost else DASH] for shown, row in zip(cells, table["row"], strict=True)]
        made.append(Block(headers, cells, table["row"].to_list()))
    return made


def contrast_block(table: pd.DataFrame, metrics: tuple[str, ...], noise: str = "seeds") -> Block:
    """Differences between rows that are not the baseline, for the first two metrics."""
    part = metrics[:2]
    paper = [metric for metric in part if table[f"{metric}_paper_delta"].notna().any()]
    headers = ["contrast", *(f"paper\nΔ{metric}" for metric in paper), *(f"ours: Δ{metric}, paired\n{interval_header(noise)}" for metric in part)]
    cells = [[line["label"], *(signed(line[f"{metric}_paper_delta"]) for metric in paper), *(delta(line, metric) for metric in part)] for _, line in table.iterrows()]
    return Block(headers, cells, table["row"].to_list())
