"""Runs on this machine: how many at a time, and which GPU each of them sees.

Every executor is a ``concurrent.futures.Executor`` with ``submit(launch, folder, environment)``. The state of a run is
in its folder, not in an executor.
"""
import os
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue

from ..errors import UserError
from .planning import PlannedRun


class LocalExecutor(ThreadPoolExecutor):
    """Threads that each wait for the process of one run.

    slots: one environment per run at a time; that of a GPU names the GPU that the run sees.
    """

    def __init__(self, slots: list[dict[str, str]]):
        super().__init__(len(slots), thread_name_prefix="slot")
        self.free: SimpleQueue[dict[str, str]] = SimpleQueue()
        for slot in slots:
            self.free.put(slot)

    def submit(self, call, /, folder: str, environment: dict[str, str]) -> Future:
        return super().submit(self.in_a_slot, call, folder, environment)

    def in_a_slot(self, call, folder: str, environment: dict[str, str]):
        slot = self.free.get()
        try:
            return call(folder, {**environment, **slot})
        finally:
            self.free.put(slot)


def cpu_slots(runs: list[PlannedRun]) -> int:
    if any(run.config.device == "cuda" for run in runs):
        return 1
    return max((os.cpu_count() or 1) // max(run.config.threads for run in runs), 1)


def gpu_slots(indices: list[int], runs: list[PlannedRun]) -> list[dict[str, str]]:
    """A slot for each index of ``--gpus``: its run sees that GPU alone. A repeated index takes two runs at a time."""
    import torch

    count = torch.cuda.device_count()  # those that CUDA_VISIBLE_DEVICES leaves visible
    missing = [index for index in indices if not 0 <= index < count]
    if missing or not indices:
        none = "none, because torch finds no CUDA GPU here"
        there = f"0 to {count - 1}" if count > 1 else "0 alone" if count else none
        got = f"got {','.join(map(str, missing or indices))}; list them with `nvidia-smi`"
        raise UserError(f"--gpus must name GPUs of this machine ({there}), {got}")
    on_cpu = sorted({run.row for run in runs if run.config.device == "cpu"})
    if on_cpu:
        raise UserError(
            f"--gpus must go with runs on a GPU, got device=cpu in {', '.join(on_cpu)}; add --set device=cuda, take "
            "--scale gpu, or give --jobs instead")
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return [{"CUDA_VISIBLE_DEVICES": visible[index] if visible else str(index)} for index in indices]
