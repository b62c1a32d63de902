"""Correlations of many resamples at once: a resample is how often every row counts, not a copy of the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from scaling.points import FloatArray

IntArray = npt.NDArray[np.intp]
_BLOCK = 512  # rows whose pairs are held at once


def centred(values: FloatArray) -> FloatArray:
    """The values without their mean; sums of squares then lose fewer digits."""
    return values - values.mean() if len(values) else values


def codes(labels: npt.NDArray[Any]) -> IntArray:
    """Number of every label, 0 and up, shape (n,)."""
    return np.unique(labels, return_inverse=True)[1].astype(np.intp)


def pearson(a: FloatArray, b: FloatArray, w: FloatArray, group: IntArray) -> FloatArray:
    """Linear correlation of deviations from weighted group means, shape (resamples,).

    Args:
        a: centred first column, shape (n,), or one of each resample, shape (resamples, n).
        b: centred second column, likewise.
        w: row weights of every resample, shape (resamples, n).
        group: group of every row, 0 and up, shape (n,).
    """
    if w.shape[1] == 0:
        return np.full(len(w), np.nan)
    member = np.eye(int(group.max()) + 1)[group]
    count = np.maximum(w @ member, 1e-300)
    total_a, total_b = (w * a) @ member, (w * b) @ member

    def product(p: FloatArray, q: FloatArray, sum_p: FloatArray, sum_q: FloatArray) -> tuple[FloatArray, FloatArray]:
        whole = (w * p * q).sum(axis=1)
        return whole - (sum_p * sum_q / count).sum(axis=1), whole

    both, _ = product(a, b, total_a, total_b)
    (var_a, all_a), (var_b, all_b) = product(a, a, total_a, total_a), product(b, b, total_b, total_b)
    # What is left of a column that does not vary within its groups is rounding, which would correlate with anything.
    varies = (var_a > 1e-12 * all_a) & (var_b > 1e-12 * all_b) & (w.sum(axis=1) >= 3)
    size = np.sqrt(np.where(varies, var_a * var_b, 1.0))
    return np.where(varies, np.clip(both / size, -1.0, 1.0), np.nan)


def spearman(a: FloatArray, b: FloatArray, w: FloatArray) -> FloatArray:
    """Spearman's correlation of every resample, shape (resamples,); arguments as for :func:`pearson`."""
    ranks = [_weighted_ranks(side, w) for side in (a, b)]
    return pearson(ranks[0], ranks[1], w, np.zeros(len(a), dtype=np.intp))


def _weighted_ranks(values: FloatArray, w: FloatArray) -> FloatArray:
    """Centred ranks in every resample, shape (resamples, n), ties sharing their mean."""
    if not len(values):
        return w
    code = codes(values)
    count = w @ np.eye(int(code.max()) + 1)[code]
    ranks = (np.cumsum(count, axis=1) - 0.5 * count)[:, code]
    return ranks - 0.5 * w.sum(axis=1, keepdims=True)


def kendall(a: FloatArray, b: FloatArray, w: FloatArray) -> FloatArray:
    """Kendall's tau-b of every resample, shape (resamples,): pairs of rows weigh the product of their weights."""
    agree, differ_a, differ_b = (np.zeros(len(w)) for _ in range(3))
    for start in range(0, len(a), _BLOCK):
        rows = slice(start, start + _BLOCK)
        sign_a, sign_b = np.sign(a[rows, None] - a[None]), np.sign(b[rows, None] - b[None])
        agree += ((w @ (sign_a * sign_b).T) * w[:, rows]).sum(axis=1)
        differ_a += ((w @ np.abs(sign_a).T) * w[:, rows]).sum(axis=1)
        differ_b += ((w @ np.abs(sign_b).T) * w[:, rows]).sum(axis=1)
    size = np.sqrt(differ_a * differ_b)
    return np.where(size > 0, agree / np.where(size > 0, size, 1.0), np.nan)
