"""torch.compile for backbone and neck of student and teacher. They take most of a step; no shape depends on boxes."""
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from fgdlab.distill import Distiller

from ..errors import UserError


@contextmanager
def compiled_pyramids(distiller: Distiller, enabled: bool, device: str) -> Iterator[None]:
    """Within, ``backbone.forward`` of both is compiled. Names of weights and hooks stay."""
    detectors = [detector for detector in (distiller.student, distiller.teacher) if detector is not None and enabled]
    if enabled:
        check_compiler(device)
    for detector in detectors:
        detector.backbone.forward = torch.compile(detector.backbone.forward)
    try:
        yield
    finally:
        for detector in detectors:
            del detector.backbone.forward  # back to the method of the class


def check_compiler(device: str) -> None:
    try:
        torch.compile(torch.sin)(torch.zeros(2, device=device))
    except Exception as error:  # inductor and triton raise types of their own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        problem = f"compile=true must find a C++ compiler, and Triton for CUDA, got: {reason}"
        raise UserError(f"{problem}; install them or leave compile out") from error
