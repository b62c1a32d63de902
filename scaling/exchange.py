"""Choosing the best set of runs: greedily, then by exchange.

Runs are chosen greedily, by gain per FLOP, by gain, and between the two, and then exchanged one by one while that
helps (Fedorov's exchange). A place can be taken twice: repeating a run with another seed averages its luck.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scaling.points import FloatArray

_WORTH = 0.01  # share of the variance that one more run has to take away
_ROUNDS = 20
_TRIED = 12
_POWERS = (1.0, 0.5, 0.0)
_POLISHED = 3

Chosen = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """Covariance of log loss at the candidates and, last, at the target, shape (m + 1, m + 1); and a run's variance."""

    covariance: FloatArray
    noise: float

    def after(self, chosen: Sequence[int]) -> FloatArray:
        """Covariance once these candidates have been run."""
        covariance = self.covariance.copy()
        for j in chosen:
            column = covariance[:, j].copy()
            covariance -= np.outer(column, column) / (column[j] + self.noise)
        return covariance

    def variance(self, chosen: Sequence[int]) -> float:
        """Variance at the target once these candidates have been run."""
        return max(float(self.after(chosen)[-1, -1]), 0.0)


def choose(kernel: Kernel, flops: FloatArray, budget: float, most: int, must: npt.NDArray[np.bool_] | None) -> Chosen:
    """The best set found.

    Args:
        kernel: what is known before.
        flops: cost of every candidate, shape (m,).
        budget: what all runs together may cost.
        most: upper limit of the number of runs.
        must: candidates of which the set has to hold one, shape (m,); None where none has to be in it.

    Returns:
        Numbers of candidates; one may be in it several times.
    """
    starts: list[Chosen] = [()]
    if must is not None:
        gain = np.where(must & (flops <= budget), gains(kernel.covariance, kernel.noise), 0.0)
        starts = [(int(j),) for j in np.argsort(-gain, kind="stable")[:_TRIED] if gain[j] > 0.0]
    greedy = [(start, _greedy(kernel, flops, budget, most, start, power)) for start in starts for power in _POWERS]
    greedy.sort(key=lambda each: kernel.variance(each[1]))
    found = [_polish(kernel, flops, budget, most, each, kept) for kept, each in greedy[:_POLISHED]]
    return min(found, key=kernel.variance)


def _polish(kernel: Kernel, flops: FloatArray, budget: float, most: int, start: Chosen, kept: Chosen) -> Chosen:
    """Exchange; then drop what is hardly worth its place, fill up with what gains most, and exchange again."""
    chosen = _exchange(kernel, flops, budget, most, start, kept)
    for _ in range(_ROUNDS):
        best = kernel.variance(chosen)
        slim = _pruned(kernel, chosen, len(kept))
        fuller = _exchange(kernel, flops, budget, most, _greedy(kernel, flops, budget, most, slim, 0.0), kept)
        if kernel.variance(fuller) > best * (1 - 1e-3):
            return slim
        chosen = fuller
    return _pruned(kernel, chosen, len(kept))


def _pruned(kernel: Kernel, chosen: Chosen, kept: int) -> Chosen:
    """Without runs that take away less than ``_WORTH`` of the variance, one after the other: each costs a place."""
    while len(chosen) > kept:
        fewer = [(*chosen[:i], *chosen[i + 1 :]) for i in range(kept, len(chosen))]
        slim = min(fewer, key=kernel.variance)
        if kernel.variance(slim) > kernel.variance(chosen) * (1 + _WORTH):
            break
        chosen = slim
    return chosen


def gains(covariance: FloatArray, noise: float) -> FloatArray:
    """Variance at the target that one more run of each candidate takes away, shape (m,)."""
    return covariance[-1, :-1] ** 2 / (np.diag(covariance)[:-1] + noise)


def _greedy(kernel: Kernel, flops: FloatArray, budget: float, most: int, start: Chosen, power: float) -> Chosen:
    """Add runs with the most gain over cost to a power: 1 is gain per FLOP, 0 gain alone."""
    chosen = start
    while len(chosen) < most:
        covariance = kernel.after(chosen)
        gain = gains(covariance, kernel.noise)
        left = budget - float(flops[list(chosen)].sum())
        worth = (flops <= left * (1 + 1e-12)) & (gain > _WORTH * covariance[-1, -1])
        if not worth.any():
            break
        score = gain / flops**power
        chosen = (*chosen, int(np.argmax(np.where(worth, score, -np.inf))))
    return chosen


def _exchange(kernel: Kernel, flops: FloatArray, budget: float, most: int, start: Chosen, kept: Chosen) -> Chosen:
    """Swap runs for better ones that the budget bears, and fill up, while the variance falls."""
    chosen, best = start, kernel.variance(start)
    for _ in range(_ROUNDS):
        previous = best
        for place in range(len(kept), len(chosen)):
            others = (*chosen[:place], *chosen[place + 1 :])
            room = budget - float(flops[list(others)].sum())
            covariance = kernel.after(others)
            gain = np.where(flops <= room * (1 + 1e-12), gains(covariance, kernel.noise), -np.inf)
            swapped = (*others[:place], int(np.argmax(gain)), *others[place:])
            variance = float(covariance[-1, -1] - gain.max())
            if variance < best * (1 - 1e-6):
                chosen, best = swapped, variance
        chosen = _greedy(kernel, flops, budget, most, chosen, 1.0)
        best = kernel.variance(chosen)
        if best > previous * (1 - 1e-4):
            break
    return chosen
