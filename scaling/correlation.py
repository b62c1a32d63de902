"""Correlation of two measurements of the same runs, with intervals that resample runs and not rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from scaling.errors import FitInputError
from scaling.points import FloatArray
from scaling.results import Estimate, interval_bounds


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """Pearson and Spearman correlation.

    Attributes:
        pearson: linear correlation; nan where one side does not vary or fewer than three rows are left.
        spearman: correlation of ranks, ties sharing their mean rank.
        n: rows used.
        n_clusters: independent units among them.
    """

    pearson: Estimate
    spearman: Estimate
    n: int
    n_clusters: int


def correlate(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    cluster: npt.ArrayLike | None = None,
    bootstrap: int = 2000,
    level: float = 0.8,
    seed: int = 0,
) -> Correlation:
    """Correlate two columns.

    Rows where either value is not finite are left out. Resamples in which a side does not vary have no
    correlation and are left out of the interval.

    Args:
        x: first column, shape (n,).
        y: second column, shape (n,).
        cluster: labels of what is independent, usually runs, shape (n,); None makes every row its own.
        bootstrap: resamples of clusters.
        level: level of the percentile intervals.
        seed: seed of the resamples.

    Returns:
        Both correlations.

    Raises:
        FitInputError: the columns differ in length.
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    labels = np.arange(len(a)) if cluster is None else np.asarray(cluster)
    if not len(a) == len(b) == len(labels):
        raise FitInputError(f"columns of {len(a)}, {len(b)} and {len(labels)} rows cannot be correlated")
    keep = np.isfinite(a) & np.isfinite(b)
    a, b = a[keep], b[keep]
    codes = np.unique(labels[keep], return_inverse=True)[1]
    n_clusters = int(codes.max()) + 1 if len(codes) else 0
    rows = _resampled_rows(codes, n_clusters, bootstrap, seed) if len(a) >= 3 else []
    return Correlation(
        pearson=_estimate(_pearson(a, b), [_pearson(a[r], b[r]) for r in rows], level),
        spearman=_estimate(_pearson(_ranks(a), _ranks(b)), [_pearson(_ranks(a[r]), _ranks(b[r])) for r in rows], level),
        n=len(a),
        n_clusters=n_clusters,
    )


def _resampled_rows(codes: npt.NDArray[np.intp], n_clusters: int, count: int, seed: int) -> list[npt.NDArray[np.intp]]:
    members: list[npt.NDArray[np.intp]] = [np.flatnonzero(codes == number) for number in range(n_clusters)]
    drawn = np.random.default_rng(seed).integers(n_clusters, size=(count, n_clusters))
    if len(codes) == n_clusters:
        order = np.concatenate(members)
        return list(order[drawn])
    picks = cast(list[list[int]], drawn.tolist())
    return [np.concatenate([members[number] for number in row]) for row in picks]


def _pearson(a: FloatArray, b: FloatArray) -> float:
    if len(a) < 3:
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    # Below rounding error of the mean, a constant column would otherwise correlate with anything.
    return float(np.clip(a @ b / size, -1.0, 1.0)) if size > 1e-300 else float("nan")


def _ranks(values: FloatArray) -> FloatArray:
    """Ranks from 0, ties sharing their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return ((last - counts + last - 1) / 2.0)[inverse]


def _estimate(value: float, draws: list[float], level: float) -> Estimate:
    finite = np.array([draw for draw in draws if np.isfinite(draw)])
    if not np.isfinite(value) or len(finite) == 0:
        return Estimate(value=value, stderr=float("nan"), interval=(float("nan"), float("nan")))
    low, high = np.quantile(finite, interval_bounds(level))
    return Estimate(value=value, stderr=float(finite.std()), interval=(float(low), float(high)))
