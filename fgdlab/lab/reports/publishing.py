"""Publish a sweep: results, table and figure in ablations/results/NAME.csv, .md and .png, and the table in documents.

Another scale than laptop has its own files and section: NAME-gpu.csv, .md and .png, ``<!-- table NAME-gpu -->``.
"""
import re
from pathlib import Path

import pandas as pd

from ..errors import UserError
from ..io import write_text
from ..sweeps import INSTALLED, Sweep, ablations_folder, of_one_scale, of_scale, results_file, write_results
from ..tables import render, save_figure, table_figure
from .claims import claims_text


def publish(results: pd.DataFrame, sweep: Sweep, scale: str = "laptop") -> list[Path]:
    """Write the files, and the table between its marks in the README files, if they have any.

    Args:
        sweep: at this scale, see :meth:`Sweep.at`.
    """
    check_scale(scale)
    if ablations_folder() == INSTALLED:
        raise UserError(f"a table must be published in a checkout of the project, got {INSTALLED}; change the folder")
    csv = results_file(sweep.name, scale)
    md, png = csv.with_suffix(".md"), csv.with_suffix(".png")
    table = render(of_one_scale(results, scale, f"what is published as {csv.name}"), sweep, "markdown")
    write_results(results, csv)
    write_text(md, table + "\n")
    save_figure(table_figure(results, sweep), png)
    return [csv, md, png, *publish_table(of_scale(sweep.name, scale), table), *publish_claims()]


def publish_table(name: str, table: str) -> list[Path]:
    changed = []
    for file in ("README.md", "README.zh-CN.md", "ablations/README.md"):
        readme = ablations_folder().parent / file
        before = readme.read_text(encoding="utf-8") if readme.is_file() else ""
        after = replace_table(before, name, table)
        if after != before:
            write_text(readme, after)
            changed.append(readme)
    return changed


def publish_claims() -> list[Path]:
    return publish_table("claims", claims_text(markdown=True)) if (ablations_folder() / "claims.yaml").is_file() else []


def check_scale(scale: str) -> None:
    if scale == "smoke":
        raise UserError("a published table must be of scale laptop or gpu, got smoke; run the sweep at another scale")


def replace_table(text: str, name: str, table: str) -> str:
    pattern = re.compile(rf"(<!-- table {re.escape(name)} -->\n).*?(<!-- end {re.escape(name)} -->)", re.DOTALL)
    return pattern.sub(lambda found: f"{found[1]}{table.strip()}\n{found[2]}", text)
