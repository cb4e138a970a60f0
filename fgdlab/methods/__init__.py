"""Other distillation methods, one file each, with the same call: loss(scene, teacher_maps) -> list[Term].

Names of the table are values of the setting ``method``. Classes load on first use: the table needs no torch.
"""
from importlib import import_module

METHOD_CLASSES = {
    "hint": "hint.Hint",                                  # FitNets (ICLR 2015): plain L2
    "chen": "chen.Chen",                                  # Chen et al. (NeurIPS 2017): hint, class scores, boxes
    "mimick": "mimick.Mimick",                            # Li et al. (CVPR 2017): features of proposals
    "fgfi": "fgfi.FGFI",                                  # Wang et al. (CVPR 2019): cells with an anchor near an object
    "tadf": "tadf.TADF",                                  # Sun et al. (2020): a Gaussian per box
    "defeat": "defeat.DeFeat",                            # Guo et al. (CVPR 2021): foreground and background decoupled
    "gid": "gid.GID",                                     # Dai et al. (CVPR 2021): where teacher and student disagree
    "attention": "attention_transfer.AttentionTransfer",  # Zagoruyko and Komodakis (ICLR 2017)
    "cwd": "cwd.CWD",                                     # Shu et al. (ICCV 2021): softmax over each channel
    "mgd": "mgd.MGD",                                     # Yang et al. (ECCV 2022): masked student restores the teacher
    "pkd": "pkd.PKD",                                     # Cao et al. (NeurIPS 2022): correlation
    "crosskd": "crosskd.CrossKD",                         # Wang et al. (CVPR 2024): the teacher's head
}


def method_class(name: str) -> type:
    """The class of a method by its name in ``METHOD_CLASSES``.

    Raises:
        KeyError: no such name.
    """
    module, cls = METHOD_CLASSES[name].split(".")
    return getattr(import_module(f"{__name__}.{module}"), cls)
