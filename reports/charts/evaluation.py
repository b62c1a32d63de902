"""Charts of evaluation: does validation loss say what GenEval says, and which task needs which depth."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import polars as pl

from reports.charts import base
from scaling.plots import axes
from scaling.plots.axes import AnyChart


def loss_against_geneval(frame: pl.DataFrame, depths: Sequence[int]) -> AnyChart:
    """GenEval overall against validation loss: one point per evaluated checkpoint, with its standard error.

    Args:
        frame: columns run, depth, seed, step, loss, value, low, high (value minus and plus a standard error).
        depths: every depth of the study.
    """
    top = max([0.05, *frame["high"].drop_nulls().to_list()])
    scale, axis = alt.Scale(domain=[0, min(top * 1.05, 1)]), alt.Axis(format=".0%", tickCount=6)
    y = alt.Y("value:Q", title="GenEval overall", scale=scale, axis=axis)
    low = alt.Y("low:Q", title="GenEval overall", scale=scale, axis=axis)
    shared = alt.Chart(base.as_text(frame, "depth")).encode(
        x=axes.linear_x("loss", "Validation loss"), color=base.depth_colour(depths, "circle")
    )
    bars = shared.mark_rule(strokeWidth=1.4).encode(y=low, y2="high:Q")
    tooltip = [
        "run:N",
        "depth:O",
        "seed:O",
        "step:Q",
        alt.Tooltip("loss:Q", format=".4f"),
        alt.Tooltip("value:Q", format=".1%"),
    ]
    dots = shared.mark_point(size=60, filled=True, opacity=1).encode(y=y, tooltip=tooltip)
    return axes.layered(bars, dots)


def geneval_per_task(frame: pl.DataFrame, depths: Sequence[int], tasks: Sequence[str]) -> AnyChart:
    """GenEval per task: one point per run with its standard error, runs ordered by depth within each task.

    Args:
        frame: columns run, depth, seed, series (sorts by depth then seed), task, value, low, high.
        depths: every depth of the study.
        tasks: the tasks from top to bottom.
    """
    series = sorted(frame["series"].unique().to_list())
    x_axis = alt.Axis(format=".0%", tickCount=5)
    shared = alt.Chart(base.as_text(frame, "depth")).encode(
        y=alt.Y(
            "task:N",
            title=None,
            sort=list(tasks),
            scale=alt.Scale(paddingInner=0.3),
            axis=alt.Axis(domain=False, ticks=False, labelPadding=10),
        ),
        yOffset=alt.YOffset("series:N", sort=series, scale=alt.Scale(domain=series)),
        color=base.depth_colour(depths, "circle"),
    )
    scale = alt.Scale(domain=[0, 1], clamp=True)
    low = alt.X("low:Q", title="Share of images that are correct", scale=scale, axis=x_axis)
    bars = shared.mark_rule(strokeWidth=1.6).encode(x=low, x2="high:Q")
    tooltip = ["run:N", "depth:O", "seed:O", "task:N", alt.Tooltip("value:Q", format=".1%"), "n:Q"]
    value = alt.X("value:Q", title="Share of images that are correct", scale=scale, axis=x_axis)
    dots = shared.mark_point(size=46, filled=True, opacity=1).encode(x=value, tooltip=tooltip)
    height = max(26, 9 * len(series) + 12) * len(tasks)
    return axes.layered(bars, dots, height=height)
