"""Exercises of notebook 01: correlation channel by channel, and the best one-to-one order of channels."""
import torch
from scipy.optimize import linear_sum_assignment

from .answers import exercise, random_maps

FIRST, SECOND = random_maps(1, 3, 4, 2, 5), random_maps(2, 3, 4, 2, 5)
GAINS, PARTS = torch.tensor([1.0, -2.0, 0.5, 1.0])[:, None, None], torch.tensor([0.0, 0.5, 1.0, 3.0])[:, None, None]


@exercise({
    "channels that agree, oppose and mix": (
        FIRST, FIRST * GAINS + PARTS * SECOND + 1,
        "each channel is a list of N H W numbers; subtract its mean, then compare"),
    "images of different brightness": (
        FIRST + torch.arange(3.0)[:, None, None, None], SECOND, "one correlation over all images together"),
}, rtol=1e-4, atol=1e-5)
def same_channel_correlation(teacher, student):
    """Pearson's correlation per channel of two maps (N, C, H, W), over images and cells."""
    channels = zip(teacher.transpose(0, 1).flatten(1), student.transpose(0, 1).flatten(1), strict=True)
    return torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in channels])


def facts_of(answer):
    def facts(table: torch.Tensor) -> dict | None:
        order = answer(table)
        if order is None:
            return None
        columns = torch.as_tensor(order).long().flatten().tolist()
        entries = sum(float(row[column]) for row, column in zip(table, columns, strict=False))
        return {"each column once": sorted(columns) == list(range(len(table))), "sum of the entries": entries}

    return facts


@exercise({
    "a table where the largest entry is a trap": (
        torch.tensor([[0.9, 0.8, 0.0], [0.8, 0.1, 0.0], [0.0, 0.0, 0.3]]), "0.8 + 0.8 is more than 0.9 + 0.1"),
    "7 random channels": (
        torch.rand(7, 7, generator=torch.Generator().manual_seed(0)) - 0.5,
        "each column once, and -0.4 is worse than 0"),
    "a permutation": (torch.eye(5)[[2, 0, 4, 1, 3]], "entry k of the result is the column of row k"),
}, facts_of)
def best_order(table):
    """answer(table): for each row of (K, K) one column, each column once, with the largest sum of entries."""
    best = table.numpy()[linear_sum_assignment(table, maximize=True)].sum()
    return {"each column once": True, "sum of the entries": best}
