"""Charts of a fit: curves with their intervals, the compute-optimal frontier, residuals, predicted against measured.

All take frames, so that the statistics stay in :mod:`scaling` and the evaluation of a fit in :mod:`reports.fit_frames`.
"""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import polars as pl

from reports.charts import base
from reports.page import AnyChart

ROLES = ("in the fit", "held out")
ROLE_SIZE = alt.condition(f"datum.role == '{ROLES[0]}'", alt.value(55), alt.value(150))
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


def _role(legend: alt.Legend | None) -> alt.Shape:
    """Circles for runs that were fitted, diamonds for those that were predicted."""
    return alt.Shape("role:N", scale=alt.Scale(domain=list(ROLES), range=["circle", "diamond"]), legend=legend)


def fitted_curves(
    points: pl.DataFrame, curves: pl.DataFrame, groups: Sequence[str], group_title: str, x_title: str
) -> AnyChart:
    """Measured points and the fitted curve of every group, with the interval for a new run as a band.

    Args:
        points: columns group, params, x, loss, used ("fitted" or "held out").
        curves: columns group, params, x, loss, low, high; interval columns may be null.
        groups: the model sizes in ascending order; empty colours by params.
        group_title: what a group is, for the legend.
        x_title: what x is, with its unit.
    """
    colour = size_colour(points, groups, group_title)
    x = base.log_x("x", x_title, [*points["x"].to_list(), *curves["x"].to_list()])
    losses = [*points["loss"], *curves["loss"], *curves["low"].drop_nulls(), *curves["high"].drop_nulls()]
    y, low = base.loss_y("loss", losses), base.loss_y("low", losses)
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
    return base.layered(
        band, line, dots.encode(x=x, y=y, color=colour, tooltip=tooltip, shape=_used(points), size=USED_SIZE)
    )


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
    x = base.log_x("flops", "Training compute (FLOPs)", frame["flops"].to_list())
    lines = (
        alt.Chart(frame)
        .mark_line(strokeWidth=2.2)
        .encode(
            x=x,
            y=base.log_y("value", f"Params or {data_name}", frame["value"].to_list()),
            color=colour,
            strokeDash=alt.StrokeDash("quantity:N", legend=None, scale=alt.Scale(range=[[1, 0], [6, 3]])),
            tooltip=["quantity:N", alt.Tooltip("flops:Q", format=".3e"), alt.Tooltip("value:Q", format=".3s")],
        )
    )
    rule = alt.Chart(pl.DataFrame({"flops": [measured_to]})).mark_rule(style="reference").encode(x=x)
    return base.layered(rule, lines)


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
            x=base.linear_x("predicted", "Fitted loss"),
            y=base.linear_y("residual", "Measured ÷ fitted − 1", axis_format="+.1~%"),
            color=size_colour(frame, groups, group_title, "circle"),
            tooltip=[
                alt.Tooltip("group:O", title=group_title),
                alt.Tooltip("predicted:Q", format=".4f"),
                alt.Tooltip("residual:Q", format="+.2%"),
            ],
        )
    )
    return base.layered(zero, dots, height=240)


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
    return base.layered(diagonal, whiskers, dots, height=380)


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
    return base.layered(zero, bars, dots, height=26 * max(len(labels), 3))
