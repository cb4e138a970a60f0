"""The processes of one run, as torchrun starts them: who leads, who does which share of a batch, what is added up over all.

    torchrun --nproc-per-node 2 -m fgdlab run ...  --joined--> Processes(rank, world)     one process alone --> Team

A batch of ``batch_size`` images stays what it is, however many processes share it; so one configuration means one training.
"""
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import UserError
from . import torchrun as launched

PATIENCE = timedelta(days=7)                                         # how long the others wait while the leader trains a teacher


class ProcessGroup:
    """One process alone: it leads, its share is everything, and every sum is its own."""

    rank, world = 0, 1

    @property
    def is_rank0(self) -> bool:
        """Whether this process writes, prints and decides."""
        return self.rank == 0

    def share(self, items: list) -> list:
        """This process's part of a list: neighbours, as many as any other has, or one more."""
        return items[len(items) * self.rank // self.world:len(items) * (self.rank + 1) // self.world]

    def wrapped(self, module: nn.Module) -> nn.Module:
        """The module whose backward averages gradients over the processes."""
        return module

    def unsynchronised(self, wrapped: nn.Module) -> AbstractContextManager:
        """Within, a backward adds to this process's own gradients and tells nobody."""
        return nullcontext()

    def summed(self, values: Tensor) -> Tensor:
        """Element by element the sum over the processes, on the device where ``values`` are. No gradient."""
        return values

    def means(self, numbers: list[float], weight: float) -> list[float]:
        """Number by number the mean over the processes, each counted with its weight > 0, such as its images."""
        return numbers

    def gathered(self, value) -> list:
        """Everyone's value, in order of rank; every process gets the list."""
        return [value]

    def broadcast(self, value):
        """The leader's value, whatever the others give. Nobody goes on before the leader has come here."""
        return value

    def mark(self) -> dict:
        """What provenance says of the processes; {} of one alone."""
        return {"processes": self.world} if self.world > 1 else {}

    def say(self, config) -> str:
        """The learning rate beside the batch that it is for: whoever changes one of them thinks of the other."""
        split = [f"{self.world} processes"] * (self.world > 1) + [f"{config.accumulate} parts"] * (config.accumulate > 1)
        made_of = f" ({' x '.join(split)})" if split else ""
        return f"{config.batch_size} images a step{made_of}, peak lr {config.lr:g}: {config.lr / config.batch_size:.3g} an image"


class Processes(ProcessGroup):
    """Several processes, each with a share of every batch. Gradients go over the default group, everything else over gloo, which can wait for days."""

    def __init__(self, rank: int, world: int):
        self.rank, self.world = rank, world
        self.patient = dist.new_group(backend="gloo", timeout=PATIENCE)

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
        dist.all_reduce(values, group=self.patient)
        return (values[:-1] / values[-1]).tolist()

    def gathered(self, value) -> list:
        found = [None] * self.world
        dist.all_gather_object(found, value, group=self.patient)
        return found

    def broadcast(self, value):
        box = [value if self.is_rank0 else None]
        dist.broadcast_object_list(box, src=0, group=self.patient)
        return box[0]


@contextmanager
def joined(device: str) -> Iterator[ProcessGroup]:
    """Meet the other processes of torchrun, gloo on the CPU and nccl on CUDA; a process alone meets nobody.

    Raises:
        UserError: more processes on this machine than cards, or they do not find each other.
    """
    world = launched.world()
    if world == 1:
        yield ProcessGroup()
        return
    settings = {"backend": "gloo"}
    if device == "cuda":
        local, cards = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= cards:
            raise UserError(f"--nproc-per-node must be at most the {cards} cards of this machine, got {os.environ['LOCAL_WORLD_SIZE']}; lower it")
        torch.cuda.set_device(local)                                 # "cuda" means this one from here on
        settings = {"backend": "nccl", "device_id": torch.device("cuda", local)}
    try:
        dist.init_process_group(**settings, **meeting_place())
        team = Processes(dist.get_rank(), world)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the {world} processes of torchrun must find each other, got: {error}; check --rdzv-endpoint and the network") from error
    try:
        yield team
    except RuntimeError as error:
        if "gloo" not in str(error) and not isinstance(error, dist.DistError):
            raise
        raise UserError(f"all {world} processes must stay alive, but one has ended, see what it said; the same command goes on from the last checkpoint") from error
    dist.destroy_process_group()                                     # after an error the others may never come here


def meeting_place() -> dict:
    """Where the processes of one machine leave their addresses: a place for each start of the team, since ``--max-restarts`` keeps the store of the
    team that died, its addresses included."""
    if os.environ["LOCAL_WORLD_SIZE"] != os.environ["WORLD_SIZE"]:
        return {}                                                    # machines count their restarts each for itself
    store, rank, world = next(dist.rendezvous("env://"))
    return {"store": dist.PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store), "rank": rank, "world_size": world}


def check_batch_split(team: ProcessGroup, batch_size: int, parts: int) -> None:
    """Refuse a batch that leaves a process, or one of its parts, without an image."""
    if batch_size < team.world * parts:
        raise UserError(f"batch_size must be at least {team.world} processes x accumulate {parts}, got {batch_size}; it counts the images of all of them together")


def check_ranks_agree(team: ProcessGroup, step: int, module: nn.Module) -> None:
    """Every process must hold the same weights, to the last bit.

    Raises:
        FloatingPointError: they have drifted apart, and what rank 0 would keep is not what was trained.
    """
    if team.world == 1:
        return
    sums = torch.stack([each.detach().double().sum() for each in module.parameters()])
    marks = team.gathered((sums * torch.arange(1, len(sums) + 1, device=sums.device)).sum().item())
    if len(set(marks)) > 1:
        raise FloatingPointError(f"all {team.world} processes must hold the same weights after step {step}, got {len(set(marks))} versions; go on from the last checkpoint")


def check_reached(team: ProcessGroup, module: nn.Module) -> None:
    """Every trained parameter must have a gradient: where one has none, the others of its bucket are not averaged.

    Raises:
        UserError: with the names of those that the loss does not reach.
    """
    missed = [name for name, each in module.named_parameters() if each.requires_grad and each.grad is None]
    if team.world > 1 and missed:
        raise UserError(f"every trained parameter must be reached by the loss on several processes, got no gradient for {', '.join(missed[:5])}; leave such layers out")
