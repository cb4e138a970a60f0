"""The exception for mistakes that a user can correct, and helpers that raise it."""
import difflib
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """Something outside the program must change. The message is one line: what must be, what came, what to do.

    The command line prints the message and exits with status 1.
    """


def unknown_name(kind: str, name: str, known: Iterable[str], hint: str = "") -> UserError:
    """An error for an unknown name of a kind, with the most similar known one suggested."""
    known = [str(valid) for valid in known]
    similar = difflib.get_close_matches(str(name), known, 1, cutoff=0.7)
    suggestion = f"did you mean {similar[0]!r}? " if similar else ""
    names = "known: " + ", ".join(known) if known else "there is none"
    return UserError(f"unknown {kind} {name!r}; {suggestion}{names}{'; ' + hint if hint else ''}")


def check_name(kind: str, name, known: Iterable[str], hint: str = "") -> None:
    if name not in known:
        raise unknown_name(kind, name, known, hint)


def raise_first(defects: list[str], remedy: str) -> None:
    """Raise a UserError with the first defect, the number of others and the remedy, if there are defects."""
    if defects:
        more = f" (and {len(defects) - 1} more like it)" if len(defects) > 1 else ""
        raise UserError(f"{defects[0]}{more}; {remedy}")


def listed(names: Sequence[str], most: int = 3) -> str:
    """A few names in words: "a, b, c and 4 more"."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def reason(error: BaseException) -> str:
    """What an error says, in one line: a system's words without path and number, or the error's type."""
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__


def short_repr(value) -> str:
    """``repr`` of a value for a message, cut after 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"
