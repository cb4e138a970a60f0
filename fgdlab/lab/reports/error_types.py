"""Error types of finished runs, as in Fig. 6 of the paper: columns of results, text, and a figure of rows."""
import textwrap
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from tqdm import tqdm

from ..errors import UserError
from ..plots import DISTILLED_COLOUR
from ..run import evaluation_set
from ..stats import ERROR_TYPES, error_shares, mean_std, variance_covered
from ..tables import WIDTH, aligned, draw_values, seed_heights, style_rows
from .comparison_inputs import detections_of, finished
from .sweep_runs import SweepRuns, folder_of

TYPES = list(ERROR_TYPES)
MEANING = "In percent; a line sums to 100. " + "; ".join(f"{name}: {what}" for name, what in ERROR_TYPES.items()) + "."
COLUMNS = 3  # panels per line


def error_types_of_runs(folders: Iterable[Path]) -> pd.DataFrame:
    """The error shares of finished runs in percent: one line per run, with its seed as index."""
    shares, seeds, known = [], [], {}
    for folder in tqdm(list(folders), desc="error types", unit="run", leave=False):
        result = finished(folder)
        key = (result["data_hashes"]["eval"], result["settings"]["eval_split"])
        dataset = known[key] = known.get(key) or evaluation_set(folder, result)
        shares.append(error_shares(dataset.ground_truth(), detections_of(folder), dataset.image_ids))
        seeds.append(result["settings"]["seed"])
    return pd.DataFrame(shares, pd.Index(seeds, name="seed"), TYPES, dtype=float)


def with_error_types(runs: SweepRuns) -> pd.DataFrame:
    """The results of a sweep with one column per error type; empty where neither folder nor earlier shares are here."""
    folders = {index: folder_of(line, runs.path.parent) for index, line in runs.done().iterrows()}
    here = {index: folder for index, folder in folders.items() if folder.is_dir()}
    frame = runs.frame.reindex(columns=list(dict.fromkeys([*runs.frame.columns, *TYPES])))
    shares = error_types_of_runs(here.values()).set_axis(list(here)).reindex(frame.index)
    return frame.assign(**shares.combine_first(frame[TYPES].astype(float)))


def error_types_of_rows(runs: SweepRuns) -> dict[str, pd.DataFrame]:
    """{label of a row: error shares by seed}. Raises a UserError if no run's folder nor its shares are here."""
    frame = with_error_types(runs).dropna(subset=TYPES).set_index("seed")
    if frame.empty:
        raise UserError(runs.missing_folders())
    return {row.label: frame.loc[frame["row"] == key, TYPES] for key, row in runs.sweep.rows.items()}


def errors_text(rows: dict[str, pd.DataFrame]) -> str:
    def cell(values: pd.Series) -> str:
        mean, std, n = mean_std(values)
        return f"{mean:.1f}" + (f" ± {std:.1f}" if n > 1 else "")

    lines = [[label, *(cell(shares[name]) for name in TYPES), str(len(shares))] for label, shares in rows.items()]
    return f"{aligned(pd.DataFrame(lines, columns=['', *TYPES, 'n']))}\n\n{textwrap.fill(MEANING, WIDTH)}"


def errors_figure(rows: dict[str, pd.DataFrame], title: str) -> Figure:
    shares = pd.concat(rows.values())
    names, heights = [name for name in TYPES if shares[name].max() > 1e-9], seed_heights(sorted(set(shares.index)))
    lines = -(-len(names) // COLUMNS)
    figure = Figure(figsize=(11, (0.45 * len(rows) + 0.7) * lines + 0.9), facecolor="white", layout="constrained")
    axes = figure.subplots(lines, COLUMNS, sharey=True, squeeze=False).flatten()
    for ax in axes[len(names):]:
        ax.set_axis_off()
    for ax, name in zip(axes, names, strict=False):
        for i, (label, values) in enumerate(rows.items()):
            draw_values(ax, values[name], i, heights, DISTILLED_COLOUR, label)
        style_rows(ax, len(rows))
        ax.set_title(f"{name}: {ERROR_TYPES[name]}", fontsize=9)
    axes[0].set_yticks(range(len(rows)), [textwrap.fill(label, 26) for label in rows])
    figure.suptitle(f"{title}: error types", fontsize=12, weight="bold", x=0.01, ha="left")
    note = f"Share in percent. Points: runs. Squares: mean with 95 % t-interval. {variance_covered('seeds')}"
    figure.supxlabel(textwrap.fill(note, 150), fontsize=8, x=0.01, ha="left")
    return figure
