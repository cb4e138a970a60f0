"""Trained weights on disk: safetensors, with the facts about them in the file's own header."""
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from .disk import digest, whole
from .errors import UserError


def save_weights(module: nn.Module, path: Path, **facts) -> None:
    """Write a module's state dict and JSON facts (settings, seed, AP, command) into one file."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    with whole(Path(path)) as unfinished:
        save_file(state, unfinished, metadata={"fgdlab": json.dumps(facts)})


def load_weights(module: nn.Module, path: Path) -> dict:
    """Load a file of :func:`save_weights` into a module, strictly; the facts come back.

    Raises:
        UserError: no such file, not a safetensors file, or weights of another architecture.
    """
    facts = read_facts(path)
    state, own = load_file(path), module.state_dict()
    wrong = sorted({*state} ^ {*own}) or [name for name in own if own[name].shape != state[name].shape]
    if wrong:
        raise UserError(f"{path} must hold the weights of this detector, got {len(wrong)} tensors that differ, the first {wrong[0]!r}; check backbone and classes")
    module.load_state_dict(state)
    return facts


def read_facts(path: Path) -> dict:
    """The JSON facts of a weights file, {} where it has none."""
    if not Path(path).is_file():
        raise UserError(f"weights must be a file, got {str(path)!r}, which is none; check the path")
    try:
        with safe_open(path, "pt") as file:
            return json.loads((file.metadata() or {}).get("fgdlab", "{}"))
    except SafetensorError as error:
        raise UserError(f"{path} must be a .safetensors file, got something else ({error}); export it anew") from error


def weights_key(path: Path) -> str:
    """A short hash of a weights file."""
    return digest(Path(path).read_bytes())
