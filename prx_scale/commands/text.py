"""Numbers and terminals for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prx_scale.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

WIDTH_OF_NO_TERMINAL = 140

SUFFIXES = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}
"""Powers of a thousand as people write them, in lower case."""

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


def counted(count: int, noun: str) -> str:
    """A number of things: 1 shard, 1,200 shards.

    Args:
        count: of them.
        noun: for one.
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def with_interval(value: float, interval: tuple[float, float]) -> str:
    """A count and its interval: 2.79G (2.51G-3.11G); the count alone where the interval is nan.

    Args:
        value: not negative.
        interval: lower and upper end.
    """
    low, high = interval
    return number(value) if low != low else f"{number(value)} ({number(low)}-{number(high)})"


def parse_quantity(text: str, where: str) -> float:
    """Read ``1.3B``, ``40M``, ``5e22``: K, M, B (or G) and T are powers of a thousand.

    Raises:
        InputError: not a positive number.
    """
    factor = SUFFIXES.get(text[-1:].lower(), 1.0)
    digits = text[:-1] if text[-1:].lower() in SUFFIXES else text
    try:
        number = float(digits) * factor
    except ValueError:
        raise InputError(f"{where}: '{text}' is not a number; write 1.3B, 40M or 5e22") from None
    if not 0 < number < float("inf"):
        raise InputError(f"{where}: '{text}' must be positive and finite")
    return number


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


def plain_console(*, stderr: bool = False) -> Console:
    """A console that does not colour words by guess and, into a file, does not break lines at 80 characters.

    Args:
        stderr: of the standard error instead of the standard output.
    """
    from rich.console import Console

    width = None if Console(stderr=stderr).is_terminal else WIDTH_OF_NO_TERMINAL
    return Console(highlight=False, width=width, stderr=stderr)
