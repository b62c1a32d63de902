"""What scatters the points about the curve, estimated from the residuals of one fit, and new scatter like it.

The residual bootstrap, and the luck of a new run, need noise as it was before the fit took its share: residuals are
smaller than the noise, because the curve bends towards the points. Two models:

* Rows that are independent: every row keeps the size of its residual of a least-squares fit, divided by sqrt(1 - h_i)
  for its leverage, and gets a random sign (wild bootstrap: Liu 1988; for absolute deviations Feng, He and Hu 2011), so
  that rows which scatter more keep doing so. A share p / n of every residual is the noise of other rows; that share is
  drawn from the normal distribution instead, with the spread of the rows around it. Residuals of the robust fit itself
  would not do: with few rows it passes through p of them exactly, and residuals of zero make every resample look better
  than the data.
* Rows of runs (clusters): ``u_run + e``, with e autoregressive along the run. The ratio of variances and the
  autocorrelation have a restricted likelihood (Patterson and Thompson 1971) that accounts for what the curve absorbs;
  it is evaluated on a grid, and every draw takes its own pair from it, so that few runs give the wide intervals that
  they deserve.

In both every draw has a standard deviation of its own, s sqrt(nu / chi2_nu), nu the degrees of freedom behind it:
percentiles of the draws are then Student's t intervals where the law is linear in its parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np

from scaling.losses import LEAST_SQUARES
from scaling.points import FloatArray, IntArray, Points, places
from scaling.problem import Optimum, Problem
from scaling.solver import minimise

_RATIOS = np.geomspace(1e-3, 1e4, 36)  # variance between runs over variance within
_CORRELATIONS = np.array([0.0, 0.15, 0.3, 0.45, 0.6, 0.7, 0.8, 0.87, 0.93, 0.97])
_UNRESOLVED = 0.1  # share of the likelihood at the upper end of the ratios above which runs cannot tell their spread
_NO_SPARE_SIZE = 3  # a floor, a coefficient and an exponent pass through three sizes, whatever luck their runs had
_NEIGHBOURS = 20  # fewer residuals than that say little about the noise of one place
_LONGEST_T = 6.0  # draws of the scale beyond this factor are cut: they come from a handful of residuals


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Simulated noise in log loss.

    Attributes:
        rows: for the rows of every resample, shape (b, n).
        luck: of one new run in every resample, shape (b,).
        between: median standard deviation between runs; 0 where rows are independent.
        freedom: degrees of freedom of the scale.
    """

    rows: FloatArray
    luck: FloatArray
    between: float
    freedom: int


@dataclass(frozen=True, kw_only=True)
class Companion:
    """A least-squares fit of log loss beside the fit in question.

    Attributes:
        residual: times the precision of the row, shape (n,).
        jacobian: of log loss by the free parameters, times the precision of the row, shape (n, k), orthonormal columns.
        freedom: n minus the number of free parameters.
    """

    residual: FloatArray
    jacobian: FloatArray
    freedom: int


def companion(problem: Problem, optimum: Optimum) -> Companion:
    """Least squares from the optimum of another loss; parameters at a limit count as given."""
    law = problem.law
    found = minimise(law, optimum.theta[None], problem.x, problem.y, problem.w, loss=LEAST_SQUARES)
    theta, (low, high) = found.theta[0], law.bounds
    local = law.linearise(theta[None], problem.x)
    free = (theta > low + 1e-9) & (theta < high - 1e-9)
    jacobian = local.jacobian[0][free].T * problem.precision[:, None]
    basis, size, _ = np.linalg.svd(jacobian / np.maximum(np.linalg.norm(jacobian, axis=0), 1e-300), full_matrices=False)
    basis = basis[:, size > 1e-9 * size[0]] if size.size else basis
    residual = (problem.y - local.value[0]) * problem.precision
    return Companion(residual=residual, jacobian=basis, freedom=len(residual) - basis.shape[1])


def simulate(problem: Problem, points: Points, optimum: Optimum, count: int, rng: np.random.Generator) -> Noise | None:
    """Noise of ``count`` resamples; None where the points cannot tell how large it is."""
    near = companion(problem, optimum)
    if near.freedom < 1:
        return None
    if points.n_clusters == points.n:
        return _independent(problem, near, count, rng)
    return _of_runs(problem, points, near, count, rng)


def scales(freedom: int, count: int, rng: np.random.Generator) -> FloatArray:
    """sqrt(nu / chi2_nu), shape (count,): how much larger the true scale may be than the estimated one."""
    drawn: FloatArray = rng.chisquare(freedom, size=count)
    return np.minimum(np.sqrt(freedom / drawn), _LONGEST_T)


def _independent(problem: Problem, near: Companion, count: int, rng: np.random.Generator) -> Noise:
    n, taken = near.jacobian.shape
    leverage: FloatArray = np.sum(near.jacobian**2, axis=1)
    pool: FloatArray = near.residual / np.sqrt(np.maximum(1.0 - leverage, 0.05))
    pool = pool - pool.mean()
    sigma = float(np.sqrt(np.sum(near.residual**2) / near.freedom))
    pool *= sigma / max(float(np.sqrt(np.mean(pool**2))), 1e-300)
    share = taken / n
    freedom = min(near.freedom, _freedom(near.jacobian, share))
    scale = scales(freedom, count, rng)
    signs = rng.choice(np.array([-1.0, 1.0]), size=(count, n))
    around = np.sqrt(np.mean(pool[_neighbours(problem.x)] ** 2, axis=1))
    rows = np.sqrt(1.0 - share) * signs * pool + np.sqrt(share) * around * rng.standard_normal((count, n))
    luck = np.sqrt(1.0 - share) * rng.choice(pool, size=count) + np.sqrt(share) * sigma * rng.standard_normal(count)
    return Noise(rows=scale[:, None] * rows / problem.precision, luck=scale * luck, between=0.0, freedom=freedom)


def _freedom(basis: FloatArray, share: float) -> int:
    """Degrees of freedom of the variance that rows of their own sizes give, on average over directions of the fit.

    In a direction u it is sum_i c_i r_i^2, c_i = (1 - share) u_i^2 + share / n, which has (sum c)^2 / sum c^2 of them
    (Satterthwaite): fewer than n - p where few rows decide.
    """
    c: FloatArray = (1.0 - share) * basis**2 + share / len(basis)
    each: FloatArray = 1.0 / np.sum(c**2, axis=0)
    return max(round(float(each.mean())), 1)


def _neighbours(x: FloatArray) -> IntArray:
    """The rows nearest to every row on the law's axes, itself among them, shape (n, k)."""
    scaled = x / np.maximum(x.std(axis=1, keepdims=True), 1e-300)
    distance = np.sum((scaled[:, :, None] - scaled[:, None, :]) ** 2, axis=0)
    return np.argsort(distance, axis=1, kind="stable")[:, :_NEIGHBOURS]


def _of_runs(problem: Problem, points: Points, near: Companion, count: int, rng: np.random.Generator) -> Noise | None:
    if _sizes(problem, points) <= _NO_SPARE_SIZE:
        return None
    codes, place = points.cluster_codes, along_run(points)
    weight, variance = _likelihood(problem.precision, near, codes, place)
    if weight[:, -4:].sum() > _UNRESOLVED:
        return None
    cell = rng.choice(weight.size, size=count, p=weight.ravel())
    correlation, ratio = _CORRELATIONS[cell // weight.shape[1]], _RATIOS[cell % weight.shape[1]]
    sigma = np.sqrt(variance.ravel()[cell]) * scales(near.freedom, count, rng)
    shared = np.sqrt(ratio)[:, None] * rng.standard_normal((count, points.n_clusters + 1))
    own = _autoregressive(correlation, place, rng.standard_normal((count, points.n + 1)))
    rows = (shared[:, codes] + own[:, :-1]) * sigma[:, None] / problem.precision
    luck = (shared[:, -1] + own[:, -1]) * sigma
    return Noise(rows=rows, luck=luck, between=float(np.median(np.sqrt(ratio) * sigma)), freedom=near.freedom)


def _sizes(problem: Problem, points: Points) -> int:
    return len(np.unique(places(np.exp(problem.x[0]) if points.params is None else points.params)))


def along_run(points: Points) -> IntArray:
    """The row before every row in its run, by data and then compute, shape (n,); -1 for the first of a run."""
    keys = [values for values in (points.loss, points.flops, points.params, points.data) if values is not None]
    order = np.lexsort([*keys, points.cluster_codes])
    codes = points.cluster_codes[order]
    before = np.full(points.n, -1, dtype=np.intp)
    follows = np.flatnonzero(codes[1:] == codes[:-1]) + 1
    before[order[follows]] = order[follows - 1]
    return before


def _likelihood(
    precision: FloatArray, near: Companion, codes: IntArray, before: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Posterior weight and scale of every (correlation, ratio), each of shape (correlations, ratios).

    The prior is flat in the correlation and 1 / (1 + m ratio) in the ratio, m rows a run: the one that gives t
    intervals for the mean of a balanced design (Box and Tiao 1973).
    """
    n, k = near.jacobian.shape
    columns = np.column_stack([near.jacobian, near.residual, precision])
    first = before < 0
    log_weight = np.empty((len(_CORRELATIONS), len(_RATIOS)))
    variance = np.empty_like(log_weight)
    for i, rho in enumerate(_CORRELATIONS):
        white = _innovations(columns, before, rho)
        design, run = white[:, : k + 1], white[:, k + 1]
        load = np.bincount(codes, weights=run * run)
        total = np.stack([np.bincount(codes, weights=run * column) for column in design.T], axis=1)
        shrink = _RATIOS[:, None] / (1.0 + _RATIOS[:, None] * load)  # ratio, run
        cross = design.T @ design - np.einsum("rg,gi,gj->rij", shrink, total, total)
        explained = cast(FloatArray, np.linalg.solve(cross[:, :k, :k], cross[:, :k, k:]))[..., 0]
        rss = np.maximum(cross[:, k, k] - np.sum(explained * cross[:, :k, k], axis=1), 1e-300)
        determinant = np.log1p(_RATIOS[:, None] * load).sum(axis=1) + np.count_nonzero(~first) * np.log(1.0 - rho * rho)
        restricted = np.linalg.slogdet(cross[:, :k, :k])[1]
        prior = np.log(_RATIOS) - np.log1p(np.median(load) * _RATIOS)
        log_weight[i] = prior - 0.5 * (determinant + restricted + (n - k) * np.log(rss))
        variance[i] = rss / (n - k)
    step = np.gradient(_CORRELATIONS)
    weight = np.exp(log_weight - log_weight.max()) * step[:, None]
    return weight / weight.sum(), variance


def _innovations(columns: FloatArray, before: IntArray, rho: float) -> FloatArray:
    """Columns freed of autocorrelation along runs, shape (n, columns)."""
    return np.where((before < 0)[:, None], columns, (columns - rho * columns[before]) / np.sqrt(1.0 - rho * rho))


def decorrelate(problem: Problem, points: Points, near: Companion, columns: FloatArray) -> FloatArray:
    """Columns over rows in units in which noise is independent and even, shape (n, columns).

    Args:
        problem: the posed fit.
        points: its rows.
        near: its companion.
        columns: already times the precision of the rows; unchanged where rows are independent.
    """
    if points.n_clusters == points.n:
        return columns
    codes, before = points.cluster_codes, along_run(points)
    weight, _ = _likelihood(problem.precision, near, codes, before)
    i, j = np.unravel_index(np.argmax(weight), weight.shape)
    white = _innovations(np.column_stack([columns, problem.precision]), before, float(_CORRELATIONS[i]))
    run, white = white[:, -1], white[:, :-1]
    load = np.bincount(codes, weights=run * run)
    total = np.stack([np.bincount(codes, weights=run * column) for column in white.T], axis=1)
    shrink = (1.0 - 1.0 / np.sqrt(1.0 + _RATIOS[j] * load)) / load
    return white - run[:, None] * (shrink[:, None] * total)[codes]


def _autoregressive(correlation: FloatArray, before: IntArray, fresh: FloatArray) -> FloatArray:
    """Unit-variance noise along runs from independent draws, shape (b, n + 1); the last column is a new run."""
    out = fresh.copy()
    innovation = np.sqrt(1.0 - correlation**2)
    done = np.append(before < 0, True)
    while not done.all():
        ready = np.flatnonzero(~done[:-1] & done[before])
        out[:, ready] = correlation[:, None] * out[:, before[ready]] + innovation[:, None] * fresh[:, ready]
        done[ready] = True
    return out
