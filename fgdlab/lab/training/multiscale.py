"""Multi-scale training: the short side of a batch's images, drawn by seed and step alone.

The student's transform resizes; the teacher reads the pixels that come out of it (fgdlab/scene.py), so both always see one size.
"""
import random
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import UserError

LEAST = 32                                                           # pixels: less than one cell of P5


def short_sides(text: str) -> tuple[int, ...]:
    """"640,800" -> (640, 800); () for an empty text.

    Raises:
        UserError: anything but whole numbers with commas.
    """
    words = [word.strip() for word in text.split(",")] if text.strip() else []
    if not all(word.isdecimal() and LEAST <= int(word) <= 65535 for word in words):
        raise UserError(f"min_sizes must be whole numbers of {LEAST} to 65535 pixels with commas between, got {text!r}; 640,800 is FCOS's in the paper")
    return tuple(int(word) for word in words)


def check_sizes(config) -> None:
    """Refuse sides to draw from where there is no size to be judged at, before anything is made."""
    if short_sides(config.min_sizes) and not config.min_size:
        raise UserError(f"min_sizes must go with a min_size, at which the detector is judged, got {config.min_sizes!r} and none; give min_size={max(short_sides(config.min_sizes))}")


def drawn_side(sides: tuple[int, ...], seed: int, step: int) -> int:
    """One of the sides, the same for every process and however often the run was interrupted."""
    return random.Random(f"{seed}/{step}").choice(sides)


@contextmanager
def drawn_size(transform, sides: tuple[int, ...], seed: int, step: int) -> Iterator[None]:
    """Within, a detector's transform resizes to the side of this step; without sides it stays as it is.

    Differs: detectron draws a side an image; here a batch has one, so that none of it is lost to padding and every process has equal work.
    """
    if not sides:
        yield
        return
    usual = transform.min_size
    transform.min_size = (drawn_side(sides, seed, step),)
    try:
        yield
    finally:
        transform.min_size = usual
