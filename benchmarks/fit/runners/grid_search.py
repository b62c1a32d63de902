"""The grid of starts of Hoffmann et al. 2022 as Besiroglu et al. 2024 (arXiv 2404.10102) run it, written anew.

The log-sum-exp form in raw units, the Huber loss of log residuals summed, L-BFGS-B with scipy's numeric gradient and
default options from each of 4,500 starts; every resample once by BFGS from the best of them. They take the gradient of
the resamples by automatic differentiation; here it is written out, which is quicker.

``COUNT`` starts are drawn from the grid by ``SEED``, ``COUNT`` resamples are made.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import common
import numpy as np
import scipy
from scipy.optimize import minimize
from scipy.special import logsumexp

DELTA = 1e-3
GRID = (
    np.arange(0.0, 30.0, 5.0),  # log A
    np.arange(0.0, 30.0, 5.0),  # log B
    np.arange(-1.0, 1.5, 0.5),  # log E
    np.arange(0.0, 2.5, 0.5),  # alpha
    np.arange(0.0, 2.5, 0.5),  # beta
)
RESAMPLES = 1000
_SETTLING_STARTS = 40  # enough of the grid for a start of the resamples; not timed


class Problem:
    """The objective of a table; theta = log A, log B, log E, alpha, beta."""

    def __init__(self, table: common.Table) -> None:
        self.log_n, self.log_d, self.log_loss = np.log(table.params), np.log(table.data), np.log(table.loss)

    def terms(self, theta: np.ndarray) -> np.ndarray:
        """Logarithms of the three terms, shape (3, n)."""
        a, b, e, alpha, beta = theta
        return np.stack([a - alpha * self.log_n, b - beta * self.log_d, np.full_like(self.log_n, e)])

    def predict(self, theta: np.ndarray) -> np.ndarray:
        """Predicted loss of every point, shape (n,)."""
        return np.exp(logsumexp(self.terms(theta), axis=0))

    def value(self, theta: np.ndarray, w: np.ndarray) -> float:
        """Summed Huber loss of log residuals."""
        size = np.abs(self.log_loss - logsumexp(self.terms(theta), axis=0))
        inside = np.minimum(size, DELTA)
        return float(w @ (inside * (size - 0.5 * inside)))

    def gradient(self, theta: np.ndarray, w: np.ndarray) -> np.ndarray:
        """Its gradient, shape (5,)."""
        terms = self.terms(theta)
        predicted = logsumexp(terms, axis=0)
        share = np.exp(terms - predicted)
        pull = -w * np.clip(self.log_loss - predicted, -DELTA, DELTA)
        a, b, e = share @ pull
        return np.array([a, b, e, -pull @ (share[0] * self.log_n), -pull @ (share[1] * self.log_d)])

    def grid_fit(self, count: int, seed: int) -> np.ndarray:
        """Best end among ``count`` starts of the grid, shape (5,)."""
        starts = np.array(list(itertools.product(*GRID)))
        chosen = starts[np.random.default_rng(seed).choice(len(starts), size=min(count, len(starts)), replace=False)]
        w = np.ones_like(self.log_loss)
        with np.errstate(all="ignore"):
            found = [minimize(self.value, start, args=(w,), method="L-BFGS-B") for start in chosen]
        return min(found, key=lambda each: each.fun).x


def _fit(table: common.Table, count: int, seed: int) -> Callable[[], common.Done]:
    problem, total = Problem(table), int(np.prod([len(axis) for axis in GRID]))

    def work() -> common.Done:
        theta = problem.grid_fit(count, seed)
        return common.Done(predict=lambda: problem.predict(theta), done=min(count, total), of=total)

    return work


def _bootstrap(table: common.Table, count: int, seed: int) -> Callable[[], common.Done]:
    problem, n = Problem(table), len(table.loss)
    best = problem.grid_fit(_SETTLING_STARTS, 0)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=count).astype(float)

    def work() -> common.Done:
        for w in counts:
            minimize(problem.value, best, args=(w,), jac=problem.gradient, method="BFGS")
        return common.Done(predict=None, done=count, of=RESAMPLES)

    return work


if __name__ == "__main__":
    common.answer("scipy", scipy.__version__, {"fit": _fit, "bootstrap": _bootstrap})
