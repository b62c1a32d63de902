"""The registry of laws. A new law is one file beside these and one entry in ``_ALL``."""

from __future__ import annotations

import difflib

from scaling.errors import FitInputError
from scaling.laws.base import Law
from scaling.laws.broken import BROKEN
from scaling.laws.chinchilla import CHINCHILLA
from scaling.laws.coupled import COUPLED
from scaling.laws.data_constrained import DATA_CONSTRAINED
from scaling.laws.kaplan import KAPLAN
from scaling.laws.overtraining import OVERTRAINING
from scaling.laws.power import POWER
from scaling.laws.power_floor import POWER_FLOOR
from scaling.laws.tied import TIED

_ALL: tuple[Law, ...] = (
    CHINCHILLA,
    TIED,
    COUPLED,
    KAPLAN,
    OVERTRAINING,
    DATA_CONSTRAINED,
    *POWER_FLOOR,
    *POWER,
    *BROKEN,
)
LAWS: dict[str, Law] = {law.name: law for law in _ALL}

__all__ = ["LAWS", "Law", "get_law"]


def get_law(name: str) -> Law:
    """The law of that name.

    Raises:
        FitInputError: there is none; the message offers the nearest names.
    """
    if name in LAWS:
        return LAWS[name]
    family = [known for known in LAWS if known.startswith(f"{name}:")]
    if family:
        raise FitInputError(f"law '{name}' needs its axis: write one of {', '.join(family)}")
    close = difflib.get_close_matches(name, LAWS, n=1, cutoff=0.4)
    hint = f"did you mean '{close[0]}'? " if close else ""
    raise FitInputError(f"no law is called '{name}': {hint}valid: {', '.join(LAWS)}")
