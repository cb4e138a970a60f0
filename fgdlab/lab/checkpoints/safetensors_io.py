"""Trained weights as safetensors files, with facts about them in the file's header."""
import json
import os
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ..errors import UserError
from ..io import atomic_write, file_hashes


def save_weights(module: nn.Module, path: Path, **facts) -> None:
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    with atomic_write(Path(path)) as unfinished:  # the library's writer hides a full disk
        unfinished.write_bytes(save(state, metadata={"fgdlab": json.dumps(facts)}))


def load_weights(module: nn.Module, path: Path) -> dict:
    """Load a file of :func:`save_weights`, strictly, and return its facts.

    UserError: no such file, another format, another architecture, or what :func:`check_numbers` refuses.
    """
    facts = read_facts(path)
    state, own = load_file(path), module.state_dict()
    wrong = sorted({*state} ^ {*own}) or [name for name in own if own[name].shape != state[name].shape]
    if wrong:
        got = f"{len(wrong)} tensors that differ, the first {wrong[0]!r}"
        raise UserError(f"{path} must hold the weights of this detector, got {got}; check backbone and classes")
    check_numbers(path, state, own)
    module.load_state_dict(state)
    return facts


def check_numbers(path: Path, state: dict[str, Tensor], own: dict[str, Tensor]) -> None:
    """Refuse weights that would spoil a run silently: integers, NaN, infinity."""
    for name, tensor in state.items():
        if tensor.is_floating_point() != own[name].is_floating_point():
            problem = f"{path} must hold {own[name].dtype} as {name!r}, got {tensor.dtype}"
            raise UserError(f"{problem}; export the weights as floating point numbers")
        if not tensor.isfinite().all():
            problem = f"{path} must hold finite weights, got NaN or infinity in {name!r}"
            raise UserError(f"{problem}; take a checkpoint from before the training broke")


def read_facts(path: Path) -> dict:
    """The JSON facts of a weights file, {} where it has none. The library checks every size against the file."""
    if not Path(path).is_file():
        raise UserError(f"weights must be a file, got {str(path)!r}, which is none; check the path")
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {}).get("fgdlab", "{}"))
    except SafetensorError as error:
        raise not_safetensors(path, error) from error
    except (OSError, ValueError, RecursionError) as error:
        got = f"{type(error).__name__}: {error}"
        raise UserError(f"{path} must have a readable header, got {got}; export it anew") from error
    if not isinstance(facts, dict):
        got = type(facts).__name__
        raise UserError(f"{path} must have its facts as a JSON object in its header, got {got}; export it anew")
    return facts


def not_safetensors(path: Path, error: SafetensorError) -> UserError:
    return UserError(f"{path} must be a .safetensors file, got something else ({error}); export it anew")


def check_archive(path: Path) -> None:
    """Refuse a zip bomb before it is unpacked: torch.save does not compress, so no archive unpacks to more than its
    size. zipfile.BadZipFile: no archive."""
    with zipfile.ZipFile(path) as archive:
        unpacked, size = sum(entry.file_size for entry in archive.infolist()), os.path.getsize(path)
    if unpacked > size:
        problem = f"{path} must be a checkpoint of its own size, got {size} bytes that unpack to {unpacked}"
        raise UserError(f"{problem}; delete it, or take it from its author again")


def weights_hash(path: Path) -> str:
    return file_hashes(Path(path).parent, [Path(path).name])[0][:12]
