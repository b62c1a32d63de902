"""Numbers and terminals for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

WIDTH_OF_NO_TERMINAL = 140

_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def number(value: float) -> str:
    """A count with three digits: 3.59M; a power of ten from 1e15 on; small whole numbers as they are.

    Args:
        value: not negative.
    """
    if value >= 1e15:
        return f"{value:.2e}"
    for size, unit in _UNITS:
        if value >= size * 10 or (value >= size and value != int(value)) or value >= 1e6 == size:
            return f"{value / size:.3g}{unit}"
    return f"{value:g}"


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
