"""The check of leaks passes on a few real runs, and finds numbers that grow."""
import pytest

from tests.robustness.leaks import GROWTH_MB, check, faults, grown


@pytest.mark.slow
def test_a_few_runs_leave_nothing_behind():
    said = []
    assert check(3, said.append), "\n".join(said)
    assert (
        sum("3 runs" in line for line in said) == 2
        and sum("processes left over: 0   well" in line for line in said) == 2
    )


def samples(runs: int = 50, **growing) -> list[dict]:
    """Constant numbers, or numbers that grow by a step per run."""
    level = {"memory_mb": 500.0, "handles": 10, "threads": 4, "children": 0}
    return [{name: value + growing.get(name, 0) * number for name, value in level.items()} for number in range(runs)]


def test_constant_numbers_pass():
    assert faults(grown(samples())) == [] and set(grown(samples()).values()) == {0}


@pytest.mark.parametrize(
    "name, step", [("memory_mb", GROWTH_MB / 30), ("handles", 1), ("threads", 0.1), ("children", 0.2)],
)
def test_a_growing_number_is_found(name, step):
    assert faults(grown(samples(**{name: step}))) == [name]


def test_a_first_run_that_fills_a_cache_passes():
    level = samples()
    level[0] |= {"memory_mb": 100.0, "handles": 3}
    assert faults(grown(level)) == []
