"""Multi-scale training: the short side of a batch's images, drawn by seed and step alone.

The student's transform resizes. The teacher reads the resized pixels (fgdlab/scene.py), so both see one size.
"""
import random
from contextlib import AbstractContextManager, nullcontext
from unittest import mock

from ..errors import UserError

LEAST = 32  # pixels: less than one cell of P5


def short_sides(text: str) -> tuple[int, ...]:
    """"640,800" -> (640, 800); () for an empty text."""
    words = [word.strip() for word in text.split(",")] if text.strip() else []
    if not all(word.isdecimal() and LEAST <= int(word) <= 65535 for word in words):
        problem = f"min_sizes must be whole numbers of {LEAST} to 65535 pixels with commas between, got {text!r}"
        raise UserError(f"{problem}; 640,800 is FCOS's in the paper")
    return tuple(int(word) for word in words)


def check_sizes(config) -> None:
    sides = short_sides(config.min_sizes)
    if sides and not config.min_size:
        problem = f"min_sizes must go with a min_size, the size for evaluation, got {config.min_sizes!r} and none"
        raise UserError(f"{problem}; give min_size={max(sides)}")


def drawn_side(sides: tuple[int, ...], seed: int, step: int) -> int:
    return random.Random(f"{seed}/{step}").choice(sides)


def drawn_size(transform, sides: tuple[int, ...], seed: int, step: int) -> AbstractContextManager:
    """Within, a detector's transform resizes to the side of this step; without sides it stays as it is.

    Differs: detectron draws one side per image. Here it is one per batch: no padding, and equal work for all processes.
    """
    if not sides:
        return nullcontext()
    return mock.patch.object(transform, "min_size", (drawn_side(sides, seed, step),))
