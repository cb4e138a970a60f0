"""From a sweep's results to what the project shows: ablations/results/NAME.csv, .md and .png, and the table in README.md."""
import re
from pathlib import Path

import pandas as pd

from ..disk import write_text
from ..sweep import write_results
from ..tables import render
from ..tabular.figure import save_figure, table_figure
from .file import Sweep, ablations_folder


def publish(results: pd.DataFrame, sweep: Sweep) -> list[Path]:
    """Write results, table and figure to ablations/results and put the table between its marks in README.md, if it has such marks."""
    folder = ablations_folder() / "results"
    table = render(results, sweep, "markdown")
    csv, md, png = (folder / f"{sweep.name}{suffix}" for suffix in (".csv", ".md", ".png"))
    write_results(results, csv)
    write_text(md, table + "\n")
    save_figure(table_figure(results, sweep), png)
    readme = ablations_folder().parent / "README.md"
    before = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    after = marked(before, sweep.name, table)
    if after != before:
        write_text(readme, after)
    return [csv, md, png]


def marked(text: str, name: str, table: str) -> str:
    """The text with ``table`` between ``<!-- table NAME -->`` and ``<!-- end NAME -->``; unchanged where it lacks these marks."""
    pattern = re.compile(rf"(<!-- table {re.escape(name)} -->\n).*?(<!-- end {re.escape(name)} -->)", re.DOTALL)
    return pattern.sub(lambda found: f"{found[1]}{table.strip()}\n{found[2]}", text)
