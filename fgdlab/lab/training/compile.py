"""torch.compile on the two pyramids, student's and teacher's: backbone and neck are where a step's time goes, and no shape there depends on boxes."""
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from fgdlab.distill import Distiller

from ..errors import UserError


@contextmanager
def compiled_pyramids(distiller: Distiller, on: bool, device: str) -> Iterator[None]:
    """Within, ``backbone.forward`` of student and teacher is compiled; afterwards it is plain again. Names of weights and hooks stay.

    Raises:
        UserError: this machine has no compiler for the device.
    """
    detectors = [each for each in (distiller.student, distiller.teacher) if each is not None] if on else []
    if on:
        check_compiler(device)
    for detector in detectors:
        detector.backbone.forward = torch.compile(detector.backbone.forward)
    try:
        yield
    finally:
        for detector in detectors:
            del detector.backbone.forward                            # the class's own shows again


def check_compiler(device: str) -> None:
    """Compile one small function, so that a missing compiler is known before the first step."""
    try:
        torch.compile(torch.sin)(torch.zeros(2, device=device))
    except Exception as error:                                       # inductor and triton raise types of their own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"compile=true must find a C++ compiler, and Triton for CUDA, got: {reason}; install them or leave compile out") from error
