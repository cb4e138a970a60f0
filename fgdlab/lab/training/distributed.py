"""The process group of one run: which process has which share of a batch, and what is summed over all of them.

``batch_size`` counts the images of all processes, so one configuration means one training.
"""
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import UserError, listed
from . import torchrun

TIMEOUT = timedelta(days=7)  # while rank 0 trains a teacher


class ProcessGroup:
    """A single process: rank 0 of 1."""

    rank, world_size = 0, 1

    @property
    def is_rank0(self) -> bool:
        return self.rank == 0

    def share(self, items: list) -> list:
        """This process's contiguous part; the parts differ in length by at most one."""
        return items[len(items) * self.rank // self.world_size:len(items) * (self.rank + 1) // self.world_size]

    def wrapped(self, module: nn.Module) -> nn.Module:
        """The module whose backward averages gradients over the processes."""
        return module

    def unsynchronised(self, wrapped: nn.Module) -> AbstractContextManager:
        """Within, backward adds to this process's gradients alone."""
        return nullcontext()

    def summed(self, values: Tensor) -> Tensor:
        """The sum over the processes, on the device of ``values``, without gradient."""
        return values

    def means(self, numbers: list[float], weight: float) -> list[float]:
        """The mean of each number over the processes. weight > 0: of this process, such as its images."""
        return numbers

    def gathered(self, value) -> list:
        return [value]

    def broadcast(self, value):
        """Rank 0's value. The other ranks wait for it."""
        return value

    def provenance(self) -> dict:
        return {"processes": self.world_size} if self.world_size > 1 else {}

    def batch_line(self, config) -> str:
        counts = {"processes": self.world_size, "parts": config.accumulate}
        product = " x ".join(f"{count} {name}" for name, count in counts.items() if count > 1)
        images = f"{config.batch_size} images per step" + (f" ({product})" if product else "")
        return f"{images}, peak lr {config.lr:g}: {config.lr / config.batch_size:.3g} per image"


class TorchrunGroup(ProcessGroup):
    """Gradients go over the default group; the rest goes over gloo, which can wait for days."""

    def __init__(self, rank: int, world_size: int):
        self.rank, self.world_size = rank, world_size
        self.gloo = dist.new_group(backend="gloo", timeout=TIMEOUT)

    def wrapped(self, module: nn.Module) -> nn.Module:
        return DistributedDataParallel(module)

    def unsynchronised(self, wrapped: nn.Module) -> AbstractContextManager:
        return wrapped.no_sync()

    def summed(self, values: Tensor) -> Tensor:
        values = values.detach().clone()
        dist.all_reduce(values)
        return values

    def means(self, numbers: list[float], weight: float) -> list[float]:
        values = torch.tensor([*numbers, 1.0], dtype=torch.float64) * weight
        dist.all_reduce(values, group=self.gloo)
        return (values[:-1] / values[-1]).tolist()

    def gathered(self, value) -> list:
        values = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.gloo)
        return values

    def broadcast(self, value):
        box = [value if self.is_rank0 else None]
        dist.broadcast_object_list(box, src=0, group=self.gloo)
        return box[0]


@contextmanager
def joined(device: str) -> Iterator[ProcessGroup]:
    """The process group that torchrun started (gloo on the CPU, nccl on CUDA), or a single process."""
    world_size = torchrun.world_size()
    if world_size == 1:
        yield ProcessGroup()
        return
    settings = {"backend": "gloo"}
    if device == "cuda":
        local_rank, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local_rank >= gpus:
            got = os.environ["LOCAL_WORLD_SIZE"]
            raise UserError(f"--nproc-per-node must be at most the {gpus} GPUs of this machine, got {got}; lower it")
        torch.cuda.set_device(local_rank)  # "cuda" means this GPU from here on
        settings = {"backend": "nccl", "device_id": torch.device("cuda", local_rank)}
    try:
        dist.init_process_group(**settings, **restart_store())
        group = TorchrunGroup(dist.get_rank(), world_size)
    except (RuntimeError, ValueError) as error:
        problem = f"the {world_size} processes of torchrun must find each other, got: {error}"
        raise UserError(f"{problem}; check --rdzv-endpoint and the network") from error
    try:
        yield group
    except RuntimeError as error:
        if "gloo" not in str(error) and not isinstance(error, dist.DistError):
            raise
        problem = f"all {world_size} processes must stay alive, but one has ended, see its error"
        raise UserError(f"{problem}; the same command resumes from the last checkpoint") from error
    dist.destroy_process_group()  # not after an error, when others may hang


def restart_store() -> dict:
    """For ``init_process_group``: ``--max-restarts`` keeps the store of the dead group, with its addresses."""
    if os.environ["LOCAL_WORLD_SIZE"] != os.environ["WORLD_SIZE"]:
        return {}  # several machines count their restarts separately
    store, rank, world_size = next(dist.rendezvous("env://"))
    prefix = f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"
    return {"store": dist.PrefixStore(prefix, store), "rank": rank, "world_size": world_size}


def check_batch_split(group: ProcessGroup, batch_size: int, parts: int) -> None:
    if batch_size < group.world_size * parts:
        least = f"{group.world_size} processes x accumulate {parts}"
        raise UserError(f"batch_size must be at least {least}, got {batch_size}; it counts the images of all processes")


def sync_batchnorm(module: nn.Module, group: ProcessGroup, device: str) -> None:
    """Replace batch norms that learn by torch's SyncBatchNorm, which sees the batch of all processes.

    The paper's detectors have frozen batch norms; compact ones and backbones from scratch learn theirs. UserError for
    several processes on the CPU, where torch has none.
    """
    if group.world_size == 1:
        return
    for name, norm in list(module.named_modules()):
        if type(norm) is not nn.BatchNorm2d:  # subclasses in this project keep their statistics
            continue
        if device != "cuda":
            raise UserError(
                f"batch norms that learn must train on CUDA or in one process, got {name!r} in {group.world_size} "
                "processes on the CPU; leave torchrun out, or choose a detector with frozen norms (flavour=mmdet)")
        module.set_submodule(name, nn.SyncBatchNorm.convert_sync_batchnorm(norm))


def check_ranks_agree(group: ProcessGroup, step: int, module: nn.Module) -> None:
    """FloatingPointError unless every process holds the same weights, to the last bit."""
    if group.world_size == 1:
        return
    sums = torch.stack([parameter.detach().double().sum() for parameter in module.parameters()])
    checksums = group.gathered((sums * torch.arange(1, len(sums) + 1, device=sums.device)).sum().item())
    if len(set(checksums)) > 1:
        problem = f"all {group.world_size} processes must hold the same weights after step {step}"
        raise FloatingPointError(f"{problem}, got {len(set(checksums))} versions; resume from the last checkpoint")


def check_reached(group: ProcessGroup, module: nn.Module) -> None:
    """Refuse a trained parameter without a gradient: the others of its bucket are not averaged then."""
    missed = [name for name, each in module.named_parameters() if each.requires_grad and each.grad is None]
    if group.world_size > 1 and missed:
        problem = "the loss must reach every trained parameter in several processes"
        raise UserError(f"{problem}, got no gradient for {listed(missed)}; leave such layers out")
