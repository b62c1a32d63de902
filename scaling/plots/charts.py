"""Charts of a fit: curves with their intervals, the compute-optimal frontier, residuals.

All take frames; :mod:`scaling.plots.frames` evaluates a fit into them.
"""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import polars as pl

from scaling.plots import axes
from scaling.plots.axes import AnyChart

USED_SIZE = alt.condition("datum.used == 'fitted'", alt.value(34), alt.value(130))


def size_colour(points: pl.DataFrame, groups: Sequence[str], title: str, symbol: str = "stroke") -> alt.Color:
    """Colour of model sizes: one ordered hue per group, or a continuous one over ``params`` without groups."""
    if not groups:
        short = "replace(datum.label, 'G', 'B')"
        ramp = alt.Legend(title=title, type="gradient", format="~s", labelExpr=short, tickCount=4)
        return alt.Color("params:Q", scale=_size_scale(points), legend=ramp)
    keys = alt.Legend(title=title, symbolType=symbol, columns=min(len(groups), 6 if title == "Depth" else 3))
    return alt.Color("group:O", scale=alt.Scale(domain=list(groups)), sort=None, legend=keys)


def _size_stroke(points: pl.DataFrame) -> alt.Stroke:
    """The continuous colour of sizes for lines.

    Vega-Lite merges legends of equal domains, and a merged one is a row of symbols, not a ramp; a domain that
    differs in the ninth digit keeps the legend of the points to themselves.
    """
    return alt.Stroke("params:Q", scale=_size_scale(points, 1 + 1e-9), legend=None)


def _size_scale(points: pl.DataFrame, room: float = 1.0) -> alt.Scale:
    sizes = points["params"].to_numpy()
    return alt.Scale(type="log", domain=[float(sizes.min()) / room, float(sizes.max()) * room])


def _used(points: pl.DataFrame) -> alt.Shape:
    """Circles for fitted points, diamonds for held-out ones; a legend only where there are both."""
    return alt.Shape(
        "used:N",
        scale=alt.Scale(domain=["fitted", "held out"], range=["circle", "diamond"]),
        legend=alt.Legend(title="Points") if points["used"].n_unique() > 1 else None,
    )


def fitted_curves(
    points: pl.DataFrame,
    curves: pl.DataFrame,
    groups: Sequence[str],
    group_title: str,
    x_title: str,
    optimal: pl.DataFrame | None = None,
) -> AnyChart:
    """Measured points and the fitted curve of every group, with the interval for a new run as a band.

    Args:
        points: columns group, params, x, loss, used ("fitted" or "held out").
        curves: columns group, params, x, loss, low, high; interval columns may be null.
        groups: the model sizes in ascending order; empty colours by params.
        group_title: what a group is, for the legend.
        x_title: what x is, with its unit.
        optimal: columns x, loss of the compute-optimal runs, drawn as a broken line.
    """
    colour = size_colour(points, groups, group_title)
    x = axes.log_x("x", x_title, [*points["x"].to_list(), *curves["x"].to_list()])
    losses = [*points["loss"], *curves["loss"], *curves["low"].drop_nulls(), *curves["high"].drop_nulls()]
    y, low = axes.loss_y("loss", losses), axes.loss_y("low", losses)
    band = alt.Chart(curves).mark_area(opacity=0.13).encode(x=x, y=low, y2="high:Q", detail="group:N")
    line = alt.Chart(curves).mark_line(strokeWidth=1.6, strokeDash=[1, 0], style="frontier")
    line = line.encode(x=x, y=y, detail="group:N")
    if curves["group"].n_unique() > 1:
        band = band.encode(color=colour)
        line = line.encode(color=colour) if groups else line.encode(stroke=_size_stroke(points))
    tooltip = [
        alt.Tooltip("group:O", title=group_title),
        alt.Tooltip("x:Q", title=x_title, format=".3s"),
        alt.Tooltip("loss:Q", title="measured", format=".4f"),
    ]
    dots = alt.Chart(points).mark_point(filled=True, opacity=0.85)
    dots = dots.encode(x=x, y=y, color=colour, tooltip=tooltip, shape=_used(points), size=USED_SIZE)
    best = [] if optimal is None else [alt.Chart(optimal).mark_line(style="frontier").encode(x=x, y=y, order="x:Q")]
    return axes.layered(band, line, *best, dots)


def frontier(frame: pl.DataFrame, data_name: str, measured_to: float) -> AnyChart:
    """Compute-optimal model size and amount of data against compute, both axes logarithmic.

    Args:
        frame: columns flops, quantity (params or the unit of data), value.
        data_name: the unit of data, samples or tokens.
        measured_to: the largest measured compute, marked by a rule.
    """
    colour = alt.Color(
        "quantity:N",
        scale=alt.Scale(domain=["params", data_name]),
        legend=alt.Legend(title="Compute-optimal", symbolType="stroke"),
    )
    x = axes.log_x("flops", "Training compute (FLOPs)", frame["flops"].to_list())
    lines = (
        alt.Chart(frame)
        .mark_line(strokeWidth=2.2)
        .encode(
            x=x,
            y=axes.log_y("value", f"Params or {data_name}", frame["value"].to_list()),
            color=colour,
            strokeDash=alt.StrokeDash("quantity:N", legend=None, scale=alt.Scale(range=[[1, 0], [6, 3]])),
            tooltip=["quantity:N", alt.Tooltip("flops:Q", format=".3e"), alt.Tooltip("value:Q", format=".3s")],
        )
    )
    rule = alt.Chart(pl.DataFrame({"flops": [measured_to]})).mark_rule(style="reference").encode(x=x)
    return axes.layered(rule, lines)


def residuals(frame: pl.DataFrame, groups: Sequence[str], group_title: str) -> AnyChart:
    """Relative residual of every point against the fitted loss: what the law does not explain should look like noise.

    Args:
        frame: columns group, predicted, residual (measured / predicted - 1), used.
        groups: the model sizes in ascending order; empty colours by params.
        group_title: what a group is, for the legend.
    """
    zero = alt.Chart(pl.DataFrame({"residual": [0.0]})).mark_rule(style="reference").encode(y="residual:Q")
    dots = (
        alt.Chart(frame)
        .mark_point(filled=True, opacity=0.85)
        .encode(
            shape=_used(frame),
            size=USED_SIZE,
            x=axes.linear_x("predicted", "Fitted loss"),
            y=axes.linear_y("residual", "Measured ÷ fitted − 1", axis_format="+.1~%"),
            color=size_colour(frame, groups, group_title, "circle"),
            tooltip=[
                alt.Tooltip("group:O", title=group_title),
                alt.Tooltip("predicted:Q", format=".4f"),
                alt.Tooltip("residual:Q", format="+.2%"),
            ],
        )
    )
    return axes.layered(zero, dots, height=240)
