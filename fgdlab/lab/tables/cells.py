"""The text in a table's cells, the same in every format.

    numbers --table_blocks, contrast_block--> blocks: frames of text, whose headers may hold newlines
"""
import pandas as pd

DASH = "–"


def amount(value: float) -> str:
    return DASH if pd.isna(value) else f"{value:.1f}"


def signed(value: float, decimals: int = 1) -> str:
    """A number with its sign, never "-0.0", or a dash."""
    return DASH if pd.isna(value) else f"{round(value, decimals) + 0.0:+.{decimals}f}"


def mean_cell(line: pd.Series, metric: str) -> str:
    """``30.5 ± 0.7 (2 of 3)``: mean, sample std, number of done and expected runs; a dash if none is done."""
    n, missing = line[f"{metric}_n"], line[f"{metric}_missing"]
    if n == 0:
        return DASH
    count = f"{n} of {n + missing}" if missing else f"{n}"
    return f"{amount(line[f'{metric}_mean'])} ± {amount(line[f'{metric}_std'])} ({count})"


def difference_cell(line: pd.Series, metric: str) -> str:
    if line["row"] == line["against"]:
        return "baseline"
    return difference_text(*(line[f"{metric}_delta{part}"] for part in ("", "_low", "_high", "_n")))


def difference_text(mean: float, low: float, high: float, n: int) -> str:
    """``+9.0 [+8.5, +9.5] (3)``: mean difference, its interval, number of pairs."""
    interval = f"[{DASH}]" if pd.isna(low) else f"[{signed(low)}, {signed(high)}]"
    return f"{signed(mean)} {interval} ({n})" if n else DASH


def differences(table: pd.DataFrame, metrics: tuple[str, ...], variance: str) -> dict[str, pd.Series]:
    interval = {"seeds": "95 % t-interval", "images": "95 %, images", "both": "95 %, seeds and images"}[variance]
    return {
        f"ours: Δ{metric}, paired\n[{interval}] (n)": table.apply(difference_cell, axis=1, metric=metric)
        for metric in metrics
    }


def table_blocks(
    table: pd.DataFrame, metrics: tuple[str, ...], cost: dict[str, float], variance: str,
) -> list[pd.DataFrame]:
    blocks = []
    for part in (metrics[:2], *(metrics[start:start + 3] for start in range(2, len(metrics), 3))):
        columns = {"": table["label"], **papers(table, part, "", "_paper", amount)}
        columns |= {f"ours: {each}\nmean ± std (n)": table.apply(mean_cell, axis=1, metric=each) for each in part}
        if not blocks:
            columns |= differences(table, part[:1], variance)
            if cost:
                columns["step time,\n× plain"] = [f"{cost[row]:.2f}" if row in cost else DASH for row in table["row"]]
        blocks.append(pd.DataFrame(columns))
    return blocks


def contrast_block(table: pd.DataFrame, metrics: tuple[str, ...], variance: str) -> pd.DataFrame:
    """Differences between rows that are not the baseline, for the first two metrics."""
    paper = papers(table, metrics[:2], "Δ", "_paper_delta", signed)
    return pd.DataFrame({"contrast": table["label"], **paper, **differences(table, metrics[:2], variance)})


def papers(table: pd.DataFrame, metrics: tuple[str, ...], sign: str, suffix: str, text) -> dict[str, pd.Series]:
    columns = {f"paper\n{sign}{metric}": table[metric + suffix] for metric in metrics}
    return {header: values.map(text) for header, values in columns.items() if values.notna().any()}
