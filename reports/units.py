"""Numbers as a reader sees them: prefixes, powers of ten, durations, intervals.

One file, so that the same quantity is written the same way in a table, a caption and a sentence.
"""

from __future__ import annotations

import math
from datetime import datetime

from scaling.plots.labels import NBSP, NOTHING, power, significant
from scaling.plots.labels import short as short


def flops(value: float | None) -> str:
    """Training FLOPs, always as a power of ten, the way scaling laws are written."""
    return power(value, 3)


def count(value: float | None) -> str:
    """A whole number with thin spaces between groups of three digits."""
    return NOTHING if value is None or math.isnan(value) else f"{round(value):,}".replace(",", "\u202f")


def loss(value: float | None) -> str:
    """A validation loss, four decimals: runs differ in the third."""
    return NOTHING if value is None or math.isnan(value) else f"{value:.4f}"


def percent(value: float | None, digits: int = 1, signed: bool = False) -> str:
    """A share of one as per cent; ``signed`` writes the plus too, for relative errors."""
    if value is None or math.isnan(value):
        return NOTHING
    sign = "+" if signed else ""
    return f"{100 * value:{sign}.{digits}f}{NBSP}%".replace("-", "−")


def share(value: float, stderr: float) -> str:
    """A share of one with its standard error, in per cent: ``65.8 ± 3.4 %``."""
    return f"{100 * value:.1f} ± {100 * stderr:.1f}{NBSP}%"


def interval(bounds: tuple[float, float] | None, digits: int = 3) -> str:
    """An interval as ``[low, high]``."""
    return NOTHING if bounds is None else f"[{significant(bounds[0], digits)}, {significant(bounds[1], digits)}]"


def duration(seconds: float | None) -> str:
    """Wall time in the two largest units that matter: ``3 h 12 min``, ``4 min 05 s``, ``8.4 s``."""
    if seconds is None or math.isnan(seconds):
        return NOTHING
    if seconds < 59.95:
        return f"{seconds:.1f}{NBSP}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{NBSP}min {rest:02d}{NBSP}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}{NBSP}h {minutes:02d}{NBSP}min" if hours < 48 else f"{hours // 24}{NBSP}d {hours % 24}{NBSP}h"


def moment(stamp: str | None) -> str:
    """An ISO 8601 time to the minute, in its own zone; text that is not a time is given back as it is."""
    if not stamp:
        return NOTHING
    try:
        parsed = datetime.fromisoformat(stamp)
    except ValueError:
        return stamp
    return f"{parsed:%Y-%m-%d %H:%M} {parsed.tzname() or ''}".strip()


def listing(words: list[str]) -> str:
    """Words joined as in a sentence: ``a``, ``a and b``, ``a, b and c``."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def plural(number: int, noun: str, many: str | None = None) -> str:
    """A count with its noun: ``1 run``, ``3 runs``."""
    return f"{number} {noun if number == 1 else many or noun + 's'}"
