"""Compares both implementations on a small case at the first use of a device.

A kernel that differs or fails is not used there.
"""
from functools import cache

import torch

from ...config import FGDConfig
from ...fgd import term_sums
from ...masks import focal_masks
from ...relation import RelationTerm

TOLERANCE = 1e-4  # of the largest value; rounding in float32 is about 1e-6


@cache
def failure(device: str) -> str | None:
    """Why the fused implementation must not run on a device; None where it agrees. Runs once per process."""
    try:
        from . import launch  # noqa: F401
    except ImportError as error:
        return f"the fused implementation needs Triton on {device}: {error}"
    try:
        worst = worst_difference(device)
    except Exception as error:  # of a compiler or driver: any type
        reason = str(error).strip().splitlines()[0]
        return f"the kernels of the fused implementation do not run on {device}: {type(error).__name__}: {reason}"
    if worst < TOLERANCE:
        return None
    return f"fused and readable implementation differ by {worst:.1e} of the largest value on {device}"


def worst_difference(device: str) -> float:
    """The largest difference of values and gradients, each relative to the largest of its kind; NaN counts as 1."""
    from .autograd import level_sums

    random = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 6, 7, 11, generator=random).to(device) for _ in range(2))
    masks = focal_masks([torch.tensor([[8.0, 8.0, 60.0, 40.0]], device=device)] * 2, [(56, 88)] * 2, (7, 11))
    relation = RelationTerm(6)
    for each in relation.parameters():
        each.data += 0.3 * torch.randn(each.shape, generator=random)
    relation.to(device)
    results = []
    for sums_of in (level_sums, term_sums):
        leaf = student.clone().requires_grad_()
        with torch.enable_grad():
            sums = list(sums_of(leaf, teacher, masks, relation, FGDConfig()).values())
            inputs = [leaf, *(each for name, each in relation.named_parameters() if not name.endswith("key.bias"))]
            results.append([torch.stack(sums), *torch.autograd.grad(sum(sums), inputs)])
    relative = [(fused - readable).abs().max() / readable.abs().max() for fused, readable in zip(*results, strict=True)]
    return torch.stack(relative).nan_to_num(nan=1.0).max().item()
