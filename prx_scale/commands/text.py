"""Numbers and terminals for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

WIDTH_OF_NO_TERMINAL = 140

_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def number(value: float) -> str:
    """A count with three digits: 3.59M; a power of ten from 1e15 on; whole numbers below 10,000 as they are.

    Args:
        value: not negative.
    """
    if value >= 1e15:
        return f"{value:.2e}"
    if value < 10_000 and value == int(value):
        return f"{value:.0f}"
    for size, unit in _UNITS:
        # What rounds to 1000 of a unit is 1 of the next.
        if value >= size * 0.9995:
            scaled = value / size
            return f"{scaled:.{2 if scaled < 9.995 else 1 if scaled < 99.95 else 0}f}{unit}"
    return f"{value:.3g}"


def duration(seconds: float | None) -> str:
    """Minutes and seconds, or hours and minutes; empty where unknown.

    Args:
        seconds: None where unknown.
    """
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d}"
    return f"{minutes // 60}h{minutes % 60:02d}"


def plain_console() -> Console:
    """A console that does not colour words by guess and, into a file, does not break lines at 80 characters."""
    from rich.console import Console

    return Console(highlight=False, width=None if Console().is_terminal else WIDTH_OF_NO_TERMINAL)
