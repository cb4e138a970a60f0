"""Helpers of notebook 10: count activation bytes and memory traffic."""
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def activation_bytes(detector: nn.Module, height: int, width: int) -> int:
    """Bytes that autograd saves for the backward pass of one image through backbone and head.

    Each storage counts once; parameters and the losses of the head do not count. Works on the ``meta`` device, where
    tensors take no memory.
    """
    saved: dict[int, Tensor] = {}
    parameters = {storage_of(tensor) for tensor in detector.state_dict(keep_vars=True).values()}

    def keep(tensor: Tensor) -> Tensor:
        saved[storage_of(tensor)] = tensor  # held until the end, so that no storage is used again
        return tensor

    device = next(detector.parameters()).device
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        maps = detector.train().backbone(torch.zeros(1, 3, height, width, device=device))
        output = detector.head(list(maps.values()))
    assert all(tensor.requires_grad for tensor in output.values())
    return sum(tensor.untyped_storage().nbytes() for storage, tensor in saved.items() if storage not in parameters)


class MemoryTraffic(TorchDispatchMode):
    """Counts in ``bytes_moved`` what operations inside the ``with`` read and write: all inputs and results.

    Views (reshape, transpose) move nothing. Caches are not modelled.
    """

    def __init__(self):
        super().__init__()
        self.bytes_moved = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        inputs, results = ([x for x in tree_leaves(tree) if isinstance(x, Tensor)] for tree in ((args, kwargs), result))
        read = {storage_of(x) for x in inputs}
        if operation._schema.is_mutable or any(storage_of(x) not in read for x in results):
            self.bytes_moved += sum(min(x.nbytes, x.untyped_storage().nbytes()) for x in inputs + results)
        return result


def storage_of(tensor: Tensor) -> int:
    """A number that is equal for tensors that share memory, also on the ``meta`` device."""
    return tensor.untyped_storage()._cdata
