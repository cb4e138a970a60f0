"""The text in a table's cells, the same in every format: numbers --table_blocks, contrast_block--> Block."""
from typing import NamedTuple

import pandas as pd

DASH = "–"


class Block(NamedTuple):
    """One table as text. ``headers``: one per column, may hold newlines; ``keys``: the sweep's row of each line."""

    headers: list[str]
    rows: list[list[str]]
    keys: list[str]


def amount(value: float) -> str:
    """One decimal, or a dash."""
    return DASH if pd.isna(value) else f"{value:.1f}"


def signed(value: float) -> str:
    """One decimal with its sign, never "-0.0", or a dash."""
    return DASH if pd.isna(value) else f"{round(value, 1) + 0.0:+.1f}"


def mean_cell(line: pd.Series, metric: str) -> str:
    """``30.5 ± 0.7 (2 of 3)``: mean, sample std, number of done and expected runs; a dash if none is done."""
    n, missing = line[f"{metric}_n"], line[f"{metric}_missing"]
    if n == 0:
        return DASH
    count = f"{n} of {n + missing}" if missing else f"{n}"
    return f"{amount(line[f'{metric}_mean'])} ± {amount(line[f'{metric}_std'])} ({count})"


def difference_cell(line: pd.Series, metric: str) -> str:
    """``+9.0 [+8.5, +9.5] (3)``: mean difference, its interval, number of pairs."""
    if line["row"] == line["against"]:
        return "baseline"
    return difference_text(*(line[f"{metric}_delta{part}"] for part in ("", "_low", "_high", "_n")))


def difference_text(mean: float, low: float, high: float, n: int) -> str:
    interval = f"[{DASH}]" if pd.isna(low) else f"[{signed(low)}, {signed(high)}]"
    return f"{signed(mean)} {interval} ({n})" if n else DASH


def difference_header(metric: str, variance: str) -> str:
    interval = {"seeds": "95 % t-interval", "images": "95 %, images", "both": "95 %, seeds and images"}[variance]
    return f"ours: Δ{metric}, paired\n[{interval}] (n)"


def table_blocks(
    table: pd.DataFrame, metrics: tuple[str, ...], cost: dict[str, float], variance: str = "seeds",
) -> list[Block]:
    """The table of all metrics, in blocks that fit a page. The first also has the difference and the step time."""
    blocks, lines = [], [line for _, line in table.iterrows()]
    for start in (0, *range(2, len(metrics), 3)):
        part = metrics[:2] if start == 0 else metrics[start:start + 3]
        columns = {"": [line["label"] for line in lines]}
        for metric in part:
            if table[f"{metric}_paper"].notna().any():
                columns[f"paper\n{metric}"] = [amount(line[f"{metric}_paper"]) for line in lines]
        for metric in part:
            columns[f"ours: {metric}\nmean ± std (n)"] = [mean_cell(line, metric) for line in lines]
        if start == 0:
            columns[difference_header(part[0], variance)] = [difference_cell(line, part[0]) for line in lines]
            if cost:
                columns["step time,\n× plain"] = [f"{cost[row]:.2f}" if row in cost else DASH for row in table["row"]]
        blocks.append(block_of(columns, table))
    return blocks


def contrast_block(table: pd.DataFrame, metrics: tuple[str, ...], variance: str = "seeds") -> Block:
    """Differences between rows that are not the baseline, for the first two metrics."""
    part, lines = metrics[:2], [line for _, line in table.iterrows()]
    columns = {"contrast": [line["label"] for line in lines]}
    for metric in part:
        if table[f"{metric}_paper_delta"].notna().any():
            columns[f"paper\nΔ{metric}"] = [signed(line[f"{metric}_paper_delta"]) for line in lines]
    for metric in part:
        columns[difference_header(metric, variance)] = [difference_cell(line, metric) for line in lines]
    return block_of(columns, table)


def block_of(columns: dict[str, list[str]], table: pd.DataFrame) -> Block:
    return Block(list(columns), [list(line) for line in zip(*columns.values(), strict=True)], table["row"].to_list())
