"""A fit evaluated into frames for its charts: points, curves with intervals, frontier, residuals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from reports import units
from scaling.laws import get_law
from scaling.points import FloatArray, Points
from scaling.results import FitResult

Axis = Literal["data", "params", "flops"]
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
    """The points of a fit as a frame with columns params, data, flops, loss."""
    flops: npt.ArrayLike = points.flops if points.flops is not None else np.full(points.n, np.nan)
    columns = {"params": points.params, "data": points.data, "flops": flops, "loss": points.loss}
    return pl.DataFrame(columns)


def fit_frames(result: FitResult, measured: pl.DataFrame, heldout: pl.DataFrame | None = None) -> FitFrames:
    """Evaluate a fit at its points and along one curve per model size.

    Args:
        result: the fit.
        measured: columns params, data, loss and, where sizes are depths, depth.
        heldout: the same columns for points that were predicted, not fitted.
    """
    frames = [measured.with_columns(used=pl.lit("fitted"))]
    if heldout is not None and len(heldout):
        frames.append(heldout.with_columns(used=pl.lit("held out")))
    wanted = [
        name for name in ("params", "data", "loss", "depth", "used") if name in measured.columns or name == "used"
    ]
    rows = pl.concat([frame.select(wanted).with_columns(pl.col("params", "data").cast(pl.Float64)) for frame in frames])
    axis = curve_axis(result)
    rows, groups, title = _grouped(rows, axis)
    predicted = result.predict(rows["params"].to_numpy(), rows["data"].to_numpy())
    rows = rows.with_columns(
        x=pl.Series(_axis_values(result, axis, rows["params"].to_numpy(), rows["data"].to_numpy())),
        predicted=pl.Series(predicted),
    ).with_columns(residual=pl.col("loss") / pl.col("predicted") - 1)
    return FitFrames(points=rows, curves=_curves(result, rows, axis), axis=axis, groups=groups, group_title=title)


def curve_axis(result: FitResult) -> Axis:
    """What a curve of this law runs along: data where the law knows it, else compute, else params."""
    axes = get_law(result.law).axes
    if "data" in axes:
        return "data"
    return "flops" if "flops" in axes else "params"


def axis_title(result: FitResult, axis: Axis) -> str:
    """The title of that axis with its unit."""
    unit = result.provenance.data_unit
    return {"data": f"Training {unit}", "params": "Params", "flops": "Training compute (FLOPs)"}[axis]


def _axis_values(result: FitResult, axis: Axis, params: FloatArray, data: FloatArray) -> FloatArray:
    if axis == "flops":
        return (result.provenance.flops_per or 1.0) * params * data
    return data if axis == "data" else params


def _grouped(rows: pl.DataFrame, axis: Axis) -> tuple[pl.DataFrame, tuple[str, ...], str]:
    """Name the model size of every row: by depth where it is known, by params where there are few."""
    if "depth" in rows.columns:
        groups = tuple(str(depth) for depth in sorted(rows["depth"].unique()))
        return rows.with_columns(group=pl.col("depth").cast(pl.String)), groups, "Depth"
    sizes = sorted(rows["params"].unique().to_list())
    names = {size: units.short(size) for size in sizes}
    labelled = rows.with_columns(group=pl.Series([names[size] for size in rows["params"].to_list()]))
    few = len(sizes) <= MOST_GROUPS and len(set(names.values())) == len(sizes) and axis == "data"
    return labelled, tuple(names[size] for size in sizes) if few else (), "Params"


def _curves(result: FitResult, rows: pl.DataFrame, axis: Axis) -> pl.DataFrame:
    if axis != "data" or "params" not in get_law(result.law).axes:
        return _curve(result, rows, axis, "", float(rows["params"].to_numpy().mean()))
    sizes = rows.group_by("group").agg(pl.col("params").median()).sort("params")
    if len(sizes) > MOST_GROUPS and "depth" not in rows.columns:
        sizes = sizes[np.linspace(0, len(sizes) - 1, MOST_GROUPS).round().astype(int).tolist()]
    parts = [_curve(result, rows, axis, name, params) for name, params in sizes.select("group", "params").iter_rows()]
    return pl.concat(parts)


def _curve(result: FitResult, rows: pl.DataFrame, axis: Axis, group: str, params: float) -> pl.DataFrame:
    """One fitted curve over the range of x that all points span."""
    known: FloatArray = rows["x"].to_numpy()
    grid: FloatArray = np.geomspace(float(known.min()), float(known.max()), CURVE_POINTS, dtype=np.float64)
    n, d = np.full_like(grid, params), grid
    if axis == "params":
        n, d = grid, np.ones_like(grid)
    elif axis == "flops":
        n, d = np.ones_like(grid), grid / (result.provenance.flops_per or 1.0)
    low, high = result.predict_interval(n, d)
    columns = {"x": grid, "loss": result.predict(n, d), "low": low, "high": high, "params": np.full_like(grid, params)}
    return pl.DataFrame(columns).with_columns(pl.col("low", "high").fill_nan(None), group=pl.lit(group))


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
