"""Numbers on charts and pages: significant digits, powers of ten, prefixes as the field writes sizes."""

from __future__ import annotations

import math

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
