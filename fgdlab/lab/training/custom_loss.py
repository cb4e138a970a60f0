"""A loss of the user's own, given as FILE.py:CLASS."""
import importlib.util
from pathlib import Path

from ..config import RunConfig
from ..errors import UserError, unknown_name
from ..io import short_hash, user_path


def custom_loss_file(method: str) -> Path | None:
    """The file of a method FILE.py:CLASS, else None."""
    return user_path(method.rpartition(":")[0]) if ".py:" in method else None


def custom_loss_source(method: str) -> bytes:
    path = custom_loss_file(method)
    if not path.is_file():
        hint = "give FILE.py:CLASS, the path from the current folder"
        raise UserError(f"method must name a file, got {str(path)!r}, which is none; {hint}")
    return path.read_bytes()


def custom_loss_class(method: str) -> type:
    """Importing the file runs its code."""
    from torch import nn

    path, name = custom_loss_file(method), method.rpartition(":")[2]
    custom_loss_source(method)
    spec = importlib.util.spec_from_file_location(f"custom_loss_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        got = f"{type(error).__name__}: {error}"
        raise UserError(f"{path} must be importable, got {got}; run it by itself to see where") from error
    modules = {
        key: value for key, value in vars(module).items() if isinstance(value, type) and issubclass(value, nn.Module)
    }
    if name not in modules:
        known = [key for key, value in modules.items() if value.__module__ == module.__name__]
        hint = "it must be a torch.nn.Module: loss(scene, teacher_maps) -> list[Term]"
        raise unknown_name(f"class of {path.name}", name, known, hint)
    return modules[name]


def custom_loss_hash(config: RunConfig) -> dict:
    """{"method": a hash of the file}, which is part of the run's id; {} for a method of the package."""
    path = custom_loss_file(config.method)
    return {"method": short_hash(path.read_bytes())} if path and path.is_file() else {}
