"""Whether weights are still those that were loaded: a number a tensor, taken once and compared later.

The commonest way to lose a distillation without noticing is a teacher, or an inherited head, that something has initialised anew after its
weights were loaded; training then goes on with noise as its teacher.
"""
import torch
from torch import Tensor, nn

WORDS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@torch.no_grad()
def checksum(module: nn.Module) -> dict[str, Tensor]:
    """{name of a tensor: the sum of its bits, read as whole numbers}. Exact in any order of additions, so devices agree."""
    bits = {name: each.detach().contiguous().flatten().view(WORDS[each.element_size()]) for name, each in module.state_dict().items()}
    return {name: each.sum(dtype=torch.int64).cpu() for name, each in bits.items()}


def broken(before: dict[str, Tensor], module: nn.Module) -> list[str]:
    """Names of the tensors that are not as they were when ``before`` was taken."""
    now = checksum(module)
    return [name for name in now.keys() | before.keys() if name not in now or name not in before or int(now[name]) != int(before[name])]
