"""Intervals over the choice of images: the bootstrap is paired, its ends are BCa's, and seeds and images add up."""

import numpy as np
import pytest
from scipy import stats

from fgdlab.lab.stats.image_bootstrap import (
    bca,
    bootstrap_weights,
    image_interval,
    score_difference,
    seeds_and_images_interval,
)
from fgdlab.lab.stats.intervals import t_interval
from fgdlab.lab.stats.resampling import match
from tests.helpers.coco_cases import drawn


def blurred(found: list[dict], size: float, seed: int = 0) -> list[dict]:
    """The same detections, less well placed."""
    rng = np.random.default_rng(seed)
    return [
        {**each, "bbox": [*(np.array(each["bbox"][:2]) + rng.normal(0, size, 2)).tolist(), *each["bbox"][2:]]}
        for each in found
    ]


@pytest.fixture(scope="module")
def sides():
    """A detector and a worse one on 60 images: (truth, found_a, found_b, image_ids)."""
    truth, found, image_ids = drawn(11, images=60)
    return truth, found, blurred(found, 6), image_ids


@pytest.fixture(scope="module")
def pair(sides):
    truth, detections_a, detections_b, image_ids = sides
    return match(truth, detections_a, image_ids), match(truth, detections_b, image_ids)


def test_bca_is_scipys_on_the_same_resamples():
    values = np.random.default_rng(4).exponential(size=40)  # skewed, so that bias and acceleration both matter
    theirs = stats.bootstrap((values,), np.mean, n_resamples=999, method="BCa", rng=np.random.default_rng(0))
    without = np.array([np.delete(values, i).mean() for i in range(len(values))])
    ours = bca(values.mean(), theirs.bootstrap_distribution, without)
    assert ours == pytest.approx(tuple(theirs.confidence_interval), rel=1e-9)
    assert ours != pytest.approx(tuple(np.quantile(theirs.bootstrap_distribution, [0.025, 0.975])), rel=1e-3)


def test_the_difference_is_that_of_the_scores_and_lies_within_its_interval(pair):
    interval, draws = image_interval([pair], 300)
    whole = np.ones((1, 60), dtype=int)
    assert interval.mean == pytest.approx(float(pair[0].scores(whole)[0] - pair[1].scores(whole)[0]), rel=1e-12)
    assert (
        interval.low < interval.mean < interval.high
        and len(draws) == 300
        and interval.std == pytest.approx(draws.std(ddof=1))
    )


def test_turned_round_the_interval_is_turned_round(pair):
    there, back = (image_interval([sides], 300)[0] for sides in (pair, pair[::-1]))
    assert back.mean == -there.mean and (back.low, back.high) == pytest.approx((-there.high, -there.low), abs=1e-6)


def test_both_sides_see_the_same_images(pair):
    """Two nearly equal detectors differ less on the same resampled images than on different ones."""
    weights, others = bootstrap_weights(60, 300, seed=0), bootstrap_weights(60, 300, seed=1)
    together, apart = score_difference([pair], weights), pair[0].scores(weights) - pair[1].scores(others)
    assert together.std() < 0.7 * apart.std()


def test_a_detector_against_itself_differs_by_nothing(pair):
    interval, draws = image_interval([(pair[0], pair[0])], 50)
    assert interval == (0, 0, 60, 0, 0) and not draws.any()


def test_the_same_seed_draws_the_same_images_and_another_seed_others(pair):
    assert image_interval([pair], 100)[0] == image_interval([pair], 100)[0] != image_interval([pair], 100, seed=1)[0]


def test_several_pairs_see_the_same_images_and_are_averaged(sides, pair):
    truth, detections_a, detections_b, image_ids = sides
    second = tuple(match(truth, blurred(found, 2, seed=9), image_ids) for found in (detections_a, detections_b))
    weights = bootstrap_weights(60, 20)
    apart = score_difference([pair], weights) + score_difference([second], weights)
    assert score_difference([pair, second], weights) == pytest.approx(apart / 2)
    alone, together = (image_interval(pairs, 200)[0] for pairs in ([pair, pair], [pair]))
    assert alone == pytest.approx(together)  # images are shared, not averaged


@pytest.mark.slow
def test_the_interval_covers_the_difference_over_all_images_95_times_in_100(pair):
    """The 60 images as the world, 150 samples of 60 from it, each with its own interval."""

    class Sample:
        def __init__(self, matches, sample):
            self.matches, self.sample, self.images, self.metric = matches, sample, len(sample), matches.metric

        def scores(self, weights):
            counts = np.zeros((len(weights), self.matches.images), dtype=int)
            np.add.at(counts.T, self.sample, weights.T)
            return self.matches.scores(counts)

    rng, truth = np.random.default_rng(6), float(score_difference([pair], np.ones((1, 60), dtype=int))[0])
    covered = 0
    for _ in range(150):
        sample = rng.integers(60, size=60)
        interval, _ = image_interval([tuple(Sample(each, sample) for each in pair)], 300)
        covered += interval.low <= truth <= interval.high
    assert 0.88 <= covered / 150 <= 0.99


# --- seeds and images together ----------------------------------------------------------------------------------------


def test_without_image_variance_the_interval_over_both_is_the_t_interval():
    assert seeds_and_images_interval([1.0, 2.0, 4.0], 0.0, 400)[3:] == pytest.approx(t_interval([1.0, 2.0, 4.0]))


def test_without_seed_variance_the_interval_over_both_is_that_of_the_images():
    interval = seeds_and_images_interval([2.0, 2.0], 0.5, 400)
    assert interval.std == 0.5 and interval.high - interval.mean == pytest.approx(0.5 * stats.t.ppf(0.975, 399))


def test_one_seed_has_no_interval_for_both():
    interval = seeds_and_images_interval([3.0], 0.5, 400)
    assert interval.mean == 3.0 and np.isnan([interval.std, interval.low, interval.high]).all()


def test_without_any_variance_the_interval_has_no_width():
    assert seeds_and_images_interval([1.0, 1.0], 0.0, 400) == (1.0, 0.0, 2, 1.0, 1.0)


@pytest.mark.parametrize("image_std", [0.2, 1.0, 3.0])
def test_the_interval_over_both_covers_the_true_difference_95_times_in_100(image_std):
    rng = np.random.default_rng(8)
    seeds, shared = (
        rng.normal(size=(2000, 3)),
        image_std * rng.normal(size=(2000, 1)),
    )  # what all seeds share is the images' doing
    intervals = [seeds_and_images_interval(each, image_std, 400) for each in seeds + shared]
    assert np.mean([low <= 0 <= high for *_, low, high in intervals]) == pytest.approx(0.95, abs=0.025)
