"""checkpoint.pt: all that a run needs to resume to the same weights."""
import io
from pathlib import Path

import torch

from ..checkpoints import check_archive
from ..errors import UserError
from ..io import atomic_write
from .distributed import ProcessGroup


def save(folder: Path, step: int, parts: dict, group: ProcessGroup) -> None:
    """Write checkpoint.pt atomically. Every process calls this; rank 0 writes. parts: {name: what has a state_dict}."""
    random, *others = group.gathered(random_state(group))
    if not group.is_rank0:
        return
    state = {"step": step, "random": random} | {name: part.state_dict() for name, part in parts.items()}
    if others:
        state["others"] = others
    content = io.BytesIO()  # torch's own writer hides the error of a full disk
    torch.save(state, content)
    with atomic_write(folder / "checkpoint.pt") as unfinished:
        unfinished.write_bytes(content.getbuffer())


def restore(folder: Path, parts: dict, group: ProcessGroup) -> int:
    """The step of checkpoint.pt, which is loaded; 0 if there is none."""
    path, step, random_states = folder / "checkpoint.pt", 0, []
    if path.exists():
        try:
            check_archive(path)
            state = torch.load(path, weights_only=True, map_location="cpu")
            for name, part in parts.items():
                part.load_state_dict(state.get(name, {}))
            step, random_states = state["step"], [state["random"], *state.get("others", [])]
            torch.set_rng_state(random_states[0]["cpu"])
        except UserError:
            raise
        except Exception as error:  # torch raises many types for broken bytes
            kind = type(error).__name__
            reasons = {
                "BadZipFile": "a file cut off, or of another kind",
                "UnpicklingError": "more than numbers, which may be code",
            }
            problem = f"{path} must be a checkpoint of this run, got {reasons.get(kind, kind)}"
            raise UserError(f"{problem}; delete it to start the run anew") from error
    if len(random_states) == group.world_size:
        own = random_states[group.rank]
        torch.set_rng_state(own["cpu"])
        if "cuda" in own and torch.cuda.is_available():
            (torch.cuda.set_rng_state_all if group.world_size == 1 else torch.cuda.set_rng_state)(own["cuda"])
    elif not group.is_rank0:  # no checkpoint, or one of another number of processes: each draws numbers of its own
        torch.manual_seed(torch.initial_seed() + 1_000_003 * group.rank + step)
    steps = group.gathered(step)
    if len(set(steps)) > 1:
        got = f"checkpoints of steps {', '.join(map(str, steps))}"
        raise UserError(f"{folder} must be one folder for all processes, got {got}; use a disk that every machine sees")
    return step


def random_state(group: ProcessGroup) -> dict:
    """torch's random states: of the CPU and of all GPUs, or of this process's GPU among several processes."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = (torch.cuda.get_rng_state_all if group.world_size == 1 else torch.cuda.get_rng_state)()
    return state
