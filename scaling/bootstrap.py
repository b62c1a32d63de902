"""Resampling: new data sets like the one at hand, each fitted again.

The default keeps the design and draws new noise from the residuals (``residuals``, :mod:`scaling.noise`). Three schemes
draw whole clusters (runs), because checkpoints of one run are not independent; they are used where that is asked for,
or where the points cannot tell how far runs differ:

* ``clusters``: clusters are drawn with replacement (Efron).
* ``clusters-within-size``: with few model sizes, drawing runs freely leaves resamples with one or two
  sizes, in which a law of N means nothing. Runs are then drawn within their size, so that every size
  stays. Of m runs m - 1 are drawn and weighted m / (m - 1), without which m = 2 would show half the
  variance (Rao and Wu 1988).
* ``wild``: where some size has a single run there is nothing to draw within it. The design is kept and
  the residuals of every cluster are multiplied by one six-point weight (Webb 2023), scaled for the
  degrees of freedom (CR1, Cameron and Miller 2015).

With three sizes the curve through them absorbs what a run of its own has of luck, so residuals do not show
it. Where some size was run twice, the spread between its runs does: in the last two schemes that run noise
is estimated and given to every new run, and in ``wild`` to every fitted run as well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from scaling import large
from scaling.noise import simulate
from scaling.points import FloatArray, IntArray, Points, places
from scaling.problem import Optimum, Problem, resolve

MIN_DISTINCT = 3  # a floor, a coefficient and an exponent need three places on an axis
_MAX_LOST = 0.05  # share of resamples without three places above which free resampling is given up
_WEBB = np.sqrt([1.5, 1.0, 0.5])


@dataclass(frozen=True, kw_only=True)
class RunNoise:
    """Spread of log loss between runs of one size.

    Attributes:
        sigma: standard deviation.
        freedom: degrees of freedom behind it: runs minus sizes.
        offset: what every row's run has above or below its size, shape (n,).
    """

    sigma: float
    freedom: int
    offset: FloatArray

    def sample(self, shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
        """Offsets of new runs: Student's t times sigma, cut at five so that one draw cannot rule a fit."""
        return self.sigma * np.clip(rng.standard_t(self.freedom, size=shape), -5.0, 5.0)


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Parameters of every resample that could be fitted.

    Attributes:
        theta: internal parameters, shape (b, p).
        luck: log of a new run's loss over the curve's in every resample, shape (b,).
        scheme: "residuals", "clusters", "clusters-within-size", "wild", "scores" or "none".
        noise: spread between runs of one size, where few sizes made it necessary and two runs show it.
        requested: resamples asked for.
        degenerate: resamples left out for having fewer than three places on an axis.
        unconverged: resamples kept although their fit did not meet the tolerance.
    """

    theta: FloatArray
    luck: FloatArray
    scheme: str
    noise: RunNoise | None
    requested: int
    degenerate: int
    unconverged: int


def resample(
    problem: Problem, points: Points, optimum: Optimum, *, count: int, seed: int, scheme: str = "residuals"
) -> Draws:
    """Fit ``count`` resamples.

    Args:
        problem: the posed fit.
        points: the rows it was posed from, in the same order.
        optimum: the fit of all rows.
        count: how many; 0 gives no draws.
        seed: seed of the generator.
        scheme: "residuals" or "clusters"; the latter also where the points do not allow the former.

    Returns:
        Draws of the internal parameters.
    """
    rng = np.random.default_rng(seed)
    if count == 0:
        return _finish(problem, optimum, None, np.empty((0, len(problem.y))), np.empty(0), "none")
    if len(problem.y) > large.MANY_ROWS:
        many = _resample_many(problem, points, optimum, count, np.random.default_rng(seed))
        if many is not None:
            return many
        large.check_size(len(problem.y), count)
    noise = simulate(problem, points, optimum, count, rng) if scheme != "clusters" else None
    if noise is None:
        return _resample_clusters(problem, points, optimum, count, np.random.default_rng(seed))
    fitted = problem.law.log_loss(optimum.theta[None], problem.x)[0]
    w = np.broadcast_to(problem.w, noise.rows.shape)
    return _finish(problem, optimum, fitted + noise.rows, w, noise.luck, "residuals")


def _resample_clusters(
    problem: Problem, points: Points, optimum: Optimum, count: int, rng: np.random.Generator
) -> Draws:
    codes, n_clusters = points.cluster_codes, points.n_clusters
    axes = _axis_places(problem)
    counts = rng.multinomial(n_clusters, np.full(n_clusters, 1.0 / n_clusters), size=count)
    w = counts[:, codes] * problem.w
    usable = np.all([_distinct(w, place) >= MIN_DISTINCT for place in axes], axis=0)
    scheme, y, noise = "clusters", problem.y, None
    if usable.mean() < 1.0 - _MAX_LOST:
        size = _size_of_cluster(problem, points, codes, n_clusters)
        usable = np.ones(count, dtype=bool)
        noise = _run_noise(problem, optimum, points, codes, size)
        if size is None or int(np.bincount(size).min()) < 2:
            scheme = "wild"
            y, w = wild_residuals(problem, optimum, noise, codes, n_clusters, count, rng)
        else:
            scheme = "clusters-within-size"
            w = _within_size(size, count, rng)[:, codes] * problem.w
    w, y = w[usable], y if y.ndim == 1 else y[usable]
    luck = _luck(problem, optimum, noise, len(w), rng)
    done = _finish(problem, optimum, y, w, luck, scheme)
    return replace(done, noise=noise, requested=count, degenerate=int(count - usable.sum()))


def _finish(
    problem: Problem, optimum: Optimum, y: FloatArray | None, w: FloatArray, luck: FloatArray, scheme: str
) -> Draws:
    if y is None:
        theta, unconverged = np.empty((0, len(optimum.theta))), 0
    else:
        found = resolve(problem, optimum.theta, y, w)
        theta, unconverged = found.theta, int((~found.converged).sum())
    return Draws(
        theta=theta,
        luck=luck,
        scheme=scheme,
        noise=None,
        requested=len(w),
        degenerate=0,
        unconverged=unconverged,
    )


def _resample_many(
    problem: Problem, points: Points, optimum: Optimum, count: int, rng: np.random.Generator
) -> Draws | None:
    """Clusters drawn with replacement, to first order; None where that does not do. See :mod:`scaling.large`."""
    blocks = large.blocks_of(points.cluster_codes, points.n_clusters, rng)
    if blocks is None or problem.loss.linear:
        return None
    block, n_blocks = blocks
    counts = rng.multinomial(n_blocks, np.full(n_blocks, 1.0 / n_blocks), size=count).astype(np.float64)
    usable = np.ones(count, dtype=bool)
    for place in _axis_places(problem):
        there = np.zeros((n_blocks, int(place.max()) + 1))
        there[block, place] = 1.0
        usable &= np.count_nonzero(counts @ there, axis=1) >= MIN_DISTINCT
    if usable.mean() < 1.0 - _MAX_LOST:
        return None
    theta = large.resampled(problem, optimum.theta, block, counts[usable])
    return Draws(
        theta=theta,
        luck=_luck(problem, optimum, None, len(theta), rng),
        scheme="scores",
        noise=None,
        requested=count,
        degenerate=int(count - usable.sum()),
        unconverged=0,
    )


def _axis_places(problem: Problem) -> list[IntArray]:
    """Place of every row on every axis that the law raises to a power, each of shape (n,)."""
    rows = zip(problem.law.axes, problem.x, strict=True)
    return [places(np.exp(row)) for axis, row in rows if axis in problem.law.exponents]


def _luck(
    problem: Problem, optimum: Optimum, noise: RunNoise | None, count: int, rng: np.random.Generator
) -> FloatArray:
    """A resampled residual, inflated by sqrt(n / (n - p)), and the offset of a run where that was estimated."""
    n, p = len(problem.y), len(optimum.theta)
    residual = problem.y - problem.law.log_loss(optimum.theta[None], problem.x)[0]
    if noise is not None:
        residual = residual - noise.offset
    residual = residual * problem.precision * (np.sqrt(n / (n - p)) if n > p else 1.0)
    luck: FloatArray = residual[rng.integers(0, n, size=count)]
    return luck if noise is None else luck + noise.sigma * rng.standard_t(noise.freedom, size=count)


def _distinct(w: FloatArray, place: IntArray) -> IntArray:
    """How many places keep a positive weight, shape (b,)."""
    present = np.zeros((len(w), int(place.max()) + 1), dtype=bool)
    for number in range(present.shape[1]):
        present[:, number] = (w[:, place == number] > 0).any(axis=1)
    return present.sum(axis=1)


def _size_of_cluster(problem: Problem, points: Points, codes: IntArray, n_clusters: int) -> IntArray | None:
    """Place on the params axis, else on the law's own, of every cluster; None when a cluster spans several."""
    size = places(np.exp(problem.x[0]) if points.params is None else points.params)
    first = np.zeros(n_clusters, dtype=np.intp)
    first[codes[::-1]] = size[::-1]
    return first if bool(np.all(first[codes] == size)) else None


def _within_size(size: IntArray, resamples: int, rng: np.random.Generator) -> FloatArray:
    """Weights of every cluster, shape (resamples, n_clusters), that keep every size; see the module."""
    counts = np.zeros((resamples, len(size)))
    for number in range(int(size.max()) + 1):
        members = np.flatnonzero(size == number)
        m = len(members)
        drawn = rng.multinomial(m - 1, np.full(m, 1.0 / m), size=resamples)
        counts[:, members] = drawn * (m / (m - 1))
    return counts


def _run_noise(
    problem: Problem, optimum: Optimum, points: Points, codes: IntArray, size: IntArray | None
) -> RunNoise | None:
    """None where no size has two runs, or rows are not runs with several points."""
    if size is None or len(codes) == len(size):
        return None
    freedom = len(size) - len(np.unique(size))
    if freedom < 1:
        return None
    residual = problem.y - problem.law.log_loss(optimum.theta[None], problem.x)[0]
    level = np.bincount(codes, weights=residual) / np.bincount(codes)
    of_size = np.bincount(size, weights=level) / np.bincount(size)
    offset = level - of_size[size]
    return RunNoise(sigma=float(np.sqrt(offset @ offset / freedom)), freedom=freedom, offset=offset[codes])


def wild_residuals(
    problem: Problem,
    optimum: Optimum,
    noise: RunNoise | None,
    codes: IntArray,
    n_clusters: int,
    resamples: int,
    rng: np.random.Generator,
) -> tuple[FloatArray, FloatArray]:
    """Losses with the residuals of every cluster multiplied by one random weight; see the module.

    Args:
        problem: the posed fit.
        optimum: its optimum.
        noise: spread between runs of one size; None where it is not to be added.
        codes: cluster number of every row, shape (n,).
        n_clusters: number of clusters.
        resamples: how many.
        rng: generator.

    Returns:
        Log scaled losses and row weights, each of shape (resamples, n).
    """
    n, p = len(problem.y), len(optimum.theta)
    fitted = problem.law.log_loss(optimum.theta[None], problem.x)[0]
    freedom = (n - 1) / max(n - p, 1) * n_clusters / max(n_clusters - 1, 1)
    flips = rng.choice(np.concatenate([-_WEBB, _WEBB]), size=(resamples, n_clusters))
    residual = problem.y - fitted - (0.0 if noise is None else noise.offset)
    y = fitted + flips[:, codes] * residual * np.sqrt(freedom)
    if noise is not None:
        y = y + noise.sample((resamples, n_clusters), rng)[:, codes]
    return y, np.broadcast_to(problem.w, y.shape)
