"""The errors that a user can mend: the command line prints them without a traceback and exits with 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """Bad input. The message names the file, key or row, what is wrong there and what would be right."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """A hint for a mistyped name: the nearest valid one, or the list of all valid ones.

    Args:
        name: what the user wrote.
        valid: the names that would have been right.

    Returns:
        A sentence part such as ``did you mean 'depth'?`` or ``valid: a, b, c``.
    """
    choices = sorted(valid)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    return "valid: " + ", ".join(choices)
