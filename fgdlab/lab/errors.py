"""One exception for every mistake that a user can make and mend."""
import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something outside the program must change. The message is one line: what must be, what came, what to do.

    The command line prints the message and exits with 1; a notebook shows it as the last line of the error.
    """


def unknown_name(kind: str, name: str, known: Iterable[str], hint: str = "") -> UserError:
    """An error for a misspelt name, with the nearest known one as a suggestion.

    Args:
        kind: what the name stands for, e.g. "parameter" or "sweep".
        known: every name that would do.
        hint: what to do, added at the end.
    """
    known = [str(each) for each in known]
    near = difflib.get_close_matches(str(name), known, n=1)
    meant = f"did you mean {near[0]!r}? " if near else ""
    return UserError(f"unknown {kind} {name!r}; {meant}{'known: ' + ', '.join(known) if known else 'there is none'}{'; ' + hint if hint else ''}")
