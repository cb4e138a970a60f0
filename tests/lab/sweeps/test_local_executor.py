"""Slots of this machine: so many at a time, each with a card of its own where cards are asked for.

No test here needs a card.
"""
import threading
from pathlib import Path

import pytest

from fgdlab.lab.config.run_config import RunConfig
from fgdlab.lab.sweeps.local_executor import LocalExecutor, cpu_slots, gpu_slots
from fgdlab.lab.sweeps.planning import PlannedRun


def run_on(device: str, **settings) -> PlannedRun:
    return PlannedRun("fg", 0, RunConfig(device=device, **settings), Path("x"))


@pytest.fixture(autouse=True)
def all_cards_visible(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)


def test_each_run_has_the_card_of_its_slot_alone_and_passes_it_on():
    seen, lock, meet = [], threading.Lock(), threading.Barrier(2)

    def launch(folder: str, environment: dict) -> int:
        meet.wait(10)                                                # two at a time, so both cards are in use
        with lock:
            seen.append((environment["CUDA_VISIBLE_DEVICES"], environment["OMP_NUM_THREADS"]))
        return 0

    with LocalExecutor(gpu_slots([2, 5], [run_on("cuda")])) as pool:
        assert {
            each.result(10) for each in [pool.submit(launch, "x", {"OMP_NUM_THREADS": "1"}) for _ in range(6)]
        } == {0}
    assert sorted(seen) == [("2", "1")] * 3 + [("5", "1")] * 3


def test_a_slot_is_free_again_after_a_call_that_raised():
    def broken(folder, environment):
        raise OSError("no process")

    with LocalExecutor([{"CUDA_VISIBLE_DEVICES": "0"}]) as pool:
        assert isinstance(pool.submit(broken, "x", {}).exception(10), OSError)
        assert pool.submit(lambda folder, environment: environment, "x", {}).result(10) == {"CUDA_VISIBLE_DEVICES": "0"}


@pytest.mark.parametrize("count, indices, words", [
    (0, [0], "none, because torch finds no CUDA GPU here"), (1, [0, 1], "0 alone"), (2, [2], "0 to 1"),
    (2, [-1], "0 to 1"), (2, [], "0 to 1"),
])
def test_a_gpu_that_is_not_there_is_one_line(refusal, monkeypatch, count, indices, words):
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    text = refusal(gpu_slots, indices, [run_on("cuda")])
    assert text.startswith(f"--gpus must name GPUs of this machine ({words}), got") and "nvidia-smi" in text


def test_cards_for_runs_that_stay_on_the_cpu_are_refused(refusal):
    assert "got device=cpu in fg" in refusal(gpu_slots, [0], [run_on("cuda"), run_on("cpu")])


def test_cards_count_among_those_that_the_reader_left_visible(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, GPU-7")
    assert gpu_slots([1, 0, 1], [run_on("auto")]) == [
        {"CUDA_VISIBLE_DEVICES": name} for name in ("GPU-7", "4", "GPU-7")
    ]


def test_unless_somebody_says_otherwise_there_is_a_run_a_core_or_one_on_a_gpu(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    assert [cpu_slots([run_on("cpu", threads=n)]) for n in (1, 2, 4, 9)] == [6, 3, 1, 1]
    assert cpu_slots([run_on("cpu"), run_on("cuda")]) == 1


