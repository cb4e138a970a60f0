"""Slots on this machine: how many runs go side by side, and which graphics card each of them sees.

Every place where runs may go is a ``concurrent.futures.Executor`` that takes ``submit(launch, folder, environment)``: the slots here, the workers of
cluster.py, the jobs of slurm.py, or one that a caller brings. None of them knows what a run is; its state is in its folder.
"""
import os
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue

from ..errors import UserError
from .forkserver import Nursery
from .planning import PlannedRun
from .worker import launch


class LocalExecutor(ThreadPoolExecutor):
    """Threads that each wait for the process of one run. A slot is what a run finds in its environment: a card of its own, or nothing special.

    warm: fork the runs of a slot from a process that has imported what they import (see nursery.py), where a run has one thread.
    """

    def __init__(self, slots: list[dict[str, str]], warm: bool = True):
        super().__init__(len(slots), thread_name_prefix="slot")
        self.warm = warm and hasattr(os, "fork")
        self.free: SimpleQueue[Slot] = SimpleQueue()
        self.slots = [Slot(each) for each in slots]
        for slot in self.slots:
            self.free.put(slot)

    def warm_up(self, environment: dict[str, str], runs: int) -> None:
        """Let the slots that so many runs will take start to import what those need, while the caller makes other things ready."""
        for slot in self.slots[:runs]:
            if self.warms({**environment, **slot.environment}):
                slot.nursery({**environment, **slot.environment})

    def warms(self, environment: dict[str, str]) -> bool:
        """Can runs in this environment be forked?"""
        return self.warm and environment.get("OMP_NUM_THREADS") == "1"

    def submit(self, call, /, folder: str, environment: dict[str, str]) -> Future:
        return super().submit(self.in_a_slot, call, folder, environment)

    def in_a_slot(self, call, folder: str, environment: dict[str, str]):
        slot = self.free.get()
        try:
            there = {**environment, **slot.environment}
            return slot.nursery(there).launch(folder) if call is launch and self.warms(there) else call(folder, there)
        finally:
            self.free.put(slot)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait, cancel_futures=cancel_futures)
        for slot in self.slots:
            slot.close()


class Slot:
    """What a run finds in its environment, and the nursery of the slot's last run."""

    def __init__(self, environment: dict[str, str]):
        self.environment, self.last = environment, None

    def nursery(self, environment: dict[str, str]) -> Nursery:
        """One with this environment: the last one, or a new one if that has ended or another environment is asked for."""
        if self.last is None or not self.last.lives or self.last.environment != environment:
            self.close()
            self.last = Nursery(environment)
        return self.last

    def close(self) -> None:
        if self.last is not None:
            self.last.close()
            self.last = None


def cpu_slots(runs: list[PlannedRun]) -> int:
    """Runs side by side where nobody says: one a core on the CPU, one on a GPU."""
    if any(run.config.device == "cuda" for run in runs):
        return 1
    return max((os.cpu_count() or 1) // max(run.config.threads for run in runs), 1)


def gpu_slots(indices: list[int], runs: list[PlannedRun], count: int | None = None) -> list[dict[str, str]]:
    """A slot for each index of ``--gpus``: the run in it sees that card and no other. An index that comes twice takes two runs at a time.

    Args:
        count: cards of this machine; None = ask torch. Indices count those that CUDA_VISIBLE_DEVICES leaves visible, if it is set.
    Raises:
        UserError: no such card, or runs that would not use it.
    """
    if count is None:
        import torch

        count = torch.cuda.device_count()
    missing = [index for index in indices if not 0 <= index < count]
    if missing or not indices:
        there = f"0 to {count - 1}" if count > 1 else "0 alone" if count else "none, for torch finds no CUDA card here"
        raise UserError(f"--gpus must name cards of this machine ({there}), got {','.join(map(str, missing or indices))}; list them with `nvidia-smi`")
    on_cpu = sorted({run.row for run in runs if run.config.device == "cpu"})
    if on_cpu:
        raise UserError(f"--gpus must go with runs on a GPU, got device=cpu in {', '.join(on_cpu)}; add --set device=cuda, take --scale gpu, or give --jobs instead")
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return [{"CUDA_VISIBLE_DEVICES": visible[index] if visible else str(index)} for index in indices]
