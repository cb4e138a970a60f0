"""One thing that was looked at, and what a run does with a list of them."""
from collections.abc import Iterable
from typing import NamedTuple

from ..errors import UserError


class CheckResult(NamedTuple):
    """``good`` is None where nothing is wrong but the reader should look: what is unusual, or could not be known. ``do``: how to mend it."""

    what: str
    good: bool | None
    found: str
    do: str = ""

    def __str__(self) -> str:
        return f"{self.what}: {self.found}" + (f"; {self.do}" if self.do else "")


def refuse(lines: Iterable[CheckResult]) -> None:
    """Raises:
        UserError: the first line that is bad, with what to do.
    """
    for line in lines:
        if line.good is False:
            raise UserError(f"before the first step, {line}")


def listed(names: list[str], most: int = 3) -> str:
    """A few names in words: "a, b, c and 4 more"."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
