"""Numbers as a reader sees them: prefixes, powers of ten, durations, intervals.

One file, so that the same quantity is written the same way in a table, a caption and a sentence.
"""

from __future__ import annotations

import math
from datetime import datetime

SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
PREFIXES = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
"""As the field writes sizes: 8 B params, 1.4 T tokens."""
NOTHING = "–"
NBSP = "\u00a0"
"""Between a number and its unit, so that no line breaks there."""


def significant(value: float | None, digits: int = 4) -> str:
    """A number with a fixed count of significant digits, without trailing exponent noise.

    Args:
        value: the number; None and NaN become a dash.
        digits: significant digits to keep.
    """
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    exponent = int(f"{value:.{digits - 1}e}".split("e")[1])
    if exponent < -4 or exponent >= 6:
        return power(value, digits)
    text = f"{value:.{max(digits - 1 - exponent, 0)}f}"
    return text.replace("-", "−")


def power(value: float | None, digits: int = 3) -> str:
    """A number as mantissa times a power of ten, such as ``3.21 × 10¹⁵``."""
    if value is None or math.isnan(value):
        return NOTHING
    if value == 0 or math.isinf(value):
        return "0" if value == 0 else "∞"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    raised = f"10{str(int(exponent)).translate(SUPERSCRIPTS)}"
    return f"{mantissa}{NBSP}×{NBSP}{raised}".replace("-", "−")


def short(value: float | None, digits: int = 3) -> str:
    """A count with a prefix: 1234567 is ``1.23 M``; below a thousand it is written out."""
    if value is None or math.isnan(value):
        return NOTHING
    for scale, prefix in PREFIXES:
        if abs(value) >= scale * 0.9995:
            return f"{significant(value / scale, digits)}{NBSP}{prefix}"
    return f"{value:.0f}" if float(value).is_integer() else significant(value, digits)


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
