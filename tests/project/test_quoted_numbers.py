"""What the texts say of several tables together, which no single table prints, is what the committed runs give."""
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import fgdlab
from fgdlab.lab.stats.intervals import estimate

ROOT = Path(fgdlab.__file__).parents[1]
README, ABLATIONS = (" ".join((ROOT / name).read_text(encoding="utf-8").split()) for name in ("README.md", "ablations/README.md"))


def by_row(name):
    return pd.read_csv(ROOT / f"ablations/results/{name}.csv").pivot(index="seed", columns="row", values="AP")


@pytest.fixture(scope="module")
def split_minus_unsplit():
    """Five seeds, three times: Table 1, and both forms of the sums."""
    table, forms = by_row("table1_areas"), by_row("control_sums")
    return pd.DataFrame({"table": table.split - table.both, "fused": forms.split - forms.both, "written": forms.split_readable - forms.both_readable})


def told(values):
    found = estimate(values)
    return f"{found.mean:.1f} [{found.low:.1f}, {found.high:.1f}]"


def test_fifteen_pairs_of_split_and_unsplit(split_minus_unsplit):
    assert split_minus_unsplit.shape == (5, 3)
    whole = told(split_minus_unsplit.to_numpy().ravel())
    assert f"in all fifteen pairs {whole}" in README and f"fifteen draws: {whole.replace(' [', ' AP [')}" in ABLATIONS


def test_one_seeds_differences_have_nothing_in_common(split_minus_unsplit):
    found = split_minus_unsplit.corr().to_numpy()[np.triu_indices(3, k=1)]
    assert f"correlations of {min(found):.1f} to {max(found):.1f}" in ABLATIONS


def test_the_two_forms_of_the_sums_differ_by_nothing_over_four_rows():
    forms = by_row("control_sums")
    apart = pd.concat([forms[row] - forms[f"{row}_readable"] for row in ("fg", "bg", "both", "split")])
    assert len(apart) == 20 and f"over four rows and five seeds {told(apart).replace(' [', ' AP [')}" in ABLATIONS


def test_a_last_digit_is_nearly_as_good_as_another_seed():
    forms = by_row("control_sums")
    same_seed, two_seeds = (forms.split - forms.split_readable).std(), 2**0.5 * forms[["split", "split_readable"]].to_numpy().std(axis=0, ddof=1).mean()
    assert f"a standard deviation of {same_seed:.1f} AP, that of two seeds one of {two_seeds:.1f}" in ABLATIONS
