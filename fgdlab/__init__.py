"""fgdlab: Focal and Global Knowledge Distillation for Detectors, to learn from, measure and extend.

``fgdlab`` is the method: it imports torch and itself. ``fgdlab.lab`` is the bench around it: data, detectors, training, sweeps, tables.
Names load on first use, so that the command line can answer ``--help`` without waiting for torch.
"""
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

__version__ = "0.1.0"

HOME_OF = {
    "Attention": "attention", "attention": "attention",
    "FocalMasks": "masks", "focal_masks": "masks",
    "GcBlock": "relation",
    "FGDConfig": "fgd", "FGDLoss": "fgd", "PRESETS": "fgd",
    "FBKDConfig": "fbkd", "FBKDLoss": "fbkd",
    "Scene": "scene", "Tap": "scene", "look": "scene",
    "Term": "terms", "total": "terms", "rows": "terms",
    "Distiller": "distill",
}
__all__ = sorted(HOME_OF)

if TYPE_CHECKING:
    from .attention import Attention, attention
    from .distill import Distiller
    from .fbkd import FBKDConfig, FBKDLoss
    from .fgd import PRESETS, FGDConfig, FGDLoss
    from .masks import FocalMasks, focal_masks
    from .relation import GcBlock
    from .scene import Scene, Tap, look
    from .terms import Term, rows, total


class Package(ModuleType):
    """This package. Importing the file attention.py must not put the module in the place of the function of that name."""

    def __setattr__(self, name: str, value) -> None:
        if not (name in HOME_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = Package


def __getattr__(name: str):
    if name not in HOME_OF:
        raise AttributeError(f"fgdlab has no {name!r}; it has {', '.join(__all__)}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{HOME_OF[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
