"""Contestants take turns in the same run, so that a machine that slows down slows all; ratios are taken turn by turn, medians are told."""
import statistics
import time
from collections.abc import Callable

TURNS = 15
WARM = 2                                                             # turns that do not count


def in_turns(
    named_detectors: dict[str, Callable[[], object]], turns: int = TURNS, clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """{name: milliseconds of each turn}: every contestant runs once a turn, in the order given. ``time.process_time`` counts CPU time instead."""
    times = {name: [] for name in named_detectors}
    for _ in range(turns + WARM):
        for name, step in named_detectors.items():
            started = clock()
            step()
            times[name].append(1000 * (clock() - started))
    return {name: each[WARM:] for name, each in times.items()}


def ratio(times: dict[str, list[float]], above: str, below: str) -> float:
    """The median over turns of one contestant's time over another's."""
    return statistics.median(a / b for a, b in zip(times[above], times[below], strict=True))


def duel(name: str, ours: Callable[[], object], method_class: Callable[[], object], rival_name: str) -> dict:
    """Median milliseconds of both, and the median of the ratios rival / ours."""
    times = in_turns({"ours": ours, "rival": method_class})
    ours_ms, rival_ms = (statistics.median(times[who]) for who in ("ours", "rival"))
    return {"what": name, "ours_ms": round(ours_ms, 2), "rival": rival_name, "rival_ms": round(rival_ms, 2), "rival_over_ours": round(ratio(times, "rival", "ours"), 2)}
