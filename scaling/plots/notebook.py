"""Charts of a fit for a notebook: the same as on the pages, with a width and a theme of their own."""

from __future__ import annotations

from typing import Any, Literal, cast, get_args

from scaling.errors import FitInputError
from scaling.plots import charts
from scaling.plots.axes import AnyChart
from scaling.plots.frames import axis_title, fit_frames, frontier_frame, frontier_lines, optimal_frame, points_frame
from scaling.plots.themes import LIGHT, vega_config
from scaling.results import FitResult

Kind = Literal["fit", "residuals", "frontier"]
WIDTH = 620


def plot(result: FitResult, kind: Kind = "fit") -> AnyChart:
    """A chart of a fit.

    Args:
        result: the fit; its points have to be at hand for "fit" and "residuals".
        kind: "fit" for points, fitted curves with the interval for a new run, and the compute-optimal line;
            "residuals"; or "frontier" for the compute-optimal sizes against compute.

    Raises:
        FitInputError: no such kind, no points, or no frontier.
    """
    if kind not in get_args(Kind):
        raise FitInputError(f"no chart is called '{kind}': valid: {', '.join(get_args(Kind))}")
    chart = _frontier(result) if kind == "frontier" else _points(result, kind)
    config: dict[str, Any] = {**vega_config(LIGHT), "background": "white"}
    del config["legend"]["layout"]  # altair's schema lacks it, and only a page that changes its width needs it
    return cast(Any, chart.properties(width=WIDTH)).configure(**config)


def _points(result: FitResult, kind: Kind) -> AnyChart:
    frames = fit_frames(result, points_frame(result.known_points()))
    if kind == "residuals":
        return charts.residuals(frames.points, frames.groups, frames.group_title)
    title = axis_title(result, frames.axis)
    optimal = optimal_frame(result, frames)
    return charts.fitted_curves(frames.points, frames.curves, frames.groups, frames.group_title, title, optimal)


def _frontier(result: FitResult) -> AnyChart:
    frame = frontier_frame(result)
    if frame is None:
        raise FitInputError(f"law '{result.law}' with these points has no frontier: it needs params, data and compute")
    lines = frontier_lines(result, frame)
    return charts.frontier(lines, result.provenance.data_unit, result.observed["flops"][1])
