"""Forward and backward of one whole batch, however many processes share it and in however many parts each takes its share.

    images, targets --parts--> Distiller --autocast--> terms --weighted by images--> backward      .grad = the whole batch's gradient
                                                         +--summed over parts and processes-----> terms of the whole batch
"""
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from fgdlab.distill import Distiller
from fgdlab.terms import Term, total

from ..config import RunConfig
from ..errors import UserError
from .distributed import ProcessGroup, check_reached
from .precision import Precision


class Step:
    """step(images, targets) -> the terms of the whole batch and their sum; every ``.grad`` holds the gradient of that sum.

    A loss that is a mean over images comes out as in one process and one part. One that divides by something counted over the batch, such as
    the boxes of FCOS and the regions of the two-stage detectors, is divided by what each part counts, as in any data-parallel training.

    Args:
        batch_size: images of all processes together.
        parts: how many pieces a process cuts its share into, one after the other.
    """

    def __init__(self, distiller: Distiller, config: RunConfig, precision: Precision, team: ProcessGroup):
        self.distiller, self.precision, self.team = distiller, precision, team
        self.batch_size, self.parts = config.batch_size, config.accumulate
        self.model = team.wrapped(distiller)
        self.parameters, self.checked = list(distiller.parameters()), False

    def __call__(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> tuple[list[Term], Tensor]:
        seen = []
        for each in self.parameters:                                 # zero_grad would look for them in all modules, each time
            each.grad = None
        for part, (some, their_targets) in enumerate(cut(images, targets, self.parts), start=1):
            if part < self.parts:
                with self.team.unsynchronised(self.model):
                    seen.append(self.forward_and_backward(some, their_targets))
            else:
                seen.append(self.forward_and_backward(some, their_targets))
        if not self.checked:
            check_reached(self.team, self.distiller)
            self.checked = True
        return self.of_the_whole(seen)

    def forward_and_backward(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> tuple[float, list[Term], Tensor]:
        """(share of the whole batch in 0..1, terms, loss) of one part."""
        share = len(images) / self.batch_size
        if self.distiller.balance is not None:
            self.distiller.balance.pooled = partial(self.team.means, weight=share)
        with self.precision.autocast(), enough_for_norms(images):
            terms = self.model(images, targets)
        loss = total(terms)
        self.precision.backward(loss if share == 1 else loss * (share * self.team.world))        # the processes' gradients are averaged, not summed
        return share, terms, loss

    def of_the_whole(self, seen: list[tuple[float, list[Term], Tensor]]) -> tuple[list[Term], Tensor]:
        """Terms and loss of the whole batch, without a graph where they had to be added up."""
        if len(seen) == 1 and self.team.world == 1:
            (_, terms, loss), = seen
            return terms, loss
        raws = sum(share * torch.stack([*(term.raw.detach().float() for term in terms), loss.detach().float()]) for share, terms, loss in seen)
        *raws, loss = self.team.summed(raws).unbind()
        return [term._replace(raw=raw) for term, raw in zip(seen[-1][1], raws, strict=True)], loss


def cut(images: list, targets: list, parts: int) -> Iterator[tuple[list, list]]:
    """A batch in so many parts, as equal as can be."""
    ends = [len(images) * part // parts for part in range(parts + 1)]
    return ((images[a:b], targets[a:b]) for a, b in zip(ends, ends[1:], strict=False))


@contextmanager
def enough_for_norms(images: list[Tensor]) -> Iterator[None]:
    """A batch of one small image leaves one value a channel on the coarsest map, of which batch norm cannot take a spread."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        height, width = images[0].shape[-2:]
        raise UserError(f"batch_size must be at least 2 for images as small as {width} x {height} pixels, got {len(images)}; raise it, or use larger images") from error
