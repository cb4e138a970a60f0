"""Other distillation methods, one file each, with the same call: loss(scene, teacher_maps) -> list[Term].

Their names are values of the setting ``method``. Classes load on first use: the table needs no torch.
"""
from importlib import import_module

from ..config import check_choice

METHOD_CLASSES = {
    "hint": "hint.Hint",  # FitNets, ICLR 2015
    "chen": "chen.Chen",  # NeurIPS 2017
    "mimick": "mimick.Mimick",  # CVPR 2017
    "fgfi": "fgfi.FGFI",  # CVPR 2019
    "tadf": "tadf.TADF",  # 2020
    "defeat": "defeat.DeFeat",  # CVPR 2021
    "gid": "gid.GID",  # CVPR 2021
    "attention": "attention_transfer.AttentionTransfer",  # ICLR 2017
    "cwd": "cwd.CWD",  # ICCV 2021
    "mgd": "mgd.MGD",  # ECCV 2022
    "pkd": "pkd.PKD",  # NeurIPS 2022
    "ld": "ld.LD",  # CVPR 2022
    "fgd_ld": "fgd_ld.FGDWithLD",
    "crosskd": "crosskd.CrossKD",  # CVPR 2024
}


def method_class(name: str) -> type:
    """The class of a name, else a ValueError; FGD and FBKD are ``FGDLoss`` and ``FBKDLoss``."""
    check_choice("method", name, (*METHOD_CLASSES,))
    module, cls = METHOD_CLASSES[name].split(".")
    return getattr(import_module(f"{__name__}.{module}"), cls)
