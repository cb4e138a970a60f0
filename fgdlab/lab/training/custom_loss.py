"""A loss of the reader's own, given as FILE.py:CLASS: nothing is registered, and the file's text is part of the run's identity."""
import importlib.util
from pathlib import Path

from ..config import RunConfig
from ..errors import UserError, unknown_name
from ..io import short_hash


def custom_loss_file(method: str) -> Path | None:
    """The file of a method that is given as FILE.py:CLASS, else None."""
    return Path(method.rpartition(":")[0]).expanduser() if ".py:" in method else None


def custom_loss_source(method: str) -> bytes:
    """The text of the file that FILE.py:CLASS names, as it lies there."""
    path = custom_loss_file(method)
    if not path.is_file():
        raise UserError(f"method must name a file, got {str(path)!r}, which is none; give FILE.py:CLASS, the path from the current folder")
    return path.read_bytes()


def custom_loss_class(method: str) -> type:
    """The class that FILE.py:CLASS names. It is code, and importing it runs it, as any notebook's cell would."""
    path, name = custom_loss_file(method), method.rpartition(":")[2]
    custom_loss_source(method)
    spec = importlib.util.spec_from_file_location(f"own_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UserError(f"{path} must be importable, got {type(error).__name__}: {error}; run it by itself to see where") from error
    from torch import nn

    found = getattr(module, name, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        losses = [each for each, value in vars(module).items() if isinstance(value, type) and issubclass(value, nn.Module) and value.__module__ == module.__name__]
        raise unknown_name(f"class of {path.name}", name, losses, "it must be a torch.nn.Module: loss(scene, teacher_maps) -> list[Term]")
    return found


def custom_loss_hash(config: RunConfig) -> dict:
    """What tells two versions of a loss of one's own apart: a hash of its file; {} for a method of the package."""
    path = custom_loss_file(config.method)
    return {"method": short_hash(path.read_bytes())} if path and path.is_file() else {}
