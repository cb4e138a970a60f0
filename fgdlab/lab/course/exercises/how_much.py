"""Exercises of notebook 03: how concentrated an attention is, and the temperature that makes it so."""
import torch

from fgdlab.attention import attention

from .answers import exercise, random_maps

ONE = torch.zeros(3, 5)
ONE[1, 2] = 15.0
MAPS = random_maps(4, 3, 4, 6, 5) * torch.tensor([0.5, 1.0, 2.0])[:, None, None, None]
UNIT = "T has the unit of the features: search on a wide range"


@exercise({
    "all pixels equal": (torch.ones(4, 6), "all of them count"),
    "one pixel of 15 has all the attention": (ONE, "one of 15 counts"),
    "half of the pixels have equal attention, the others none": (
        torch.tensor([[2.0, 0.0, 2.0, 0.0], [0.0, 2.0, 0.0, 2.0]]), "half of them count"),
    "weights that do not sum to H W": (random_maps(3, 1, 1, 3, 4)[0, 0].exp(), "the sum is part of the formula"),
})
def effective_fraction(a):
    """(sum a)^2 / (H W sum a^2) of an attention (H, W); 1 if uniform, 1/(H W) for one pixel."""
    return (a.sum() ** 2 / a.square().sum() / a.numel()).item()


def fraction_at(answer):
    def reached(features: torch.Tensor, fraction: float) -> float | None:
        t = answer(features, fraction)
        if t is None:
            return None
        a = attention(features, float(t)).spatial.flatten(1)
        return (a.sum(1) ** 2 / a.square().sum(1) / a.shape[1]).mean().item()

    return reached


@exercise({
    "three images of different scale": (MAPS, 0.3, "the mean of the three fractions, not that of the first"),
    "the same, ten times as large": (10 * MAPS, 0.3, UNIT),
    "nearly even": (MAPS, 0.9, "the fraction rises with T"),
    "features of a hundredth": (MAPS / 100, 0.15, UNIT),
}, fraction_at, rtol=0.01)
def temperature_for(features, fraction):
    """answer(features, fraction): the T at which A^S has this effective fraction, mean over the images, to 1 %."""
    return fraction
