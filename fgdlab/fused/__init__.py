"""FGD's sums from one read of both maps forward, on a card two, and one backward; equal to the readable form of focal.py and relation.py.

The readable form reads and writes each map some forty times, and its masks look at every box in every cell. Both are limited by memory, not
by arithmetic. Here, with ``FGDLoss(..., fused=True)``:

    boxes --paint--> masks --+
    student, teacher --------+--> small sums (names: sums) --> terms                 forward
                             +--> gradient of the student's map                      backward, all of it behind one node of the graph

Two rooms read the maps. cpu: loops compiled by numba (loops, paint_loop) over the tiles of all levels (tiles), one read forward and one backward; what
follows from the sums is compiled, too, and all levels are one node, for on small maps calls cost more than numbers. card: Triton kernels (kernels,
paint_card), a node a level (node, sums), small tensors by torch (level, gradient); a card tries its kernels on a small case first (trial). First
derivatives only. Where neither applies, the readable form runs: ask :func:`why_readable`; and where maps differ in images or channels (level.alike).
"""
from functools import cache

import torch

DEVICES = ("cpu", "cuda")


def why_readable(config, device: str) -> str | None:
    """Why ``FGDLoss(..., fused=True)`` of a configuration runs in the readable form on a device ("cpu", "cuda"); None where it runs fused."""
    if device not in DEVICES:
        return f"the fused form has been written for {' and '.join(DEVICES)} only, the maps are on {device}"
    if config.relation == "nonlocal" and config.lambda_:
        return "relation nonlocal compares every pixel with every other; there is no fused form of it"
    if torch.compiler.is_compiling():
        return "torch.compile fuses the readable form by itself"
    if device == "cuda":
        from .trial import trouble

        return trouble(device)
    return missing()


@cache
def missing() -> str | None:
    """Why the loops of the CPU cannot be used, None where they can. The first who asks imports numba, half a second; the first on a machine who runs
    them compiles them, some eight."""
    try:
        from . import loops  # noqa: F401
    except ImportError as error:
        return f"the fused form needs numba on the CPU ({error}): pip install numba"
    return None
