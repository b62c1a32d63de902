"""The envelope of training curves: for every amount of compute the run with the least loss, and lines through them.

Approach 1 of Hoffmann et al. 2022 (arXiv 2203.15556): curves of runs of several sizes are smoothed and interpolated in
log C; at every C the size of the run that is lowest, and the data it has seen, are taken, and log N and log D are
regressed on log C. Where the lowest run is the smallest or the largest that has a curve there, it shows the design and
not the optimum, so such places are left out. A point of a curve has to be worth what a run that ends there is worth:
under a schedule that decays beyond it, it is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scaling.bootstrap import places
from scaling.errors import FitInputError
from scaling.fitting import check_options
from scaling.frontier import Found, Frontier, Optimum, assemble
from scaling.notices import Notice
from scaling.points import FloatArray, Points

PLACES = 96
SMOOTH = 5
_LEAST_ROWS = 3
_FEW_WINNERS = 4
_STEEPER = 1.1


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Smoothed curves on a common grid of compute.

    Attributes:
        log_flops: the grid, shape (g,).
        log_loss: log L of every run there, shape (r, g); inf where a run has no curve.
        log_data: log D likewise.
        log_params: log N of every run, shape (r,).
        n_points: rows behind them.
        steepening: share of the long runs whose loss falls faster at the end than before.
    """

    log_flops: FloatArray
    log_loss: FloatArray
    log_data: FloatArray
    log_params: FloatArray
    n_points: int
    steepening: float


def envelope(
    points: Points,
    smooth: int = SMOOTH,
    bootstrap: int = 1000,
    level: float = 0.8,
    seed: int = 0,
    flops_per: float | None = None,
) -> Frontier:
    """The compute-optimal frontier from training curves.

    Args:
        points: checkpoints of runs of several sizes; ``cluster`` names the run of each.
        smooth: neighbouring checkpoints over which a curve is smoothed by a local line; 1 leaves it as it is.
        bootstrap: resamples of whole runs behind the intervals; 0 leaves them out.
        level: level of the intervals.
        seed: of the resamples.
        flops_per: k in C = k N D where the points carry no flops.

    Returns:
        The frontier. Its optima are the places of the grid, those at the edge of the sizes flagged and left out.

    Raises:
        FitInputError: no runs with several checkpoints, no compute, or too few sizes that win between others.
    """
    check_options(bootstrap, level)
    if smooth < 1:
        raise FitInputError(f"smooth is {smooth}: how many checkpoints a curve is smoothed over, at least 1")
    curves = _curves(points.canonical(), smooth, flops_per)
    size = places(np.exp(curves.log_params))
    best, edge = _winners(curves, size, np.ones(len(size), dtype=bool))
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(size), np.full(len(size), 1.0 / len(size)), size=bootstrap)
    draws = np.full((bootstrap, 3, len(curves.log_flops)), np.nan)
    for i, present in enumerate(counts > 0):
        found, outside = _winners(curves, size, present)
        draws[i] = np.where(outside, np.nan, found)
    optima = tuple(_describe(curves, best[:, i], i, bool(edge[i])) for i in range(len(edge)))
    interior = len(np.unique(places(np.exp(best[0][~edge])))) if (~edge).any() else 0
    if interior < 2:
        raise FitInputError(
            f"{interior} sizes have the least loss with a smaller and a larger one beside them; a line needs two,"
            " better five: one size wins over all compute that curves share, so train sizes on both sides of it"
        )
    return assemble(
        Found(flops=np.exp(curves.log_flops), best=best, draws=draws, optima=optima, n_points=curves.n_points),
        method="envelope",
        description=f"run of least loss at {len(edge)} amounts of compute; curves smoothed over {smooth} checkpoints",
        resampling="runs drawn with replacement" if bootstrap else "no resampling",
        level=level,
        notices=tuple(_notices(curves, interior, float(edge.mean()))),
    )


def _curves(points: Points, smooth: int, flops_per: float | None) -> Curves:
    compute = points.compute(flops_per)
    if compute is None:
        raise FitInputError("an envelope is over compute: give the points a flops column")
    params, data = points.need("params"), points.need("data")
    runs: list[tuple[FloatArray, FloatArray, FloatArray, float]] = []
    codes = points.cluster_codes
    for code in range(points.n_clusters):
        rows = np.flatnonzero(codes == code)
        x, first = np.unique(np.log(compute[rows]), return_index=True)
        if len(x) >= _LEAST_ROWS:
            rows = rows[first]
            y = _smoothed(x, np.log(points.loss[rows]), smooth)
            runs.append((x, y, np.log(data[rows]), float(np.log(params[rows[0]]))))
    if len(runs) < 2:
        raise FitInputError(
            f"{len(runs)} runs have {_LEAST_ROWS} checkpoints or more: an envelope needs training curves of several"
            " sizes, with a column that names the run of each row"
        )
    starts, stops = np.sort([run[0][0] for run in runs]), np.sort([run[0][-1] for run in runs])
    # Where fewer than two runs have a curve there is nothing to choose from.
    grid: FloatArray = np.linspace(float(starts[1]), float(stops[-2]), PLACES, dtype=np.float64)
    if grid[-1] <= grid[0]:
        raise FitInputError("no two runs overlap in compute: an envelope needs curves that pass the same FLOPs")
    return Curves(
        log_flops=grid,
        log_loss=np.stack([np.interp(grid, x, y, left=np.inf, right=np.inf) for x, y, _, _ in runs]),
        log_data=np.stack([np.interp(grid, x, d) for x, _, d, _ in runs]),
        log_params=np.array([run[3] for run in runs]),
        n_points=sum(len(run[0]) for run in runs),
        steepening=_steepening(runs),
    )


def _smoothed(x: FloatArray, y: FloatArray, window: int) -> FloatArray:
    """Value at each place of the line through its ``window`` nearest rows: no bias where the curve is straight."""
    if window < 3:
        return y
    out = np.empty_like(y)
    for i in range(len(x)):
        near = np.argsort(np.abs(x - x[i]), kind="stable")[:window]
        away = x[near] - x[near].mean()
        slope = float(away @ y[near] / max(float(away @ away), 1e-300))
        out[i] = y[near].mean() + slope * (x[i] - x[near].mean())
    return out


def _steepening(runs: list[tuple[FloatArray, FloatArray, FloatArray, float]]) -> float:
    """Share of runs whose slope in log-log grows at the end; a law with a floor only ever flattens."""
    found: list[bool] = []
    for x, y, _, _ in runs:
        if len(x) < 9:
            continue
        third = len(x) // 3
        middle, end = (np.polyfit(x[part], y[part], 1)[0] for part in (slice(third, 2 * third), slice(2 * third, None)))
        found.append(bool(end < _STEEPER * min(float(middle), 0.0)))
    return float(np.mean(found)) if found else 0.0


def _winners(
    curves: Curves, size: npt.NDArray[np.intp], present: npt.NDArray[np.bool_]
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """log N, log D and log L of the lowest run at every place, shape (3, g), and whether its size is at the edge."""
    loss = np.where(present[:, None], curves.log_loss, np.inf)
    there = np.isfinite(loss)
    best = loss.argmin(axis=0)
    columns = np.arange(len(curves.log_flops))
    least = np.where(there, size[:, None], size.max() + 1).min(axis=0)
    most = np.where(there, size[:, None], -1).max(axis=0)
    edge = (size[best] <= least) | (size[best] >= most)
    return np.stack([curves.log_params[best], curves.log_data[best, columns], loss[best, columns]]), edge


def _describe(curves: Curves, best: FloatArray, place: int, edge: bool) -> Optimum:
    there = np.exp(curves.log_params[np.isfinite(curves.log_loss[:, place])])
    nan = (float("nan"), float("nan"))
    params, data, loss = (float(value) for value in np.exp(best))
    return Optimum(
        flops=float(np.exp(curves.log_flops[place])),
        n_rows=len(there),
        n_sizes=len(np.unique(places(there))) if len(there) else 0,
        params=params,
        data=data,
        loss=loss,
        params_interval=nan,
        data_interval=nan,
        loss_interval=nan,
        sizes=(float(there.min()), float(there.max())) if len(there) else nan,
        used=not edge,
        flags=("edge",) if edge else (),
    )


def _notices(curves: Curves, winners: int, edge: float) -> list[Notice]:
    notices: list[Notice] = []
    if winners < _FEW_WINNERS:
        text = f"Only {winners} sizes win with others on both sides: the line shows the sizes that were chosen as much"
        notices.append(Notice(code="few-winners", message=f"{text} as the optimum. Train sizes closer together."))
    if edge > 0.0:
        text = f"Over {edge:.0%} of the range of log compute the lowest run is the smallest or largest there: left out."
        notices.append(Notice(code="edge", message=text))
    if curves.steepening > 0.5:
        text = (
            f"In {curves.steepening:.0%} of the runs the loss falls faster at the end than before, as under a decaying"
            " learning rate: points before the end are then not what a run that ends there would reach. Use isoflop."
        )
        notices.append(Notice(code="decaying-schedule", message=text))
    return notices
