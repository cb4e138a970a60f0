"""Forward and backward of one whole batch, shared by processes and, within each, cut into parts."""
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor

from fgdlab.distill import Distiller
from fgdlab.terms import Term, total

from ..config import RunConfig
from ..errors import UserError
from .distributed import ProcessGroup, check_reached
from .precision import Precision

ONE_VALUE = "more than 1 value per channel"  # of torch's error for a batch norm


class Step:
    """step(images, targets) -> the terms of the whole batch and their sum; every ``.grad`` holds that sum's gradient.

    A loss that is a mean over images is the same as in one process and one part. One divided by a count over the batch,
    such as FCOS's boxes, is divided by the count of each part, as in any data-parallel training.

    config: ``batch_size`` images of all processes; each cuts its share into ``accumulate`` parts.
    """

    def __init__(self, distiller: Distiller, config: RunConfig, precision: Precision, group: ProcessGroup):
        self.distiller, self.precision, self.group = distiller, precision, group
        self.batch_size, self.parts = config.batch_size, config.accumulate
        self.model = group.wrapped(distiller)
        self.parameters, self.checked = list(distiller.parameters()), False

    def __call__(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> tuple[list[Term], Tensor]:
        results = []
        for parameter in self.parameters:  # faster than zero_grad, which searches all modules
            parameter.grad = None
        for part, batch in enumerate(cut(images, targets, self.parts), start=1):
            with self.group.unsynchronised(self.model) if part < self.parts else nullcontext():
                results.append(self.forward_and_backward(*batch))
        if not self.checked:
            check_reached(self.group, self.distiller)
            self.checked = True
        return self.of_the_batch(results)

    def forward_and_backward(self, images: list, targets: list) -> tuple[float, list[Term], Tensor]:
        share = len(images) / self.batch_size
        if self.distiller.balance is not None:
            self.distiller.balance.mean_over_ranks = partial(self.group.means, weight=share)
        with self.precision.autocast(), errors_explained(images):
            terms = self.model(images, targets)
        loss = total(terms)
        factor = share * self.group.world_size  # DDP averages gradients over the processes
        self.precision.backward(loss if share == 1 else loss * factor)
        return share, terms, loss

    def of_the_batch(self, results: list[tuple[float, list[Term], Tensor]]) -> tuple[list[Term], Tensor]:
        if len(results) == 1 and self.group.world_size == 1:
            (_, terms, loss), = results
            return terms, loss
        sums = sum(
            share * torch.stack([*(term.raw.detach().float() for term in terms), loss.detach().float()])
            for share, terms, loss in results
        )
        *raws, loss = self.group.summed(sums).unbind()
        return [term._replace(raw=raw) for term, raw in zip(results[-1][1], raws, strict=True)], loss


def cut(images: list, targets: list, parts: int) -> Iterator[tuple[list, list]]:
    ends = [len(images) * part // parts for part in range(parts + 1)]
    return ((images[a:b], targets[a:b]) for a, b in zip(ends, ends[1:], strict=False))


@contextmanager
def errors_explained(images: list[Tensor]) -> Iterator[None]:
    """What does not fit is one line. A batch norm needs two values per channel, which one small image has not."""
    try:
        yield
    except ValueError as error:
        if ONE_VALUE not in str(error):
            raise UserError(str(error)) from error
        height, width = images[0].shape[-2:]
        problem = f"batch_size must be at least 2 for images as small as {width} x {height} pixels, got {len(images)}"
        raise UserError(f"{problem}; raise it, or use larger images") from error
