"""Other ways to distil a detector, each one small file under the same call: loss(scene, teacher_maps) -> list[Term].

A name of this table is a value of ``method`` in a sweep. Classes load on first use.
"""
from importlib import import_module

HOME_OF = {
    "hint": "hint.Hint",                                   # FitNet (ICLR 2015): plain L2
    "chen": "chen.Chen",                                   # Chen et al. (NeurIPS 2017): hint and weighted class scores
    "mimick": "mimick.Mimick",                             # Li et al. (CVPR 2017): features of proposals
    "fgfi": "fgfi.FGFI",                                   # Wang et al. (CVPR 2019): near-object anchors
    "tadf": "tadf.TADF",                                   # Sun et al. (2020): a Gaussian per box
    "defeat": "defeat.DeFeat",                             # Guo et al. (CVPR 2021): foreground and background decoupled
    "gid": "gid.GID",                                      # Dai et al. (CVPR 2021): where teacher and student disagree
    "attention": "attention_transfer.AttentionTransfer",   # Zagoruyko and Komodakis (ICLR 2017)
    "cwd": "cwd.CWD",                                      # Shu et al. (ICCV 2021): softmax over each channel
    "mgd": "mgd.MGD",                                      # Yang et al. (ECCV 2022): masked student restores the teacher
    "pkd": "pkd.PKD",                                      # Cao et al. (NeurIPS 2022): correlation
    "crosskd": "crosskd.CrossKD",                          # Wang et al. (CVPR 2024): student's features through the teacher's head
}


def method_class(name: str) -> type:
    """The class of a method, by its name.

    Raises:
        KeyError: no such name.
    """
    file, cls = HOME_OF[name].split(".")
    return getattr(import_module(f"{__name__}.{file}"), cls)
