"""The one error that the statistics raise for data that cannot be fitted."""

from __future__ import annotations


class FitInputError(ValueError):
    """Points, a law or an option with which no fit is possible; the message says what would be right."""
