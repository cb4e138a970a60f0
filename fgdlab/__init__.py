"""fgdlab: Focal and Global Knowledge Distillation for Detectors, to learn from, measure and extend.

``fgdlab`` is the method: it imports torch and itself. ``fgdlab.lab`` is the bench around it: data, detectors, training,
sweeps, tables. Names load on first use, so that ``fgdlab --help`` need not wait for torch.
"""
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:  # X as X is public
    from .attention import Attention as Attention, attention as attention
    from .balance import Balance as Balance, calibrate as calibrate
    from .config import PRESETS as PRESETS, FGDConfig as FGDConfig
    from .distill import Distiller as Distiller
    from .fgd import FGDLoss as FGDLoss, masks_of as masks_of
    from .fused.loss import FusedFGDLoss as FusedFGDLoss
    from .masks import FocalMasks as FocalMasks, focal_masks as focal_masks
    from .methods import METHOD_CLASSES as METHOD_CLASSES, method_class as method_class
    from .methods.fbkd import FBKDConfig as FBKDConfig, FBKDLoss as FBKDLoss
    from .pyramid import PyramidLoss as PyramidLoss
    from .relation import GcBlock as GcBlock
    from .scene import Recorder as Recorder, Scene as Scene, Tap as Tap, level_names as level_names
    from .scene import look as look, match_levels as match_levels
    from .terms import Term as Term, check_finite as check_finite, rows as rows, total as total


class LazyPackage(ModuleType):
    """A package whose public names load on first use.

    Importing the file attention.py must not put the module in the place of the function of that name.
    """

    def __getattr__(self, name: str) -> Any:
        module = self.__dict__.get("_module_of", {}).get(name)
        if module is None:
            public = ", ".join(self.__dict__.get("__all__", []))
            raise AttributeError(f"{self.__name__} has no {name!r}; it has {public}")
        return getattr(import_module(f"{self.__name__}.{module}"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in self.__dict__.get("_module_of", {}) and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*self.__dict__, *self.__all__})


def lazy_package(package: str, public: dict[str, str]) -> list[str]:
    """Make a package lazy; returns its ``__all__``.

    Args:
        package: ``__name__`` of the package.
        public: {module of the package: its public names, separated by spaces}.
    """
    module_of = {name: module for module, names in public.items() for name in names.split()}
    vars(sys.modules[package])["_module_of"] = module_of
    sys.modules[package].__class__ = LazyPackage
    return sorted(module_of)


__all__ = lazy_package(__name__, {
    "attention": "Attention attention",
    "masks": "FocalMasks focal_masks",
    "relation": "GcBlock",
    "config": "FGDConfig PRESETS",
    "fgd": "FGDLoss masks_of",
    "fused.loss": "FusedFGDLoss",
    "methods.fbkd": "FBKDConfig FBKDLoss",
    "methods": "METHOD_CLASSES method_class",
    "pyramid": "PyramidLoss",
    "balance": "Balance calibrate",
    "scene": "Recorder Scene Tap level_names look match_levels",
    "terms": "Term check_finite rows total",
    "distill": "Distiller",
})
