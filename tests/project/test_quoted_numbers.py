"""Numbers in README.md and ablations/README.md that combine several tables are those of the committed runs."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import fgdlab
from fgdlab.lab.stats.intervals import estimate

ROOT = Path(fgdlab.__file__).parents[1]


def text_of(name: str) -> str:
    return " ".join((ROOT / name).read_text(encoding="utf-8").split()).replace(" AP [", " [")


def by_row(name: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / f"ablations/results/{name}.csv").pivot(index="seed", columns="row", values="AP")


def interval_text(values) -> str:
    mean, _, _, low, high = estimate(values)
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]"


@pytest.fixture(scope="module")
def sums() -> pd.DataFrame:
    """AP by seed and row, with the sums of the loss fused and as they are written."""
    return by_row("control_sums")


@pytest.fixture(scope="module")
def split_minus_unsplit(sums) -> pd.DataFrame:
    """Five seeds, three times: Table 1, and both implementations of the sums."""
    table = by_row("table1_areas")
    readable = sums.split_readable - sums.both_readable
    return pd.DataFrame({"table": table.split - table.both, "fused": sums.split - sums.both, "readable": readable})


@pytest.mark.parametrize("document", ["README.md", "ablations/README.md"])
def test_the_difference_of_split_and_unsplit_over_fifteen_pairs(split_minus_unsplit, document):
    assert split_minus_unsplit.shape == (5, 3)
    assert interval_text(split_minus_unsplit.to_numpy().ravel()) in text_of(document)


def test_the_correlations_of_one_seeds_differences(split_minus_unsplit):
    correlations = split_minus_unsplit.corr().to_numpy()[np.triu_indices(3, k=1)]
    assert f"{min(correlations):.1f} to {max(correlations):.1f}" in text_of("ablations/README.md")


def test_the_difference_of_fused_and_readable_sums_over_four_rows(sums):
    differences = pd.concat([sums[row] - sums[f"{row}_readable"] for row in ("fg", "bg", "both", "split")])
    assert len(differences) == 20 and interval_text(differences) in text_of("ablations/README.md")


def test_the_standard_deviations_of_one_seed_and_of_two_seeds(sums):
    same_seed = (sums.split - sums.split_readable).std()
    two_seeds = 2**0.5 * sums[["split", "split_readable"]].to_numpy().std(axis=0, ddof=1).mean()
    assert re.search(rf"\b{same_seed:.1f} AP.{{,60}}\b{two_seeds:.1f}\b", text_of("ablations/README.md"))
