"""A fit as the solver sees it: a law, centred logarithms, weights; and the multi-start optimum of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scaling import large
from scaling.errors import FitInputError
from scaling.laws.base import Frame, Law
from scaling.losses import Loss
from scaling.points import AXES, ONE_AXIS, FloatArray, Points
from scaling.solver import Solution, minimise

AGREEMENT = 1e-9  # relative difference of objectives below which two starts found the same optimum
_MORE = 6  # times as many starts where none of the first agree
_RESAMPLE_ITERATIONS = 120
_ROUGH_ITERATIONS = 30
_RETRY_STARTS = 4
_MAX_STUBBORN = 10
_MAX_RETRIES = 200  # more than that fail only where the points do not determine the law, which is reported


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Everything that is fixed while parameters are searched.

    Attributes:
        law: the law.
        x: centred logarithms of its axes, shape (axes, n).
        y: log of the loss over its geometric mean, shape (n,).
        w: row weights, shape (n,); with known noise they carry the square of ``precision``.
        precision: typical noise over the noise of the row, shape (n,); ones where it is not known.
        frame: what centring took away.
        loss: what is summed over rows.
    """

    law: Law
    x: FloatArray
    y: FloatArray
    w: FloatArray
    precision: FloatArray
    frame: Frame
    loss: Loss

    @property
    def tiny(self) -> float:
        """An objective below which rows are met exactly and relative comparisons mean nothing."""
        return 1e-20 * float(self.w.sum())


@dataclass(frozen=True, kw_only=True)
class Optimum:
    """The best of several starts.

    Attributes:
        theta: internal parameters, shape (p,).
        objective: the sum at theta.
        agreeing: share of starts that reached this objective within ``AGREEMENT``.
        converged: at least two starts agree and the best one met the solver's tolerance.
        at_bound: names of parameters that stand at a limit.
    """

    theta: FloatArray
    objective: float
    agreeing: float
    converged: bool
    at_bound: tuple[str, ...]


def pose(law: Law, points: Points, loss: Loss, flops_per: float | None) -> Problem:
    """Take logarithms and centre them.

    Args:
        law: the law to fit.
        points: the rows.
        loss: what to minimise.
        flops_per: k in C = k N D, for laws in compute where the points have no flops.

    Raises:
        FitInputError: too few rows, or the points lack an axis of the law or its variation.
    """
    n, p = int(np.count_nonzero(points.weights)), len(law.parameters)
    if n < p:
        raise FitInputError(
            f"{n} point{'s' if n != 1 else ''} cannot determine the {p} parameters of '{law.name}'"
            f" ({', '.join(law.parameters)}): give at least {p}, better {2 * p}"
        )
    logs = np.log(np.stack([_column(law, axis, points, flops_per) for axis in law.axes]))
    for axis, row in zip(law.axes, logs, strict=True):
        if axis in law.exponents and float(np.ptp(row)) == 0.0:
            raise FitInputError(
                f"every point has {axis} = {np.exp(row[0]):.6g}: '{law.name}' needs points at several {axis};"
                " with one, fit a power_floor law along another axis"
            )
    y, w = np.log(points.loss), points.weights
    centre, log_scale = np.average(logs, axis=1, weights=w), float(np.average(y, weights=w))
    if "unique" in law.axes:  # in the unit of data, and laws take their ratio
        centre[law.axes.index("unique")] = centre[law.axes.index("data")]
    frame = Frame(centre=centre, log_scale=log_scale)
    x = logs - centre[:, None]
    law.check(x)
    return Problem(law=law, x=x, y=y - log_scale, w=w, precision=np.ones(points.n), frame=frame, loss=loss)


def _column(law: Law, axis: str, points: Points, flops_per: float | None) -> FloatArray:
    values = points.axis(axis, flops_per)
    if values is not None:
        return values
    have = [name for name in AXES if points.axis(name, flops_per) is not None]
    along = next((name for name in ("flops", *ONE_AXIS) if name in have), None)
    raise FitInputError(
        f"law '{law.name}' needs {axis}, and the points have {' and '.join(have) or 'no axis at all'}: give them"
        f" a column for {axis}" + (f", or fit power_floor:{along}" if along else "")
    )


def solve(problem: Problem) -> Optimum:
    """Best optimum over the starts of the law; more starts are tried until two agree.

    Very many rows are first searched in part: what the starts of the part agree on is then minimised over all rows.
    """
    if len(problem.y) <= large.MANY_ROWS:
        return _solve_rows(problem)
    first = _solve_rows(large.part(problem))
    found = _descend(problem, first.theta[None], problem.y, problem.w)
    settled = first.converged and bool(found.converged[0])
    return _optimum(problem, found.theta[0], float(found.objective[0]), first.agreeing, settled)


def _solve_rows(problem: Problem) -> Optimum:
    optimum = _search(problem, problem.law.n_starts)
    return optimum if optimum.converged else _search(problem, _MORE * problem.law.n_starts)


def resolve(problem: Problem, theta: FloatArray, y: FloatArray, w: FloatArray, *, rough: bool = False) -> Solution:
    """Fit resamples, from the optimum of all points and again from fresh starts where that fails.

    Args:
        problem: the problem of all points.
        theta: its optimum, shape (p,).
        y: log scaled loss of every resample, shape (b, n) or (n,).
        w: row weights of every resample, shape (b, n).
        rough: stop early and leave failures as they are: enough for a spread over resamples, at a third of the cost.

    Returns:
        One solution per resample, to 1e-10 relative in the objective (1e-5 when rough).
    """
    law, x = problem.law, problem.x
    y = np.broadcast_to(y, (len(w), x.shape[1]))
    start = np.repeat(theta[None], len(w), axis=0)
    tolerance, iterations = (1e-5, _ROUGH_ITERATIONS) if rough else (1e-10, _RESAMPLE_ITERATIONS)
    found = _descend(problem, start, y, w, tolerance=tolerance, max_iterations=iterations)
    retry = np.flatnonzero(~found.converged)[:_MAX_RETRIES]
    if rough or not len(retry):
        return found
    fresh = np.concatenate([law.starts(x, y[i], w[i], 1) for i in retry])
    eased = minimise(law, fresh, x, y[retry], w[retry], loss=problem.loss.wider(), tolerance=1e-4, max_iterations=40)
    again = _descend(problem, eased.theta, y[retry], w[retry], tolerance=1e-10, max_iterations=_RESAMPLE_ITERATIONS)
    _keep_better(found, again, retry)
    stubborn = np.flatnonzero(~found.converged)[:_MAX_STUBBORN]
    if len(stubborn):
        _keep_better(found, _best_of_many(problem, found.theta[stubborn], y[stubborn], w[stubborn]), stubborn)
    return found


def _best_of_many(problem: Problem, theta: FloatArray, y: FloatArray, w: FloatArray) -> Solution:
    """The best for every problem of a batch over several fresh starts and the one given, in one go."""
    law, x = problem.law, problem.x
    starts = [np.concatenate([theta[i, None], law.starts(x, y[i], w[i], _RETRY_STARTS)]) for i in range(len(theta))]
    of = np.repeat(np.arange(len(theta)), [len(each) for each in starts])
    many = _polish(problem, np.concatenate(starts), y[of], w[of], tolerance=1e-10, max_iterations=_RESAMPLE_ITERATIONS)
    order = np.lexsort([many.objective, of])
    return _picked(many, order[np.searchsorted(of, np.arange(len(theta)))])


def _picked(found: Solution, which: npt.NDArray[np.intp] | slice) -> Solution:
    return Solution(theta=found.theta[which], objective=found.objective[which], converged=found.converged[which])


def _keep_better(found: Solution, again: Solution, of: npt.NDArray[np.intp]) -> None:
    """Put the second try at the problems ``of`` in place of the first where it is lower."""
    better = again.objective < found.objective[of]
    for name in ("theta", "objective", "converged"):
        getattr(found, name)[of[better]] = getattr(again, name)[better]


def _descend(
    problem: Problem,
    theta: FloatArray,
    y: FloatArray,
    w: FloatArray,
    *,
    tolerance: float = 1e-13,
    max_iterations: int = 200,
) -> Solution:
    """Minimise through the stages of the loss."""
    *easier, loss = problem.loss.stages()
    for stage in easier:
        theta = minimise(problem.law, theta, problem.x, y, w, loss=stage, tolerance=1e-6, max_iterations=60).theta
    return minimise(problem.law, theta, problem.x, y, w, loss=loss, tolerance=tolerance, max_iterations=max_iterations)


def _polish(
    problem: Problem,
    starts: FloatArray,
    y: FloatArray,
    w: FloatArray,
    *,
    tolerance: float = 1e-13,
    max_iterations: int = 200,
) -> Solution:
    """The better of two ways from every start: by way of the wide zone, and straight.

    The wide zone has fewer local optima, so more starts come through it, but all to the same side of a ridge; where a
    law fits badly the true optimum has been on the other.
    """
    wide = minimise(problem.law, starts, problem.x, y, w, loss=problem.loss.wider(), tolerance=1e-4, max_iterations=40)
    y, w = (np.broadcast_to(each, (len(starts), problem.x.shape[1])) for each in (y, w))
    ways, y, w = (np.concatenate([a, b]) for a, b in ((wide.theta, starts), (y, y), (w, w)))
    both = _descend(problem, ways, y, w, tolerance=tolerance, max_iterations=max_iterations)
    eased, straight = _picked(both, slice(len(starts))), _picked(both, slice(len(starts), None))
    first = eased.objective <= straight.objective
    return Solution(
        theta=np.where(first[:, None], eased.theta, straight.theta),
        objective=np.where(first, eased.objective, straight.objective),
        converged=np.where(first, eased.converged, straight.converged),
    )


def _search(problem: Problem, count: int) -> Optimum:
    starts = problem.law.starts(problem.x, problem.y, problem.w, count)
    found = _polish(problem, starts, problem.y, problem.w)
    best = int(np.argmin(found.objective))
    value = float(found.objective[best])
    agree = found.objective - value <= AGREEMENT * value + problem.tiny
    settled = bool(found.converged[best]) or value <= problem.tiny
    return _optimum(problem, found.theta[best], value, float(agree.mean()), settled and int(agree.sum()) >= 2)


def _optimum(problem: Problem, theta: FloatArray, value: float, agreeing: float, converged: bool) -> Optimum:
    low, high = problem.law.limits(problem.x)
    at_bound = tuple(
        name
        for name, t, lo, hi in zip(problem.law.parameters, theta, low, high, strict=True)
        if t <= lo + 1e-9 or t >= hi - 1e-9
    )
    return Optimum(theta=theta, objective=value, agreeing=agreeing, converged=converged, at_bound=at_bound)
