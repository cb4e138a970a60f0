"""FGD's sums from one read of both maps forward and one backward, equal to the readable form of focal.py and relation.py.

The readable form reads and writes each map some forty times, and its masks look at every box in every cell. Both are limited by memory, not
by arithmetic. Here, with ``FGDLoss(..., fused=True)``:

    boxes --paint--> masks --+
    student, teacher --------+--sums, gather--> small sums --level--> terms          forward, block after block (blocks)
                             +--gradient------> gradient of the student's map         backward, all of it behind one node of the graph (node)

It runs on the CPU and gives first derivatives only. Where it does not apply, the readable form runs: ask :func:`why_readable`.
"""
import torch

DEVICES = ("cpu",)


def why_readable(config, device: str) -> str | None:
    """Why ``FGDLoss(..., fused=True)`` of a configuration runs in the readable form on a device ("cpu", "cuda"); None where it runs fused."""
    if device not in DEVICES:
        return f"the fused form has been written and tested for {', '.join(DEVICES)} only, the maps are on {device}"
    if config.relation == "nonlocal" and config.lambda_:
        return "relation nonlocal compares every pixel with every other; there is no fused form of it"
    if torch.compiler.is_compiling():
        return "torch.compile fuses the readable form by itself"
    return None
