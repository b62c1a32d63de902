"""Profile likelihood: how far a quantity can be pushed before the best fit of all else gets clearly worse.

For a value v the sum of squares is minimised under g(theta) = v, and the interval is where

    (RSS(v) - RSS) / s^2 <= t^2,  s^2 = RSS / (n - p), t the quantile of Student's t with n - p degrees of freedom,

which is the likelihood-ratio interval of normal noise with the small-sample quantile (Bates and Watts 1988, ch. 6). It
needs a likelihood, so the loss has to be least squares on log loss. Rows of runs are not independent: there the limit
is multiplied by the ratio of the cluster-robust variance of g to Wald's, and t has clusters - 1 degrees of freedom.

An end is open, and given as 0 or infinity, where the quantity can go to the limit of its range or 64 standard errors
away without crossing. The constraint is one more row whose weight makes g(theta) = v to 1e-6, so that the batched
solver does all values at once. Cost: three batched solves an end; about 0.1 s a quantity for 240 rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling.distributions import student_quantile
from scaling.errors import FitInputError
from scaling.intervals.delta import Covariance, covariance
from scaling.intervals.quantity import Quantity
from scaling.laws.base import Frame, Law, Linearised
from scaling.losses import LEAST_SQUARES
from scaling.points import FloatArray, Points
from scaling.problem import Optimum, Problem
from scaling.solver import minimise

_FIRM = 1e6  # weight of the constraint against a row's
_LADDER = np.array([0.5, 0.8, 1.0, 1.25, 1.6, 2.0, 2.8, 4.0, 8.0, 16.0, 32.0])  # in widths of Wald's interval
_FINE = np.linspace(0.0, 1.0, 7)


class _Constrained(Law):
    """A law with one more row, whose log loss is a quantity: holding that row to v holds the quantity to v."""

    def __init__(self, law: Law, quantity: Quantity) -> None:
        self.law, self.quantity = law, quantity
        self.name, self.formula, self.source = law.name, law.formula, law.source
        self.parameters, self.coefficients, self.axes = law.parameters, law.coefficients, law.axes
        self.floor, self.exponents = law.floor, law.exponents

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        return self.law.bounds

    def log_loss(self, theta: FloatArray, x: FloatArray) -> FloatArray:
        return np.column_stack([self.law.log_loss(theta, x[:, :-1]), self.quantity.of(theta)])

    def linearise(self, theta: FloatArray, x: FloatArray) -> Linearised:
        inner = self.law.linearise(theta, x[:, :-1])
        slope, bend = self.quantity.gradient(theta), self.quantity.hessian(theta)
        return Linearised(
            value=np.column_stack([inner.value, self.quantity.of(theta)]),
            jacobian=np.concatenate([inner.jacobian, slope[:, :, None]], axis=2),
            curvature=lambda c: inner.curvature(c[:, :-1]) + c[:, -1, None, None] * bend,
        )

    def starts(self, x: FloatArray, y: FloatArray, w: FloatArray, count: int) -> FloatArray:
        return self.law.starts(x[:, :-1], y[:-1], w[:-1], count)

    def to_natural(self, theta: FloatArray, frame: Frame) -> FloatArray:
        return self.law.to_natural(theta, frame)

    def to_internal(self, natural: FloatArray, frame: Frame) -> FloatArray:
        return self.law.to_internal(natural, frame)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A least-squares fit, ready to be profiled.

    Attributes:
        problem: the posed fit.
        wald: covariance that sets the steps.
        robust: cluster-robust covariance, None where rows are independent.
        scale: s^2.
        rss: the least sum of squares.
    """

    problem: Problem
    wald: Covariance
    robust: Covariance | None
    scale: float
    rss: float

    def bounds(self, quantity: Quantity, level: float) -> tuple[float, float]:
        """Ends on the working scale; infinite where open."""
        centre, stderr = float(quantity.of(self.wald.theta[None])[0]), self.wald.stderr(quantity)
        if not stderr > 0:
            return -np.inf, np.inf
        wider = 1.0 if self.robust is None else self.robust.stderr(quantity) / stderr
        freedom = self.wald.freedom if self.robust is None else self.robust.freedom
        limit = student_quantile(0.5 + 0.5 * level, freedom) * wider
        return self._end(quantity, centre, -limit * stderr, limit), self._end(quantity, centre, limit * stderr, limit)

    def _end(self, quantity: Quantity, centre: float, reach: float, limit: float) -> float:
        steps = np.concatenate([[0.0], _LADDER])
        root = np.concatenate([[0.0], self.root(quantity, centre + reach * _LADDER)])
        for _ in range(2):
            over = np.flatnonzero(~(root < limit))
            if not len(over):
                return float(np.copysign(np.inf, reach))
            inner, outer = steps[over[0] - 1], steps[over[0]]
            steps = inner + (outer - inner) * _FINE
            root = self.root(quantity, centre + reach * steps)
        i = int(np.flatnonzero(~(root < limit))[0])
        if np.isinf(root[i]):
            return float(np.copysign(np.inf, reach))  # the quantity cannot go further, and need not
        share = (limit - root[i - 1]) / max(root[i] - root[i - 1], 1e-300) if i else 0.0
        return centre + reach * float(steps[max(i - 1, 0)] + np.clip(share, 0.0, 1.0) * (steps[1] - steps[0]))

    def root(self, quantity: Quantity, values: FloatArray) -> FloatArray:
        """sqrt((RSS(v) - RSS) / s^2) at values of the working scale, shape (batch,); inf where v cannot be reached."""
        problem = self.problem
        law, batch = _Constrained(problem.law, quantity), len(values)
        x = np.concatenate([problem.x, np.zeros((len(problem.x), 1))], axis=1)
        y = np.concatenate([np.broadcast_to(problem.y, (batch, len(problem.y))), values[:, None]], axis=1)
        slope = quantity.gradient(self.wald.theta[None])[0]
        firm = _FIRM * float(problem.w.mean()) / max(float(slope @ slope), 1e-12)
        w = np.append(problem.w, firm)
        along = self.wald.matrix @ slope / max(float(slope @ self.wald.matrix @ slope), 1e-300)
        start = self.wald.theta + (values - float(quantity.of(self.wald.theta[None])[0]))[:, None] * along
        found = minimise(law, start, x, y, w, loss=LEAST_SQUARES, tolerance=1e-9, max_iterations=150)
        fitted = law.log_loss(found.theta, x)
        miss = np.abs(fitted[:, -1] - values) * np.sqrt(float(slope @ slope))
        rss = np.sum(problem.w * (problem.y - fitted[:, :-1]) ** 2, axis=1)
        root = np.sqrt(np.maximum(rss - self.rss, 0.0) / self.scale)
        return np.where(np.isfinite(rss) & (miss < 0.05), root, np.inf)


def profile(problem: Problem, points: Points, optimum: Optimum) -> Profile:
    """Prepare the profile of a fit.

    Raises:
        FitInputError: the loss is not least squares on log loss.
    """
    if not (problem.loss.quadratic and not problem.loss.linear and problem.loss.asymmetry == 1.0):
        raise FitInputError(
            f"profile intervals need a likelihood, and the loss is {problem.loss.text}: fit with loss 'least-squares',"
            " or take intervals of another kind"
        )
    wald = covariance(problem, points, optimum, robust=False)
    clustered = points.n_clusters < points.n
    rss = 2.0 * optimum.objective
    return Profile(
        problem=problem,
        wald=wald,
        robust=covariance(problem, points, optimum, robust=True) if clustered else None,
        scale=rss / max(points.n - len(optimum.theta), 1),
        rss=rss,
    )
