"""A fit evaluated into frames for its charts: points, curves with intervals, frontier, residuals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from scaling.laws import get_law
from scaling.plots.labels import short
from scaling.points import AXES, FloatArray, Points
from scaling.results import FitResult

Axis = Literal["data", "params", "flops", "steps"]
MOST_GROUPS = 6
CURVE_POINTS = 48


@dataclass(frozen=True, kw_only=True)
class FitFrames:
    """A fit as its charts want it."""

    points: pl.DataFrame
    """Columns params, group, x, loss, predicted, residual, used ("fitted" or "held out")."""
    curves: pl.DataFrame
    """Columns params, group, x, loss, low, high."""
    axis: Axis
    groups: tuple[str, ...]
    """Model sizes in ascending order where there are few; empty where size is a continuous colour."""
    group_title: str


def points_frame(points: Points) -> pl.DataFrame:
    """The points of a fit as a frame with a column of every axis, null where it was not recorded, and loss."""
    axes = {axis: getattr(points, axis) for axis in AXES}
    frame = pl.DataFrame({"loss": points.loss, **{axis: values for axis, values in axes.items() if values is not None}})
    return frame.with_columns(
        pl.lit(None, dtype=pl.Float64).alias(axis) for axis, values in axes.items() if values is None
    )


def fit_frames(result: FitResult, measured: pl.DataFrame, heldout: pl.DataFrame | None = None) -> FitFrames:
    """Evaluate a fit at its points and along one curve per model size.

    Args:
        result: the fit.
        measured: columns loss, the axes of the law (compute may follow from params and data) and, where sizes are
            depths, depth.
        heldout: the same columns for points that were predicted, not fitted.
    """
    frames = [measured.with_columns(used=pl.lit("fitted"))]
    if heldout is not None and len(heldout):
        frames.append(heldout.with_columns(used=pl.lit("held out")))
    rows = _rows(frames, result.provenance.flops_per)
    axis = curve_axis(result)
    rows, groups, title = _grouped(rows, axis)
    known = [name for name in get_law(result.law).axes if rows[name].null_count() < len(rows)]
    predicted = result.predict(**{name: rows[name].to_numpy() for name in known})
    rows = rows.with_columns(x=pl.col(axis), predicted=pl.Series(predicted))
    rows = rows.with_columns(residual=pl.col("loss") / pl.col("predicted") - 1)
    return FitFrames(points=rows, curves=_curves(result, rows, axis), axis=axis, groups=groups, group_title=title)


def _rows(frames: list[pl.DataFrame], flops_per: float | None) -> pl.DataFrame:
    """Frames of points one below the other: every axis as a column, loss, used, and depth where there is one."""
    wanted = ("loss", *AXES, "depth", "used")
    picked = [frame.select(name for name in wanted if name in frame.columns) for frame in frames]
    typed = [
        frame.with_columns(pl.col(name).cast(pl.Float64) for name in AXES if name in frame.columns) for frame in picked
    ]
    rows = pl.concat(typed, how="diagonal")
    absent = [pl.lit(None, dtype=pl.Float64).alias(name) for name in AXES if name not in rows.columns]
    rows = rows.with_columns(absent)
    counted = pl.lit(flops_per, dtype=pl.Float64) * pl.col("params") * pl.col("data")
    return rows.with_columns(flops=pl.coalesce("flops", counted))


def curve_axis(result: FitResult) -> Axis:
    """What a curve of this law runs along: data where the law knows it, else its only axis."""
    axes = get_law(result.law).axes
    ordered: tuple[Axis, ...] = ("data", "flops", "steps", "params")
    return next(axis for axis in ordered if axis in axes)


def axis_title(result: FitResult, axis: Axis) -> str:
    """The title of that axis with its unit."""
    unit = result.provenance.data_unit
    titles = {"data": f"Training {unit}", "params": "Params", "flops": "Training compute (FLOPs)", "steps": "Steps"}
    return titles[axis]


def _grouped(rows: pl.DataFrame, axis: Axis) -> tuple[pl.DataFrame, tuple[str, ...], str]:
    """Name the model size of every row: by depth where it is known, by params where there are few.

    One name for all where the size was not recorded.
    """
    if "depth" in rows.columns:
        groups = tuple(str(depth) for depth in sorted(rows["depth"].unique()))
        return rows.with_columns(group=pl.col("depth").cast(pl.String)), groups, "Depth"
    if rows["params"].null_count():
        return rows.with_columns(group=pl.lit("measured")), ("measured",), "Points"
    sizes = sorted(rows["params"].unique().to_list())
    names = {size: short(size) for size in sizes}
    labelled = rows.with_columns(group=pl.Series([names[size] for size in rows["params"].to_list()]))
    few = len(sizes) <= MOST_GROUPS and len(set(names.values())) == len(sizes) and axis == "data"
    return labelled, tuple(names[size] for size in sizes) if few else (), "Params"


def _curves(result: FitResult, rows: pl.DataFrame, axis: Axis) -> pl.DataFrame:
    if axis != "data" or "params" not in get_law(result.law).axes:
        return _curve(
            result, rows, axis, "", None if rows["params"].null_count() else float(rows["params"].to_numpy().mean())
        )
    sizes = rows.group_by("group").agg(pl.col("params", "unique").median()).sort("params")
    if len(sizes) > MOST_GROUPS and "depth" not in rows.columns:
        sizes = sizes[np.linspace(0, len(sizes) - 1, MOST_GROUPS).round().astype(int).tolist()]
    chosen = sizes.select("group", "params", "unique")
    parts = [_curve(result, rows, axis, name, params, unique) for name, params, unique in chosen.iter_rows()]
    return pl.concat(parts)


def _curve(
    result: FitResult, rows: pl.DataFrame, axis: Axis, group: str, params: float | None, unique: float | None = None
) -> pl.DataFrame:
    """One fitted curve over the range of x that all points span, with as many distinct data as the group's median."""
    known: FloatArray = rows["x"].to_numpy()
    grid: FloatArray = np.geomspace(float(known.min()), float(known.max()), CURVE_POINTS, dtype=np.float64)
    size = {} if params is None or axis == "params" else {"params": params}
    where: dict[str, Any] = {**size, axis: grid, **({} if unique is None else {"unique": unique})}
    low, high = result.predict_interval(**where)
    columns = {"x": grid, "loss": result.predict(**where), "low": low, "high": high}
    frame = pl.DataFrame(columns).with_columns(pl.col("low", "high").fill_nan(None), group=pl.lit(group))
    return frame.with_columns(params=pl.lit(params, dtype=pl.Float64))


def has_frontier(result: FitResult) -> bool:
    """The law has a compute-optimal frontier, and the fit knows what a sample costs."""
    return bool(result.compute_optimal) and result.provenance.flops_per is not None and "flops" in result.observed


def frontier_frame(result: FitResult, decades_beyond: float = 1.0) -> pl.DataFrame | None:
    """The compute-optimal frontier over the measured compute and somewhat beyond; None where there is none.

    Args:
        result: the fit.
        decades_beyond: how far past the largest measured budget, in powers of ten.

    Returns:
        Columns flops, params, data, loss, beyond (past the largest measured budget).
    """
    if not has_frontier(result):
        return None
    least, most = result.observed["flops"]
    budgets = np.unique(
        np.concatenate([np.geomspace(least, most, 30), np.geomspace(most, most * 10**decades_beyond, 12)])
    )
    params, data, loss = result.frontier(budgets)
    frame = pl.DataFrame({"flops": budgets, "params": params, "data": data, "loss": loss})
    return frame.with_columns(beyond=pl.col("flops") > most * (1 + 1e-9))


def frontier_lines(result: FitResult, frontier: pl.DataFrame) -> pl.DataFrame:
    """The frontier as one line for params and one for data: columns flops, quantity (params or the unit), value."""
    unit = result.provenance.data_unit
    long = frontier.rename({"data": unit})
    return long.unpivot(on=["params", unit], index=["flops"], variable_name="quantity")


def optimal_frame(result: FitResult, frames: FitFrames) -> pl.DataFrame | None:
    """The least loss of every amount of data: the compute-optimal runs among the fitted curves, as columns x, loss.

    Only over the x of the curves; None where curves do not run along data, or there is no frontier.
    """
    frontier = frontier_frame(result) if frames.axis == "data" else None
    if frontier is None:
        return None
    low, high = frames.curves["x"].min(), frames.curves["x"].max()
    optimal = frontier.select("loss", x="data").filter(pl.col("x").is_between(low, high))
    return optimal if len(optimal) > 1 else None
