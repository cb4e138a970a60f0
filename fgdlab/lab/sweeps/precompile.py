"""Importing this compiles the fused loss, or reads it from where it is kept, so that all runs forked from here find it ready.

Compiling takes some ten seconds, once an installation; of several processes that start together one compiles, and the others read what it kept.
"""
import torch
from filelock import Timeout

from fgdlab.config import FGDConfig
from fgdlab.fused.dispatch import why_readable
from fgdlab.relation import RelationTerm

from ..errors import UserError
from ..io import cache_root, lock_file, make_folder

PATIENCE = 120                                                       # seconds for another process to compile; then this one does as well


class Node:
    """Stands in for a node of autograd's graph: autograd itself starts threads where there is a card, and a process with threads must not fork."""

    def set_materialize_grads(self, given: bool) -> None:
        pass

    def save_for_backward(self, *tensors) -> None:
        self.saved_tensors = tensors


@torch.no_grad()
def compile_loops() -> None:
    """Every loop of the fused loss once, on a map of 2 x 2 cells."""
    from fgdlab.fused.cpu.autograd import PyramidTerms, blocks_of, setting_of
    from fgdlab.fused.dispatch import rasterised_masks

    student, teacher, node, blocks = torch.zeros(1, 2, 2, 2), torch.ones(1, 2, 2, 2), Node(), blocks_of([RelationTerm(2)])
    masks = [rasterised_masks([torch.tensor([[0.0, 0.0, 8.0, 8.0]])], [(16, 16)], (2, 2))]
    terms = PyramidTerms.forward(node, setting_of(FGDConfig()), blocks, [teacher], masks, 1, student, *blocks.parameters)
    PyramidTerms.backward(node, *(torch.ones_like(term) for term in terms))


if why_readable(FGDConfig(), "cpu") is None:
    try:
        with lock_file(make_folder(cache_root()) / "loops.lock", timeout=PATIENCE):
            compile_loops()
    except (Timeout, UserError):
        compile_loops()
