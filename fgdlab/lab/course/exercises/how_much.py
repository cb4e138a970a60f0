"""Exercises of notebook 03: how concentrated an attention is, and the temperature that makes it so."""
import torch

from fgdlab.attention import attention

from .answers import Case, Verdict, check_answer, random_maps


def effective_fraction(answer) -> Verdict:
    """answer(a): (sum a)^2 / (H W sum a^2) of an attention (H, W); 1 if uniform, 1/(H W) for one pixel."""
    one = torch.zeros(3, 5)
    one[1, 2] = 15.0
    half = torch.tensor([[2.0, 0.0, 2.0, 0.0], [0.0, 2.0, 0.0, 2.0]])
    cases = [
        (torch.ones(4, 6), "all pixels equal", "all of them count"),
        (one, "one pixel of 15 has all the attention", "one of 15 counts"),
        (half, "half of the pixels have equal attention, the others none", "half of them count"),
        (random_maps(3, 1, 1, 3, 4)[0, 0].exp(), "weights that do not sum to H W", "the sum is part of the formula"),
    ]
    return check_answer(answer, [
        Case(name, (a,), (a.sum() ** 2 / a.square().sum() / a.numel()).item(), hint=hint) for a, name, hint in cases
    ])


def temperature_for(answer) -> Verdict:
    """answer(features, fraction): the T at which A^S has this effective fraction, mean over the images, to 1 %."""
    maps = random_maps(4, 3, 4, 6, 5) * torch.tensor([0.5, 1.0, 2.0])[:, None, None, None]
    cases = [
        (maps, 0.3, "three images of different scale", "the mean of the three fractions, not that of the first"),
        (10 * maps, 0.3, "the same, ten times as large", "T has the unit of the features: search on a wide range"),
        (maps, 0.9, "nearly even", "the fraction rises with T"),
        (maps / 100, 0.15, "features of a hundredth", "T has the unit of the features: search on a wide range"),
    ]

    def reached(features: torch.Tensor, fraction: float) -> float | None:
        t = answer(features, fraction)
        if t is None:
            return None
        a = attention(features, float(t)).spatial.flatten(1)
        return (a.sum(1) ** 2 / a.square().sum(1) / a.shape[1]).mean().item()

    return check_answer(reached, [Case(name, args, args[1], rtol=0.01, hint=hint) for *args, name, hint in cases])
