"""Compares the compiled sums with the readable implementation on small maps, at the first use on a device.

A compiler that fails or a result that differs means that FGDLoss runs there.
"""
from copy import deepcopy
from functools import cache

import torch
from torch import Tensor

from ...config import FGDConfig
from ...fgd import term_sums
from ...masks import focal_masks
from ...relation import RelationTerm
from . import algebra

CASES = (((2, 6, 7, 11), torch.contiguous_format), ((3, 80, 12, 21), torch.channels_last))  # (N, C, H, W)


@cache
def failure(device: str, dtype: torch.dtype, config: FGDConfig) -> str | None:
    """Why the compiled sums must not run on a device; None where they agree. Runs once per process and arguments.

    Args:
        dtype: of the maps.
    """
    try:
        with (
            torch.inference_mode(False), torch.enable_grad(), torch.autocast(device, enabled=False),
            torch.random.fork_rng(devices=[]),
        ):
            worst = max(worst_difference(device, dtype, config, *case) for case in CASES)
    except Exception as error:  # of a compiler or driver: any type
        reason = (str(error).strip() or "no message").splitlines()[0]
        return f"the fused implementation does not run on {device}: {type(error).__name__}: {reason}"
    if worst <= max(1e-4, torch.finfo(dtype).eps):  # rounding is about 1e-6 in float32
        return None
    return f"fused and readable implementation differ by {worst:.1e} of the largest value on {device}"


def worst_difference(
    device: str, dtype: torch.dtype, config: FGDConfig, shape: tuple[int, ...], order: torch.memory_format,
) -> float:
    """The largest difference from readable results in float64, relative to the largest of its kind; infinite for NaN.

    The results are the logarithms of the terms, so that each term counts, and their gradients.
    """
    torch.manual_seed(0)
    (n, channels, *grid), box = shape, torch.tensor([[8.0, 8.0, 60.0, 40.0]], device=device)
    maps = [torch.randn(shape).to(device, dtype, memory_format=order) for _ in range(2)]
    masks = focal_masks([box] * n, [(8 * grid[0], 8 * grid[1])] * n, tuple(grid))
    relation = RelationTerm(channels, config.relation) if "global" in config.weights() else None
    for parameter in relation.parameters() if relation else ():
        parameter.data += 0.3 * torch.randn(parameter.shape)  # at the start R is the identity

    def outcome(sums_of, dtype: torch.dtype, precision: torch.dtype) -> list[Tensor]:
        student, teacher = (each.to(dtype).requires_grad_(i == 0) for i, each in enumerate(maps))
        layers = deepcopy(relation).to(device, precision) if relation else None
        logs = torch.stack(list(sums_of(student, teacher, masks, layers, config).values())).log()
        parameters = layers.named_parameters() if layers else ()
        inputs = [student, *(each for name, each in parameters if not name.endswith("key.bias"))]  # theirs is rounding
        return [logs, *torch.autograd.grad(logs.sum(), inputs)]

    precision = torch.promote_types(dtype, torch.float32)
    fused = outcome(algebra.compiled_level_sums, dtype, precision)
    readable = outcome(term_sums, torch.float64, torch.float64)
    relative = [(a - b).abs().max() / b.abs().max() for a, b in zip(fused, readable, strict=True)]
    return torch.stack(relative).nan_to_num(nan=torch.inf).max().item()
