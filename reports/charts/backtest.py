"""Charts of a backtest along the extrapolation factor: errors, coverage of the intervals, and their width."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import altair as alt
import polars as pl

from reports.charts import base
from scaling.backtest_records import MAX_REACH
from scaling.plots import axes
from scaling.plots.axes import AnyChart

FACTOR = "Compute predicted ÷ largest compute fitted"
MOST_POINTS = 1500


def errors(frame: pl.DataFrame, running: pl.DataFrame, laws: Sequence[str]) -> AnyChart:
    """Signed error of every prediction against how far it reaches, with the running median of each law.

    Args:
        frame: columns law, run, cut, factor, error (measured / predicted - 1).
        running: columns law, factor, value.
        laws: names of the laws, in the order of their colours.
    """
    shown = base.thin(frame.sort("factor"), ["law"], MOST_POINTS).select("law", "run", "cut", "factor", "error")
    factors = [*shown["factor"]]
    y = axes.linear_y("error", "Measured ÷ predicted − 1", axis_format="+.1~%")
    dots = alt.Chart(shown).mark_point(filled=True, size=22, opacity=0.35)
    dots = dots.encode(
        x=_factor("factor", factors),
        y=y,
        color=_law(laws),
        tooltip=[
            "law:N",
            "run:N",
            alt.Tooltip("cut:Q", title="fitted below (FLOPs)", format=".3e"),
            alt.Tooltip("factor:Q", title="reach", format=".3~g"),
            alt.Tooltip("error:Q", format="+.2%"),
        ],
    )
    line = _line(running, laws, factors, "Measured ÷ predicted − 1", "+.1~%")
    return axes.layered(_rule({"value": 0.0}), *_reach(factors), dots, line)


def coverage(running: pl.DataFrame, laws: Sequence[str], level: float) -> AnyChart:
    """Share of the predictions inside their interval against how far they reach; the rule is the level.

    Args:
        running: columns law, factor, value.
        laws: names of the laws, in the order of their colours.
        level: level of the intervals.
    """
    factors = [*running["factor"]]
    title = "Predictions inside their interval"
    y = alt.Y("value:Q", title=title, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="~%", tickCount=5))
    line = _line(running, laws, factors, title, "~%").encode(y=y)
    return axes.layered(_rule({"value": level}), *_reach(factors), line, height=240)


def sizes(running: pl.DataFrame, laws: Sequence[str], title: str) -> AnyChart:
    """Something that is a share of the loss and never negative, against how far predictions reach.

    Args:
        running: columns law, factor, value.
        laws: names of the laws, in the order of their colours.
        title: what it is.
    """
    factors = [*running["factor"]]
    y = alt.Y("value:Q", title=title, scale=alt.Scale(zero=True), axis=alt.Axis(format="~%", tickCount=5))
    line = _line(running, laws, factors, title, "~%").encode(y=y)
    return axes.layered(*_reach(factors), line, height=240)


def _law(laws: Sequence[str]) -> alt.Color:
    legend = alt.Legend(title="Law", symbolType="stroke", columns=2)
    return alt.Color("law:N", scale=alt.Scale(domain=list(laws)), sort=None, legend=legend)


def _factor(field: str, factors: Iterable[float]) -> alt.X:
    known = list(factors)
    axis = alt.Axis(values=axes.log_ticks(known), labelExpr="format(datum.value, '~s') + '×'", grid=False)
    scale = alt.Scale(type="log", domain=axes.log_domain(known, pad=0.02), nice=False)
    return alt.X(f"{field}:Q", title=FACTOR, axis=axis, scale=scale)


def _line(
    running: pl.DataFrame, laws: Sequence[str], factors: Iterable[float], title: str, axis_format: str
) -> alt.Chart:
    line = alt.Chart(running).mark_line(strokeWidth=2.4)
    return line.encode(
        x=_factor("factor", factors), y=axes.linear_y("value", title, axis_format=axis_format), color=_law(laws)
    )


def _rule(value: dict[str, float]) -> alt.Chart:
    return (
        alt.Chart(pl.DataFrame({name: [each] for name, each in value.items()}))
        .mark_rule(style="reference")
        .encode(y="value:Q")
    )


def _reach(factors: Sequence[float]) -> list[alt.Chart]:
    """A rule where the ranking of the laws ends; nothing where no prediction reaches that far."""
    if max(factors) <= MAX_REACH:
        return []
    frame = pl.DataFrame({"factor": [MAX_REACH]})
    return [alt.Chart(frame).mark_rule(style="reference").encode(x=_factor("factor", factors))]
