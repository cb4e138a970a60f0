"""Exercises of notebook 01: correlation channel by channel, and the best one-to-one order of channels."""
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from .answers import Case, Verdict, check_answer, random_maps


def same_channel_correlation(answer) -> Verdict:
    """answer(teacher, student): Pearson's correlation per channel of two maps (N, C, H, W), over images and cells."""
    first, second = random_maps(1, 3, 4, 2, 5), random_maps(2, 3, 4, 2, 5)
    gains, parts = torch.tensor([1.0, -2.0, 0.5, 1.0]), torch.tensor([0.0, 0.5, 1.0, 3.0])
    mixed = first * gains[:, None, None] + parts[:, None, None] * second
    brighter = first + torch.arange(3.0)[:, None, None, None]
    return check_answer(answer, [
        Case(name, pair, correlation(*pair), rtol=1e-4, atol=1e-5, hint=hint) for name, pair, hint in (
            ("channels that agree, oppose and mix", (first, mixed + 1),
             "each channel is a list of N H W numbers; subtract its mean, then compare"),
            ("images of different brightness", (brighter, second), "one correlation over all images together"),
        )
    ])


def best_order(answer) -> Verdict:
    """answer(table): for each row of (K, K) one column, each column once, with the largest sum of entries."""
    greedy = torch.tensor([[0.9, 0.8, 0.0], [0.8, 0.1, 0.0], [0.0, 0.0, 0.3]])
    tables = [
        (greedy, "a table where the largest entry is a trap", "0.8 + 0.8 is more than 0.9 + 0.1"),
        (torch.rand(7, 7, generator=torch.Generator().manual_seed(0)) - 0.5, "7 random channels",
         "each column once, and -0.4 is worse than 0"),
        (torch.eye(5)[[2, 0, 4, 1, 3]], "a permutation", "entry k of the result is the column of row k"),
    ]

    def facts(table: Tensor) -> dict | None:
        order = answer(table)
        if order is None:
            return None
        columns = torch.as_tensor(order).long().flatten().tolist()
        entries = sum(float(row[column]) for row, column in zip(table, columns, strict=False))
        return {"each column once": sorted(columns) == list(range(len(table))), "sum of the entries": entries}

    return check_answer(facts, [
        Case(name, (table,), {"each column once": True,
                              "sum of the entries": table.numpy()[linear_sum_assignment(table, maximize=True)].sum()},
             hint=hint) for table, name, hint in tables
    ])


def correlation(teacher: Tensor, student: Tensor) -> Tensor:
    """(C,): Pearson's correlation per channel, over images and cells."""
    channels = zip(teacher.transpose(0, 1).flatten(1), student.transpose(0, 1).flatten(1), strict=True)
    return torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in channels])
