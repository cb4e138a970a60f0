"""checkpoint.pt: all that a run needs to go on to the same weights. One file for all processes; any number of them may go on from it."""
import io
from pathlib import Path

import torch
from torch import nn

from ..checkpoints import check_archive
from ..errors import UserError
from ..io import atomic_write
from .distributed import ProcessGroup
from .precision import Precision


def save(folder: Path, step: int, distiller: nn.Module, optimizer: torch.optim.Optimizer, precision: Precision, team: ProcessGroup) -> None:
    """Write checkpoint.pt in one step: a kill leaves the last one or this one. Every process calls this, the leader writes."""
    random, *others = team.gathered(random_state(team))
    if not team.is_rank0:
        return
    state = {"step": step, "distiller": distiller.state_dict(), "optimizer": optimizer.state_dict(), "random": random}
    if others:
        state["others"] = others
    if precision.scaler.is_enabled():
        state["scaler"] = precision.scaler.state_dict()
    content = io.BytesIO()                                           # torch's own writer hides what a full disk says
    torch.save(state, content)
    with atomic_write(folder / "checkpoint.pt") as unfinished:
        unfinished.write_bytes(content.getbuffer())


def restore(folder: Path, distiller: nn.Module, optimizer: torch.optim.Optimizer, precision: Precision, team: ProcessGroup) -> int:
    """Load checkpoint.pt if there is one; the step it was written after, else 0."""
    step = restored(folder / "checkpoint.pt", distiller, optimizer, precision, team)
    steps = team.gathered(step)
    if len(set(steps)) > 1:
        raise UserError(f"{folder} must be one folder for all processes, got checkpoints of steps {', '.join(map(str, steps))}; use a disk that every machine sees")
    return step


def restored(path: Path, distiller: nn.Module, optimizer: torch.optim.Optimizer, precision: Precision, team: ProcessGroup) -> int:
    if not path.exists():
        return own_stream(team, 0)
    try:
        check_archive(path)
        state = torch.load(path, weights_only=True, map_location="cpu")
        distiller.load_state_dict(state["distiller"])
        optimizer.load_state_dict(state["optimizer"])
        if precision.scaler.is_enabled():
            precision.scaler.load_state_dict(state["scaler"])
        step, of_ranks = state["step"], [state["random"], *state.get("others", [])]
        torch.set_rng_state(of_ranks[0]["cpu"])
    except UserError:
        raise
    except Exception as error:                                       # what torch raises for broken bytes is not one type
        got = {"BadZipFile": "a file cut off, or of another kind", "UnpicklingError": "more than numbers, which may be code"}.get(type(error).__name__, type(error).__name__)
        raise UserError(f"{path} must be a checkpoint of this run, got {got}; delete it to start the run anew") from error
    if len(of_ranks) != team.world:                                  # written by another number of processes: the leader's stream goes on
        own_stream(team, step)
        return step
    own = of_ranks[team.rank]
    torch.set_rng_state(own["cpu"])
    if "cuda" in own and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(own["cuda"]) if team.world == 1 else torch.cuda.set_rng_state(own["cuda"])
    return step


def random_state(team: ProcessGroup) -> dict:
    """Where torch's random streams stand: the CPU's, and those of the cards, of this process's own where there are several."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all() if team.world == 1 else torch.cuda.get_rng_state()
    return state


def own_stream(team: ProcessGroup, step: int) -> int:
    """Give every process but the leader random numbers of its own; the step again. What is drawn by torch, such as the regions that a two-stage
    detector samples, shall not be the same on every share."""
    if not team.is_rank0:
        torch.manual_seed(torch.initial_seed() + 1_000_003 * team.rank + step)
    return step
