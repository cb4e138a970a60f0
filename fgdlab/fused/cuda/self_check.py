"""A card's first use of the fused loss: a small case in both forms. A form that disagrees, or does not start, is not used there."""
from functools import cache

import torch

from ...masks import focal_masks
from ...relation import RelationTerm
from ..levels import level_sums

TOLERANCE = 1e-4                                                     # of the largest number; rounding in float32 is some 1e-6


@cache
def trouble(device: str) -> str | None:
    """Why the fused form must not run on a device, None where it agrees with the readable form. Waits for the device, once a process."""
    try:
        from . import launch as card  # noqa: F401
    except ImportError as error:
        return f"the fused form needs Triton on {device}: {error}"
    try:
        worst = worst_difference(device)
    except Exception as error:                                       # of a compiler or driver: anything may come
        return f"the kernels of the fused form do not run on {device}: {type(error).__name__}: {str(error).strip().splitlines()[0]}"
    return None if worst < TOLERANCE else f"fused and readable form differ by {worst:.1e} of the largest number on {device}"


def worst_difference(device: str) -> float:
    """The largest difference of values and of gradients, each over the largest of its kind; NaN counts as 1."""
    from ...config import FGDConfig
    from ...fgd import term_sums

    draw = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 6, 7, 11, generator=draw).to(device) for _ in range(2))
    masks = focal_masks([torch.tensor([[8.0, 8.0, 60.0, 40.0]], device=device)] * 2, [(56, 88)] * 2, (7, 11))
    relation = RelationTerm(6)
    for each in relation.parameters():
        each.data += 0.3 * torch.randn(each.shape, generator=draw)
    relation.to(device)
    found = []
    for form in (level_sums, term_sums):
        leaf = student.clone().requires_grad_()
        with torch.enable_grad():
            raw = form(leaf, teacher, masks, relation, FGDConfig())
            inputs = [leaf, *(each for name, each in relation.named_parameters() if not name.endswith("key.bias"))]
            found.append([torch.stack(list(raw.values())), *torch.autograd.grad(sum(raw.values()), inputs)])
    shares = [(ours - readable).abs().max() / readable.abs().max() for ours, readable in zip(*found, strict=True)]
    return torch.stack(shares).nan_to_num(nan=1.0).max().item()
