"""The chart of a learning-rate sweep: final loss against the rate, a line for each size."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import polars as pl

from scaling.plots import axes
from scaling.plots.axes import AnyChart


def loss_against_rate(
    frame: pl.DataFrame, best: pl.DataFrame, sizes: Sequence[str], title: str, rates: Sequence[float], top: float
) -> AnyChart:
    """Final loss against the learning rate: points are runs, lines the mean over seeds, diamonds the best rates.

    Args:
        frame: columns size, lr, seed, run, loss.
        best: columns size, lr, loss.
        sizes: in ascending order.
        title: what a size is, for the legend.
        rates: rates that the axis has to hold.
        top: losses that the axis has to hold end here.
    """
    x = axes.log_x("lr", "Learning rate", rates)
    losses = [*frame["loss"], *best["loss"], top]
    y = axes.loss_y("loss", losses, "Final validation loss")
    legend = alt.Legend(title=title, symbolType="stroke", columns=min(len(sizes), 4))
    colour = alt.Color("size:O", scale=alt.Scale(domain=[*sizes]), sort=None, legend=legend)
    means = frame.group_by("size", "lr", maintain_order=True).agg(pl.col("loss").mean())
    lines = alt.Chart(means).mark_line().encode(x=x, y=y, color=colour)
    tooltip = ["size:O", alt.Tooltip("lr:Q", format=".3~g"), "seed:O", "run:N", alt.Tooltip("loss:Q", format=".4f")]
    dots = alt.Chart(frame).mark_point(filled=True, size=26, opacity=0.6)
    dots = dots.encode(x=x, y=y, color=colour, tooltip=tooltip)
    marks = alt.Chart(best).mark_point(shape="diamond", filled=True, size=150, opacity=1)
    marks = marks.encode(x=x, y=y, color=colour, tooltip=["size:O", alt.Tooltip("lr:Q", title="best", format=".3~g")])
    return axes.layered(lines, dots, marks)
