"""Charts that hold a fit to account: predicted against measured, and how far off each prediction was."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import polars as pl

from reports.charts import base
from scaling.plots import axes
from scaling.plots.axes import AnyChart

ROLES = ("in the fit", "held out")
ROLE_SIZE = alt.condition(f"datum.role == '{ROLES[0]}'", alt.value(55), alt.value(150))


def _role(legend: alt.Legend | None) -> alt.Shape:
    """Circles for runs that were fitted, diamonds for those that were predicted."""
    return alt.Shape("role:N", scale=alt.Scale(domain=list(ROLES), range=["circle", "diamond"]), legend=legend)


def predicted_against_measured(frame: pl.DataFrame, depths: Sequence[int]) -> AnyChart:
    """Predicted against measured loss with the interval of each prediction; the diagonal is a perfect prediction.

    Args:
        frame: columns run, depth, predicted, low, high, measured, role ("in the fit" or "held out").
        depths: every depth of the study.
    """
    values = [*frame["predicted"], *frame["measured"], *frame["low"].drop_nulls(), *frame["high"].drop_nulls()]
    room = 0.04 * (max(values) - min(values)) or 0.01
    ends = [min(values) - room, max(values) + room]
    scale = alt.Scale(domain=ends, nice=False, zero=False)
    axis = alt.Axis(format="~g", tickCount=6)
    x = alt.X("measured:Q", title="Measured validation loss", scale=scale, axis=axis)
    y = alt.Y("predicted:Q", title="Predicted validation loss", scale=scale, axis=axis)
    diagonal = (
        alt.Chart(pl.DataFrame({"measured": ends, "predicted": ends})).mark_line(style="reference").encode(x=x, y=y)
    )
    shared = alt.Chart(base.as_text(frame, "depth")).encode(x=x, color=base.depth_colour(depths, "circle"))
    low = alt.Y("low:Q", title="Predicted validation loss", scale=scale, axis=axis)
    whiskers = shared.mark_rule(strokeWidth=2).encode(y=low, y2="high:Q")
    numbers = [alt.Tooltip(f"{name}:Q", format=".4f") for name in ("predicted", "low", "high", "measured")]
    dots = shared.mark_point(filled=True, opacity=1).encode(
        y=y,
        shape=_role(alt.Legend(title="Runs", columns=1)),
        size=ROLE_SIZE,
        tooltip=["run:N", "depth:O", "role:N", *numbers],
    )
    return axes.layered(diagonal, whiskers, dots, height=380)


def prediction_errors(frame: pl.DataFrame, depths: Sequence[int]) -> AnyChart:
    """Measured over predicted loss, minus one, of every run, with the interval of its prediction around zero.

    Args:
        frame: columns run, label, depth, error, low, high, role ("in the fit" or "held out").
        depths: every depth of the study.
    """
    labels = frame["label"].to_list()
    y = alt.Y("label:N", title=None, sort=labels, axis=alt.Axis(domain=False, ticks=False, grid=True, labelPadding=10))
    title = "Measured ÷ predicted − 1"
    axis = alt.Axis(format="+.1~%", tickCount=5, grid=False)
    shared = alt.Chart(base.as_text(frame, "depth")).encode(y=y, color=base.depth_colour(depths, "circle"))
    zero = alt.Chart(pl.DataFrame({"error": [0.0]})).mark_rule(style="reference").encode(x="error:Q")
    bars = shared.mark_rule(strokeWidth=7, opacity=0.3).encode(x=alt.X("low:Q", title=title, axis=axis), x2="high:Q")
    numbers = [alt.Tooltip(f"{name}:Q", format="+.2%") for name in ("error", "low", "high")]
    dots = shared.mark_point(filled=True, opacity=1).encode(
        x=alt.X("error:Q", title=title, axis=axis),
        shape=_role(None),
        size=ROLE_SIZE,
        tooltip=["run:N", "role:N", *numbers],
    )
    return axes.layered(zero, bars, dots, height=26 * max(len(labels), 3))
