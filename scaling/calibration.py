"""How much wider a prediction has to be because a law is only approximately right.

An interval from the law alone (parameters and scatter of runs) takes the law for true, and on published tables it is
then too narrow beyond the data. Calibration adds a third error, the drift of the truth away from the law:

    log L = log Lhat + error of the parameters + scatter of a run + kappa g z,   z ~ N(0, 1)

with g the improvement that the law predicts over the largest size fitted, in log loss. So kappa says by which
share of a predicted gain the gain is off. It has no unit, is 0 inside the data, and makes intervals grow with
distance as fast as the prediction itself departs from what was measured.

kappa = 0, the law is right, has a prior probability of its own; else kappa is log-normal (a spike and a slab). The
likelihood of the errors of rolling hold-outs inside the fit (:mod:`scaling.holdouts`) turns this prior into a
posterior: Student's t with four degrees of freedom, since some rows are outliers, and every factor of 3 in size
counting once however many rows and cuts lie in it, since those share their luck. Intervals are quantiles of the
sum above with kappa drawn from the posterior, so what is not known about kappa is in them as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from scaling import large
from scaling.holdouts import Holdouts, rolling, sizes
from scaling.points import FloatArray, Points
from scaling.problem import Optimum, Problem

GRID = np.concatenate([[0.0], np.geomspace(0.01, 3.0, 31)])
_FREEDOM = 4.0
_TINY = 1e-16  # variance below which rows are met exactly; keeps the likelihood finite
_ALL_BUT_ONE_IN = 10  # cuts of which one may have the other sign for the sign to count as constant
_FEW_CUTS = 3


@dataclass(frozen=True, kw_only=True)
class Prior:
    """What is believed of kappa before a table is seen; see docs/calibration.md for where the values come from.

    Attributes:
        right: probability that the law needs no drift.
        median: median of kappa where it does.
        log_sd: standard deviation of log kappa where it does.
    """

    right: float = 0.3
    median: float = 0.15
    log_sd: float = 0.3

    def weights(self) -> FloatArray:
        """Probability of every value of ``GRID``, shape (32,)."""
        slab = np.exp(-0.5 * (np.log(GRID[1:] / self.median) / self.log_sd) ** 2)
        return np.concatenate([[self.right], (1.0 - self.right) * slab / slab.sum()])


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What hold-outs inside a fit say about its extrapolations.

    Attributes:
        largest: log of the largest size fitted, the product of the law's axes.
        evidence: log likelihood of the hold-out errors at every value of ``GRID`` relative to the greatest; all 0
            without hold-outs.
        n_cuts: cuts that were made.
        n_errors: predictions that were compared with a fitted row.
        n_blocks: pieces of evidence that they count as.
        n_high: cuts whose predictions were too high on average.
        n_low: cuts whose predictions were too low on average.
        mean_signed: mean of log L - log Lhat over the predictions; nan without hold-outs.
        prior: what was believed of kappa before.
    """

    largest: float
    evidence: tuple[float, ...]
    n_cuts: int = 0
    n_errors: int = 0
    n_blocks: int = 0
    n_high: int = 0
    n_low: int = 0
    mean_signed: float = float("nan")
    prior: Prior = Prior()

    @property
    def weights(self) -> FloatArray:
        """Posterior probability of every value of ``GRID``, shape (32,)."""
        weights = self.prior.weights() * np.exp(self.evidence)
        return weights / weights.sum()

    @property
    def right(self) -> float:
        """Posterior probability that the law needs no drift."""
        return float(self.weights[0])

    @property
    def kappa(self) -> float:
        """Root mean square of kappa: the share of a predicted gain by which it is expected to be off."""
        return float(np.sqrt(self.weights @ GRID**2))

    @property
    def biased(self) -> bool:
        """Whether hold-outs err to one side at nearly every cut, and are better explained by drift than without."""
        same = max(self.n_high, self.n_low)
        constant = self.n_cuts >= _FEW_CUTS and same >= self.n_cuts * (1 - 1 / _ALL_BUT_ONE_IN)
        return constant and self.right < self.prior.right

    def quantile(self, share: float) -> float:
        """Quantile of kappa under the posterior."""
        return float(GRID[np.searchsorted(np.cumsum(self.weights), share * (1 - 1e-12))])

    def drift(self, count: int, seed: int) -> FloatArray:
        """Draws of kappa z, shape (count,).

        kappa and z are each spread evenly over their distribution and paired at random: with independent draws the
        width of an interval would depend on the seed by several per cent.
        """
        rng = np.random.default_rng([seed, 2])
        levels = (np.arange(count) + 0.5) / count
        cumulative = np.cumsum(self.weights)
        kappa = GRID[np.minimum(np.searchsorted(cumulative, levels), len(GRID) - 1)]
        normal = NormalDist()
        z = np.array([normal.inv_cdf(level) for level in levels])
        return rng.permutation(kappa) * rng.permutation(z)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Calibration:
        """Inverse of ``dataclasses.asdict``, with null for nan."""
        plain = dict(document)
        plain["prior"] = Prior(**plain["prior"])
        plain["evidence"] = tuple(float(value) for value in plain["evidence"])
        mean = plain["mean_signed"]
        plain["mean_signed"] = float("nan") if mean is None else float(mean)
        return cls(**plain)


def calibrate(problem: Problem, points: Points, optimum: Optimum, *, seed: int) -> Calibration:
    """Measure hold-outs inside a fit.

    Args:
        problem: the posed fit.
        points: the rows it was posed from, in the same order.
        optimum: the fit of all rows.
        seed: seed of the resamples.

    Returns:
        The calibration; without evidence where the rows allow no hold-outs, so that the prior decides.
    """
    if points.n > large.MANY_ROWS:
        problem, points = large.part(problem), points.take(large.part_rows(points.n))
    size, centre = sizes(problem.law, problem.x), sizes(problem.law, problem.frame.centre[:, None])[0]
    largest = float(size[problem.w > 0].max() + centre)
    found = rolling(problem, points, optimum, seed=seed)
    if found is None:
        return Calibration(largest=largest, evidence=(0.0,) * len(GRID))
    cuts = found.cut.astype(np.intp)
    signed = np.bincount(cuts, weights=found.error) / np.bincount(cuts)
    return Calibration(
        largest=largest,
        evidence=tuple(float(value) for value in log_likelihood(found)),
        n_cuts=len(signed),
        n_errors=len(found.error),
        n_blocks=len(np.unique(found.block)),
        n_high=int((signed < 0).sum()),
        n_low=int((signed > 0).sum()),
        mean_signed=float(found.error.mean()),
    )


def log_likelihood(found: Holdouts) -> FloatArray:
    """Log likelihood at every value of ``GRID`` relative to the greatest, shape (32,).

    Student's t for every error, scaled by noise, spread and drift together; the rows of a block share a weight of 1.
    """
    variance = (found.noise**2 + found.spread**2 + _TINY)[:, None] + np.outer(found.improvement**2, GRID**2)
    squared = found.error[:, None] ** 2 / variance
    each = -0.5 * np.log(variance) - 0.5 * (_FREEDOM + 1) * np.log1p(squared / _FREEDOM)
    _, block, rows = np.unique(found.block, return_inverse=True, return_counts=True)
    total = (1.0 / rows[block]) @ each
    return total - total.max()
