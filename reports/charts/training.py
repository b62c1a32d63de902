"""Charts of training: validation loss against steps, against compute, and per noise level."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import polars as pl

from reports.charts import base
from scaling.plots import axes
from scaling.plots.axes import AnyChart


def _faded(selection: alt.Parameter) -> alt.Opacity:
    return alt.condition(selection, alt.value(1.0), alt.value(0.12))  # pyright: ignore[reportReturnType]


def loss_against_steps(frame: pl.DataFrame, depths: Sequence[int]) -> AnyChart:
    """Validation loss against steps: colour is depth, dashes are the raw weights, one line per run.

    Args:
        frame: columns run, depth, seed, weights, step, loss.
        depths: every depth of the study, so that colours agree between charts.
    """
    chosen = alt.selection_point(fields=["depth"], bind="legend", name="steps_depth")
    dash = alt.StrokeDash(
        "weights:N",
        scale=alt.Scale(domain=["ema", "raw"], range=[[1, 0], [4, 3]]),
        legend=alt.Legend(title="Weights", symbolType="stroke"),
    )
    shared = alt.Chart(base.as_text(frame, "depth")).encode(
        x=axes.linear_x("step", "Training step", zero=True, axis_format="~s"),
        y=axes.loss_y("loss", frame["loss"].to_list()),
        color=base.depth_colour(depths),
        detail=["run:N", "weights:N"],
        opacity=_faded(chosen),
    )
    tooltip = ["run:N", "depth:O", "seed:O", "weights:N", "step:Q", alt.Tooltip("loss:Q", format=".4f")]
    lines = shared.mark_line().encode(strokeDash=dash).add_params(chosen)
    dots = shared.mark_point(filled=True, size=22).encode(tooltip=tooltip)
    return axes.layered(lines, dots)


def loss_against_compute(frame: pl.DataFrame, depths: Sequence[int], frontier: pl.DataFrame | None = None) -> AnyChart:
    """Validation loss against training FLOPs on a logarithmic axis, with the fitted frontier where there is one.

    Args:
        frame: columns run, depth, seed, step, flops, loss, one kind of weights.
        depths: every depth of the study.
        frontier: columns flops, loss: the lowest loss that the fit gives for a compute budget.
    """
    chosen = alt.selection_point(fields=["depth"], bind="legend", name="compute_depth")
    x = axes.log_x("flops", "Training compute (FLOPs)", frame["flops"].to_list())
    y = axes.loss_y("loss", frame["loss"].to_list())
    shared = alt.Chart(base.as_text(frame, "depth")).encode(
        x=x,
        y=y,
        color=base.depth_colour(depths),
        detail="run:N",
        opacity=_faded(chosen),
    )
    tooltip = [
        "run:N",
        "depth:O",
        "seed:O",
        "step:Q",
        alt.Tooltip("flops:Q", format=".3e"),
        alt.Tooltip("loss:Q", format=".4f"),
    ]
    layers = [shared.mark_line().add_params(chosen), shared.mark_point(filled=True, size=22).encode(tooltip=tooltip)]
    if frontier is not None and len(frontier):
        curve = alt.Chart(frontier).mark_line(style="frontier", clip=True)
        layers.append(curve.encode(x=x, y=y))
    return axes.layered(*layers)


def loss_per_level(frame: pl.DataFrame, depths: Sequence[int]) -> AnyChart:
    """Validation loss at every noise level, the last one drawn hollow because the mean leaves it out.

    Args:
        frame: columns run, depth, seed, level (t: 0 is data, 1 is noise), loss, counted (part of the mean).
        depths: every depth of the study.
    """
    shared = alt.Chart(base.as_text(frame, "depth")).encode(
        x=alt.X(
            "level:Q",
            title="Noise level t (0 = data, 1 = noise)",
            axis=alt.Axis(format=".3~f", grid=False, values=sorted(frame["level"].unique().to_list())),
            scale=alt.Scale(domain=[0, 1]),
        ),
        y=axes.linear_y("loss", "Validation loss at level t"),
        color=base.depth_colour(depths),
        detail="run:N",
    )
    tooltip = ["run:N", "depth:O", "seed:O", alt.Tooltip("level:Q", format=".3f"), alt.Tooltip("loss:Q", format=".4f")]
    dots = shared.mark_point(size=44, strokeWidth=1.6, filled=False).encode(
        tooltip=tooltip,
        fill=alt.condition("datum.counted", base.depth_colour(depths).copy(), alt.value("transparent")),
    )
    return axes.layered(shared.mark_line(), dots)
