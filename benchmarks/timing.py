"""Timing of several steps that take turns in the same run, so that a slower machine slows all of them."""
import statistics
import time
from collections.abc import Callable

TURNS = 15
WARM = 2  # turns that do not count


def in_turns(
    steps: dict[str, Callable[[], object]], turns: int = TURNS, clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """{name: milliseconds of each turn}: every step runs once per turn. ``time.process_time`` counts CPU time."""
    times = {name: [] for name in steps}
    for _ in range(turns + WARM):
        for name, step in steps.items():
            started = clock()
            step()
            times[name].append(1000 * (clock() - started))
    return {name: values[WARM:] for name, values in times.items()}


def ratio(times: dict[str, list[float]], above: str, below: str) -> float:
    """The median over turns of one step's time over another's."""
    return statistics.median(a / b for a, b in zip(times[above], times[below], strict=True))


def against_baseline(what: str, ours: Callable[[], object], baseline: Callable[[], object], name: str) -> dict:
    """Median milliseconds of both, and the median of the ratios baseline / ours."""
    times = in_turns({"ours": ours, "baseline": baseline})
    ours_ms, baseline_ms = (round(statistics.median(values), 2) for values in times.values())
    return {
        "what": what, "ours_ms": ours_ms, "baseline": name, "baseline_ms": baseline_ms,
        "baseline_over_ours": round(ratio(times, "baseline", "ours"), 2),
    }
