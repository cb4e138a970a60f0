"""Trained weights on disk: safetensors, with the facts about them in the file's own header."""
import json
import os
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ..errors import UserError
from ..io import atomic_write, short_hash


def save_weights(module: nn.Module, path: Path, **facts) -> None:
    """Write a module's state dict and JSON facts (settings, seed, AP, command) into one file."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    with atomic_write(Path(path)) as unfinished:                            # by bytes: the library's own writer hides what a full disk says
        unfinished.write_bytes(save(state, metadata={"fgdlab": json.dumps(facts)}))


def load_weights(module: nn.Module, path: Path) -> dict:
    """Load a file of :func:`save_weights` into a module, strictly; the facts come back.

    Numbers of another precision (float16, bfloat16, float64) are taken.

    Raises:
        UserError: no such file, not a safetensors file, weights of another architecture, whole numbers for weights, or NaN and infinity.
    """
    facts = read_facts(path)
    state, own = load_file(path), module.state_dict()
    prefix = os.path.commonprefix(list(state))
    if prefix and {name.removeprefix(prefix) for name in state} == {*own}:
        raise UserError(f"{path} must name its tensors as this detector does, got names that begin with {prefix!r}; save them without that")
    wrong = sorted({*state} ^ {*own}) or [name for name in own if own[name].shape != state[name].shape]
    if wrong:
        raise UserError(f"{path} must hold the weights of this detector, got {len(wrong)} tensors that differ, the first {wrong[0]!r}; check backbone and classes")
    check_numbers(path, state, own)
    module.load_state_dict(state)
    return facts


def check_numbers(path: Path, state: dict[str, Tensor], own: dict[str, Tensor]) -> None:
    """Refuse weights that would load and then ruin a run without a word."""
    for name, each in state.items():
        if each.is_floating_point() != own[name].is_floating_point():
            raise UserError(f"{path} must hold {own[name].dtype} as {name!r}, got {each.dtype}; export the weights as floating point numbers")
        if not each.isfinite().all():
            raise UserError(f"{path} must hold finite weights, got NaN or infinity in {name!r}; take a checkpoint from before the training broke")


def read_facts(path: Path) -> dict:
    """The JSON facts of a weights file, {} where it has none.

    Only safetensors are read, which hold numbers and no code; the library checks every size in the header against the file.
    """
    if not Path(path).is_file():
        raise UserError(f"weights must be a file, got {str(path)!r}, which is none; check the path")
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {}).get("fgdlab", "{}"))
    except SafetensorError as error:
        raise UserError(f"{path} must be a .safetensors file, got something else ({error}); export it anew") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} must have a readable header, got {type(error).__name__}: {error}; export it anew") from error
    if not isinstance(facts, dict):
        raise UserError(f"{path} must have its facts as a JSON object in its header, got {type(facts).__name__}; export it anew")
    return facts


def check_archive(path: Path) -> None:
    """Refuse what torch.save did not write, before a byte of it is unpacked: torch stores its records, it does not compress them.

    Raises:
        UserError: an archive that unpacks to more than it is, a zip bomb. zipfile.BadZipFile: no archive.
    """
    with zipfile.ZipFile(path) as archive:
        unpacked, size = sum(each.file_size for each in archive.infolist()), os.path.getsize(path)
    if unpacked > size:
        raise UserError(f"{path} must be a checkpoint of its own size, got {size} bytes that unpack to {unpacked}; delete it, or take it from its author again")


def weights_hash(path: Path) -> str:
    """A short hash of a weights file."""
    return short_hash(Path(path).read_bytes())
