"""Facts about means, intervals and paired differences of a few seeds."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel

from fgdlab.lab.errors import UserError
from fgdlab.lab.stats.intervals import (
    VARIANCE_SOURCES,
    Estimate,
    estimate,
    mean_std,
    paired_difference,
    seed_differences,
    t_interval,
    values_by_seed,
    variance_covered,
)

HALF_OF_THREE = 0.95 * np.sqrt(2 / (1 - 0.95**2)) / np.sqrt(3)  # 2.484: for 2 degrees of freedom t has a closed form


def frame(**rows: dict[int, float]) -> pd.DataFrame:
    """One done run for every row and seed; a None is a failed run."""
    return pd.DataFrame(
        [
            {"row": row, "seed": seed, "state": "failed" if ap is None else "done", "AP": np.nan if ap is None else ap}
            for row, of_seed in rows.items()
            for seed, ap in of_seed.items()
        ]
    )


def test_std_is_the_sample_std():
    assert mean_std([1.0, 2.0, 3.0]) == (2.0, 1.0, 3)


def test_three_values_give_the_interval_worked_out_by_hand():
    assert t_interval([1.0, 2.0, 3.0]) == pytest.approx((2 - HALF_OF_THREE, 2 + HALF_OF_THREE), abs=1e-9)


@pytest.mark.parametrize("n, half", [(3, 2.48), (5, 1.24), (10, 0.72)])
def test_half_width_in_stds_is_as_the_docstring_says(n, half):
    values = np.random.default_rng(n).normal(size=n)
    low, high = t_interval(values)
    assert (high - low) / 2 / values.std(ddof=1) == pytest.approx(half, abs=0.005)


def test_a_lower_level_gives_a_narrower_interval():
    assert t_interval([1, 2, 3], level=0.5)[0] == pytest.approx(2 - 0.816496580927726 / np.sqrt(3))


def test_one_value_has_a_mean_and_no_interval():
    mean, *unknown_std, n, low, high = estimate([31.4])
    assert (mean, n) == (31.4, 1)
    assert np.isnan([*unknown_std, low, high]).all()


def test_no_value_has_nothing():
    result = estimate([])
    assert result.n == 0 and np.isnan([result.mean, result.std, result.low, result.high]).all()


def test_nan_is_left_out_and_not_counted():
    assert estimate([1.0, np.nan, 2.0, 3.0]) == estimate([1.0, 2.0, 3.0])


def test_equal_values_give_an_interval_of_no_width():
    assert estimate([30.0, 30.0, 30.0]) == Estimate(30.0, 0.0, 3, 30.0, 30.0)


def test_interval_of_three_normal_values_covers_the_truth_95_times_in_100():
    draws = np.random.default_rng(7).normal(loc=3.0, scale=2.0, size=(4000, 3))
    covered = np.mean([low <= 3.0 <= high for low, high in map(t_interval, draws)])
    assert 0.94 < covered < 0.96  # 82 % with 1.96 instead of t; the std of this count is 0.3 %


def test_paired_difference_worked_out_by_hand():
    runs = frame(none={0: 20, 1: 22, 2: 21}, fg={0: 30, 1: 31, 2: 32})  # differences 10, 9, 11
    assert paired_difference(runs, "fg", "none", "AP") == pytest.approx(
        (10, 1, 3, 10 - HALF_OF_THREE, 10 + HALF_OF_THREE)
    )


@pytest.mark.parametrize("n", [2, 3, 10])
def test_paired_difference_is_that_of_the_paired_t_test(n):
    rng = np.random.default_rng(n)
    a, b = rng.normal(30, 1, n), rng.normal(22, 1, n)
    ours = paired_difference(frame(fg=dict(enumerate(a)), none=dict(enumerate(b))), "fg", "none", "AP")
    assert (ours.low, ours.high) == pytest.approx(tuple(ttest_rel(a, b).confidence_interval(0.95)), abs=1e-9)


def test_pairing_is_by_seed_and_not_by_place():
    runs = frame(none={0: 20, 1: 22, 2: 21}, fg={2: 32, 0: 30, 1: 31})
    assert seed_differences(runs, "fg", "none", "AP").to_list() == [10, 9, 11]


def test_a_seed_that_is_done_on_one_side_only_makes_no_pair():
    runs = frame(none={0: 20, 1: None, 2: 21, 3: 50}, fg={0: 30, 1: 90, 2: 32, 4: 90})
    assert seed_differences(runs, "fg", "none", "AP").to_dict() == {0: 10, 2: 11}
    assert paired_difference(runs, "fg", "none", "AP").n == 2


def test_no_shared_seed_gives_no_pair():
    result = paired_difference(frame(none={0: 20}, fg={1: 30}), "fg", "none", "AP")
    assert result.n == 0 and np.isnan(result.mean)


def test_a_number_of_a_run_that_is_not_done_does_not_count():
    runs = frame(none={0: 20, 1: 21})
    runs.loc[1, "state"] = "interrupted"
    assert values_by_seed(runs, "none", "AP").to_dict() == {0: 20}


def test_runs_of_different_scales_or_data_are_no_pair():
    runs = frame(none={0: 20, 1: 21}, fg={0: 30, 1: 31}).assign(scale="laptop", data="digits")
    runs.loc[(runs.row == "fg") & (runs.seed == 0), "scale"] = "gpu"
    assert seed_differences(runs, "fg", "none", "AP").to_list() == [10]
    runs.loc[(runs.row == "fg") & (runs.seed == 1), "data"] = "coco"
    assert seed_differences(runs, "fg", "none", "AP").empty


def test_two_done_runs_of_one_seed_are_refused():
    runs = frame(none={0: 20, 1: 21})
    with pytest.raises(UserError, match="several of row 'none', seed 1"):
        values_by_seed(pd.concat([runs, runs[1:]]), "none", "AP")


def test_a_failed_run_beside_the_done_one_does_no_harm():
    runs = pd.concat([frame(none={0: None}), frame(none={0: 20})])
    assert values_by_seed(runs, "none", "AP").to_dict() == {0: 20}


def test_an_unknown_metric_is_named():
    with pytest.raises(UserError, match="unknown metric 'APs'; did you mean 'AP'"):
        values_by_seed(frame(none={0: 20}), "none", "APs")


@pytest.mark.parametrize("column", ["row", "state", "seed"])
def test_a_column_that_is_no_score_is_an_unknown_metric(column):
    with pytest.raises(UserError, match=f"unknown metric '{column}'"):
        values_by_seed(frame(none={0: 20}), "none", column)


def test_a_caption_says_which_variance_its_interval_covers():
    sentences = {source: variance_covered(source).split(", but not ") for source in VARIANCE_SOURCES}
    assert (
        sentences["seeds"][0].startswith("The interval covers the seed variance")
        and "the teacher" in sentences["seeds"][1]
    )
    assert "choice of validation images" in sentences["images"][0] and "seeds" in sentences["images"][1]
    assert "seed" in sentences["both"][0] and "seed" not in sentences["both"][1]
    assert variance_covered("seeds", "± covers").startswith("± covers the seed variance")


def test_an_unknown_variance_source_is_named():
    with pytest.raises(UserError, match="unknown variance source 'seed'; did you mean 'seeds'"):
        variance_covered("seed")
