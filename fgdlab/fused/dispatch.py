"""Which implementation of the fused loss runs on which device."""
from functools import cache

import torch

DEVICES = ("cpu", "cuda")


def why_readable(config, device: str) -> str | None:
    """Why FusedFGDLoss runs the readable implementation on a device ("cpu", "cuda"); None where it runs fused."""
    if device not in DEVICES:
        return f"the fused form has been written for {' and '.join(DEVICES)} only, the maps are on {device}"
    if config.relation == "nonlocal" and config.lambda_:
        return "relation nonlocal compares every pixel with every other; there is no fused form of it"
    if torch.compiler.is_compiling():
        return "torch.compile fuses the readable form by itself"
    if device == "cuda":
        from .cuda.self_check import trouble

        return trouble(device)
    return missing()


@cache
def missing() -> str | None:
    """Why the loops of the CPU cannot be used, None where they can. The first who asks imports numba, half a second; the first on a machine who runs
    them compiles them, some eight."""
    try:
        from .cpu import loops  # noqa: F401
    except ImportError as error:
        return f"the fused form needs numba on the CPU ({error}): pip install numba"
    return None
