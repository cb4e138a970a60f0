"""Whether weights are still those that were loaded: something may initialise the teacher, or an inherited head, again.
"""
import torch
from torch import Tensor, nn

INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def checksum(module: nn.Module) -> dict[str, Tensor]:
    """{name of a tensor: the sum of its bits, read as integers}. Exact in any order, so devices agree."""
    return {
        name: tensor.contiguous().flatten().view(INTEGERS[tensor.element_size()]).sum(dtype=torch.int64).cpu()
        for name, tensor in module.state_dict().items()
    }


def changed_tensors(before: dict[str, Tensor], module: nn.Module) -> list[str]:
    now = checksum(module)
    return [name for name in now.keys() | before.keys() if name not in now or now[name] != before.get(name)]
