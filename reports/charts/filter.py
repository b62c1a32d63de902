"""Charts of a filter: what each cut removes, and how scores are distributed."""

from __future__ import annotations

import altair as alt
import polars as pl

from scaling.plots import axes
from scaling.plots.axes import AnyChart

KEPT = "kept"
HERE = "cut here"
OTHERS = "cut elsewhere"
ONLY = "by this cut alone"
SHARED = "by others too"

_ROW = 34
_LABEL = 200


def removed_by_cut(frame: pl.DataFrame) -> AnyChart:
    """Bars of what every cut removes alone, parted by whether another cut removes it too.

    Args:
        frame: columns cut, kind (`ONLY` or `SHARED`), start, end: in the order of the cuts, a row a cut and kind.
    """
    order = frame["cut"].unique(maintain_order=True).to_list()
    bars = (
        alt.Chart(frame.with_columns(samples=pl.col("end") - pl.col("start")))
        .mark_bar(height={"band": 0.62})
        .encode(
            y=alt.Y("cut:N", title=None, sort=order, axis=alt.Axis(labelLimit=_LABEL, ticks=False, domain=False)),
            x=alt.X("start:Q", title="Samples removed", axis=alt.Axis(format="~s", grid=True, tickCount=5)),
            x2="end",
            color=alt.Color("kind:N", title=None, scale=alt.Scale(domain=[ONLY, SHARED]), legend=_legend(1)),
            tooltip=["cut:N", "kind:N", alt.Tooltip("samples:Q", format=",")],
        )
    )
    return axes.layered(bars, height=60 + _ROW * len(order))


def spread(frame: pl.DataFrame, thresholds: list[float], name: str, *, logarithmic: bool) -> AnyChart:
    """A histogram of a score with the thresholds of its cuts.

    Args:
        frame: columns low, high, kind (`KEPT`, `HERE` or `OTHERS`), start, end: a row a bin and kind, stacked.
        thresholds: of cuts on the score.
        name: of the score.
        logarithmic: whether its axis is.
    """
    edges = [*frame["low"].to_list(), *frame["high"].to_list()]
    bars = (
        alt.Chart(frame.with_columns(samples=pl.col("end") - pl.col("start")))
        .mark_rect()
        .encode(
            x=_axis("low", name, edges, logarithmic=logarithmic),
            x2="high",
            y=alt.Y("start:Q", title="Samples", axis=alt.Axis(format="~s", tickCount=5)),
            y2="end",
            color=alt.Color("kind:N", title=None, scale=alt.Scale(domain=[KEPT, HERE, OTHERS]), legend=_legend(3)),
            tooltip=[
                alt.Tooltip("low:Q", format=".4~g", title="from"),
                alt.Tooltip("high:Q", format=".4~g", title="to"),
                "kind:N",
                alt.Tooltip("samples:Q", format=","),
            ],
        )
    )
    inside = [each for each in thresholds if min(edges) <= each <= max(edges)]
    if not inside:
        return axes.layered(bars, height=220)
    rules = alt.Chart(pl.DataFrame({"threshold": inside})).mark_rule(style="frontier")
    return axes.layered(bars, rules.encode(x="threshold:Q"), height=220)


def _axis(field: str, name: str, edges: list[float], *, logarithmic: bool) -> alt.X:
    domain = [min(edges), max(edges)]
    if logarithmic:
        axis = alt.Axis(values=axes.log_ticks(edges), format="~s", grid=False)
        return alt.X(f"{field}:Q", title=name, axis=axis, scale=alt.Scale(type="log", domain=domain, nice=False))
    axis = alt.Axis(format="~r", grid=False, tickCount=6)
    return alt.X(f"{field}:Q", title=name, axis=axis, scale=alt.Scale(domain=domain, nice=False, zero=False))


def _legend(columns: int) -> alt.Legend:
    return alt.Legend(symbolType="square", columns=columns, labelLimit=0)
