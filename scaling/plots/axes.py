"""What all charts share: size, and axes with powers of ten.

Charts fill the width of their container and are single or layered views, because only those can follow a phone's
width. Neutral colours come from :mod:`scaling.plots.themes` by role. Titles stand in the page, where they can wrap.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TypeAlias, cast

import altair as alt

AnyChart: TypeAlias = alt.Chart | alt.LayerChart

HEIGHT = 320
LOG_LOSS_FROM = 2.5
"""Ratio of the largest to the smallest loss from which its axis is logarithmic."""
ROUND_MANTISSAS = ((1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8), (1, 2, 5), (1, 3), (1,))
"""From fine to coarse."""

_DIGITS = "['⁰','¹','²','³','⁴','⁵','⁶','⁷','⁸','⁹']"
_EXPONENT = "floor(log(datum.value) / LN10 + 1e-9)"
_MANTISSA = f"datum.value / pow(10, {_EXPONENT})"
_RAISED = (
    f"'10' + ({_EXPONENT} < 0 ? '⁻' : '')"
    f" + (abs({_EXPONENT}) >= 10 ? {_DIGITS}[floor(abs({_EXPONENT}) / 10)] : '') + {_DIGITS}[abs({_EXPONENT}) % 10]"
)
POWER_LABEL = f"({_MANTISSA} < 1.001 ? '' : format({_MANTISSA}, '.3~g') + '×') + {_RAISED}"
"""Vega expression that writes an axis value as ``2×10¹⁵``."""


def layered(*layers: alt.Chart, height: int = HEIGHT) -> alt.LayerChart:
    """Layers over each other, as wide as their container and ``height`` pixels high."""
    chart = cast("alt.LayerChart", alt.layer(*layers))
    autosize = alt.AutoSizeParams(type="fit-x", contains="padding")
    return chart.properties(width="container", height=height, autosize=autosize)


def log_ticks(values: Iterable[float], most: int = 7) -> list[float]:
    """Round values, such as 1, 2 or 5 times a power of ten, between the limits of the axis.

    Args:
        values: what the axis has to hold; positive.
        most: no more ticks than this, coarser steps instead.
    """
    known = [value for value in values if value > 0]
    if not known:
        return []
    low, high = log_domain(known)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for mantissas in ROUND_MANTISSAS:
        ticks = [float(f"{m}e{e}") for e in exponents for m in mantissas if low <= float(f"{m}e{e}") <= high]
        if len(ticks) <= most:
            break
    middle = float(f"{math.sqrt(low) * math.sqrt(high):.2e}")
    return ticks[:: math.ceil(len(ticks) / most)] if ticks else [middle]


def log_domain(values: Iterable[float], pad: float = 0.06) -> list[float]:
    """Limits of a logarithmic axis with a little room on both sides."""
    known = [value for value in values if value > 0]
    low, high = math.log10(min(known)), math.log10(max(known))
    room = max((high - low) * pad, 0.03)
    return [10 ** (low - room), 10 ** (high + room)]


def log_x(field: str, title: str, values: Iterable[float]) -> alt.X:
    """A logarithmic x axis labelled with powers of ten."""
    known = list(values)
    axis = alt.Axis(values=log_ticks(known), labelExpr=POWER_LABEL, grid=False)
    return alt.X(
        f"{field}:Q", title=title, axis=axis, scale=alt.Scale(type="log", domain=log_domain(known), nice=False)
    )


def log_y(field: str, title: str, values: Iterable[float]) -> alt.Y:
    """A logarithmic y axis labelled with powers of ten."""
    known = list(values)
    axis = alt.Axis(values=log_ticks(known), labelExpr=POWER_LABEL)
    return alt.Y(
        f"{field}:Q", title=title, axis=axis, scale=alt.Scale(type="log", domain=log_domain(known), nice=False)
    )


def loss_y(field: str, values: Iterable[float], title: str = "Validation loss") -> alt.Y:
    """The axis of a loss: linear, or logarithmic where early losses would flatten the rest.

    Args:
        field: column of the loss.
        values: all losses that the axis has to hold.
        title: what is measured.
    """
    known = [value for value in values if value > 0]
    if not known or max(known) < LOG_LOSS_FROM * min(known):
        return linear_y(field, title)
    axis = alt.Axis(values=log_ticks(known), format="~g")
    scale = alt.Scale(type="log", domain=log_domain(known), nice=False)
    return alt.Y(f"{field}:Q", title=f"{title} (log scale)", axis=axis, scale=scale)


def linear_y(field: str, title: str, *, zero: bool = False, axis_format: str = "~g") -> alt.Y:
    """A linear y axis that need not start at zero."""
    return alt.Y(f"{field}:Q", title=title, scale=alt.Scale(zero=zero), axis=alt.Axis(format=axis_format, tickCount=6))


def linear_x(field: str, title: str, *, zero: bool = False, axis_format: str = "~g") -> alt.X:
    """A linear x axis that need not start at zero."""
    axis = alt.Axis(format=axis_format, grid=False, tickCount=6)
    return alt.X(f"{field}:Q", title=title, scale=alt.Scale(zero=zero), axis=axis)
