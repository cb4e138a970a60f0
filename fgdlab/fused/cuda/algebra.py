"""The sums of FGD on one level with R in closed form (eqs. 12-13), so that torch.compile fuses them into few reads.

R adds one vector v to all cells of an image: R(F) = F + v(F). So the global term needs no map R(F). With D = T - S and
e = v(T) - v(S), per image

    sum (D + e)^2 = sum D^2 + 2 e . sum_hw D + H W e . e

Every sum over a map is a product and a sum, without convolution or matrix product: the compiler joins them with the
conversion of half precision and with the other terms. Without compilation this is no faster than FGDLoss.
"""
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, linear

from ...config import FGDConfig
from ...fgd import term_sums
from ...masks import FocalMasks
from ...relation import GcBlock, RelationTerm
from ...scene import sum_dtype


def level_sums(
    student: Tensor, teacher: Tensor, masks: FocalMasks | None, relation: RelationTerm | None, config: FGDConfig,
) -> dict[str, Tensor]:
    """As ``fgd.term_sums``, also for maps of half precision, which are summed in float32."""
    dtype = sum_dtype(student, teacher)
    in_closed_form = None if relation is None else partial(global_sum, relation)
    return term_sums(student.to(dtype), teacher.to(dtype), masks, in_closed_form, config)


compiled_level_sums = torch.compile(level_sums, dynamic=True)  # compiled at the first call; one graph for all levels


def global_sum(relation: RelationTerm, student: Tensor, teacher: Tensor) -> Tensor:
    """``relation(student, teacher)`` for the kinds gc, mse and centred, where e is minus the spatial mean of D."""
    difference, cells = teacher - student, student.shape[2] * student.shape[3]
    squares, shift = difference.square().sum(), difference.sum(dim=(2, 3))  # (), (N, C)
    if relation.kind == "mse":
        return squares / len(shift)
    if relation.kind == "centred":
        e = -shift / cells
    else:
        e = offset(relation.teacher, teacher) - offset(relation.student, student)
    return (squares + (e * (2 * shift + cells * e)).sum()) / len(shift)


def offset(block: GcBlock, features: Tensor) -> Tensor:
    """v = W_v2 ReLU(LN(W_v1 context)) of eq. 13, (N, C, H, W) -> (N, C)."""
    logits = (block.key.weight * features).sum(dim=1) + block.key.bias  # W_k F, (N, H, W)
    weights = torch.softmax(logits.flatten(1), dim=1).view_as(logits)
    context = (weights[:, None] * features).sum(dim=(2, 3))
    narrow, norm, _, widen = block.transform
    hidden = linear(context, narrow.weight.flatten(1), narrow.bias)
    hidden = layer_norm(hidden, hidden.shape[1:], norm.weight.flatten(), norm.bias.flatten(), norm.eps).relu()
    return linear(hidden, widen.weight.flatten(1), widen.bias)
