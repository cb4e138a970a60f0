"""YAML as plain values: no code, no bomb, and no mistake that ends in another error than one line.

    text --plain_yaml--> None, bool, int, float, str, list, dict, date
"""
from itertools import accumulate

import yaml

from .errors import UserError

LONGEST = 100_000                                                    # characters; the sweeps of this project have some 3,000
DEEPEST = 100                                                        # open brackets: the time to read them grows with their third power
MOST_VALUES = 100_000                                                # with every alias written out


def plain_yaml(text: str):
    """The value that a YAML text describes.

    Raises:
        UserError: not YAML, a tag that asks for code, nested without end, too long, or so many aliases that it would not fit written out.
    """
    if len(text) > LONGEST:
        raise UserError(f"must be YAML of at most {LONGEST} characters, got {len(text)}; cut it into several files")
    try:
        if deepest(text) > DEEPEST:
            raise RecursionError
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = f" in line {error.problem_mark.line + 1}" if getattr(error, "problem_mark", None) else ""
        raise UserError(f"must be YAML, got a mistake{where}: {getattr(error, 'problem', error)}; correct it there") from error
    except RecursionError as error:
        raise UserError("must be YAML, got brackets or lists nested without end; correct it") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:          # a date such as 2026-13-45, a number of 5000 digits, !!bool x
        raise UserError(f"must be YAML, got a value that is none: {' '.join(str(error).split())}; put it in quotes, or correct it") from error
    if written_out(value, {}, ()) > MOST_VALUES:
        raise UserError(f"must be YAML of at most {MOST_VALUES} values, got more once its aliases (*name) are written out; use fewer aliases")
    return value


def deepest(text: str) -> int:
    """The most brackets that are open at once, those in quotes and comments among them."""
    steps = (1 if letter in "[{" else -1 for letter in text if letter in "[]{}")
    return max(accumulate(steps), default=0)


def written_out(value, known: dict[int, float], above: tuple[int, ...]) -> float:
    """How many values there would be without aliases; infinite where one holds itself. Shared parts are counted each time and visited once."""
    if not isinstance(value, (dict, list)):
        return 1
    if id(value) in above:
        return float("inf")
    if id(value) not in known:
        parts = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(written_out(each, known, (*above, id(value))) for each in parts)
    return known[id(value)]
