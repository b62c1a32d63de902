"""Correlation of two measurements of the same runs, with intervals that resample runs and not rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from scaling.errors import FitInputError
from scaling.estimates import Estimate, estimate
from scaling.fitting import check_options
from scaling.notices import Notice
from scaling.points import FloatArray
from scaling.weighted_correlation import centred, codes, kendall, pearson, spearman

MIN_RUNS = 5  # with fewer, a resample has hardly three different runs and any line goes through them


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
    return estimate(value, finite, level)


@dataclass(frozen=True, kw_only=True)
class Trends:
    """How two measurements of checkpoints go together: over all rows, and split into within and between runs.

    A correlation over all checkpoints mixes two questions. Within runs: as training goes on, do both move?
    Between runs: does a run with a lower x have a higher y? Only the second is about models.

    Attributes:
        pearson: linear correlation over all rows.
        spearman: correlation of ranks over all rows, ties sharing their mean rank.
        kendall: Kendall's tau-b over all rows.
        partial: linear correlation of deviations from the mean of the row's group (its depth); nan without groups.
        within: linear correlation of deviations from the mean of the row's run.
        between: linear correlation of the means of runs, each run counting once.
        n: rows used.
        n_clusters: runs among them.
        n_groups: groups among them; 0 without groups.
    """

    pearson: Estimate
    spearman: Estimate
    kendall: Estimate
    partial: Estimate
    within: Estimate
    between: Estimate
    n: int
    n_clusters: int
    n_groups: int


def trends(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    cluster: npt.ArrayLike,
    group: npt.ArrayLike | None = None,
    bootstrap: int = 2000,
    level: float = 0.8,
    seed: int = 0,
) -> Trends:
    """Correlate two columns over all rows, given a group, within clusters and between them.

    Rows where either value is not finite are left out. Intervals are percentiles over resamples of whole
    clusters; resamples in which a side does not vary, or fewer than three different clusters remain to
    correlate between, have no correlation and are left out.

    Args:
        x: first column, shape (n,).
        y: second column, shape (n,).
        cluster: the run of every row, shape (n,).
        group: what the partial correlation holds fixed, usually depth, shape (n,).
        bootstrap: resamples of clusters.
        level: level of the intervals.
        seed: seed of the resamples.

    Returns:
        All correlations; nan where fewer than three rows (clusters) are left or a side does not vary.

    Raises:
        FitInputError: the columns differ in length, or the level is not between 0 and 1.
    """
    check_options(bootstrap, level)
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    labels = np.asarray(cluster)
    groups = np.zeros(len(a)) if group is None else np.asarray(group)
    if not len(a) == len(b) == len(labels) == len(groups):
        raise FitInputError(f"columns of {len(a)}, {len(b)}, {len(labels)} and {len(groups)} rows do not match")
    keep = np.isfinite(a) & np.isfinite(b)
    a, b = centred(a[keep]), centred(b[keep])
    run, fixed = codes(labels[keep]), codes(groups[keep])
    k = int(run.max()) + 1 if len(run) else 0
    times = _times(k, bootstrap, seed)
    w, one = times[:, run], np.zeros_like(run)
    sizes = np.maximum(np.bincount(run, minlength=k), 1)
    mean_a, mean_b = (centred(np.bincount(run, weights=side, minlength=k) / sizes) for side in (a, b))

    def summary(values: FloatArray, clusters_needed: int = 1) -> Estimate:
        usable = np.where((times > 0).sum(axis=1) >= clusters_needed, values, np.nan)
        return _estimate(float(usable[0]), usable[1:].tolist(), level)

    return Trends(
        pearson=summary(pearson(a, b, w, one)),
        spearman=summary(spearman(a, b, w)),
        kendall=summary(kendall(a, b, w)),
        partial=summary(np.full(len(w), np.nan) if group is None else pearson(a, b, w, fixed)),
        within=summary(pearson(a, b, w, run)),
        between=summary(pearson(mean_a, mean_b, times, np.zeros(k, dtype=np.intp)), clusters_needed=3),
        n=len(a),
        n_clusters=k,
        n_groups=0 if group is None or not len(a) else int(fixed.max()) + 1,
    )


def _times(clusters: int, resamples: int, seed: int) -> FloatArray:
    """How often every cluster counts, shape (1 + resamples, clusters): once each, then as drawn."""
    once = np.ones((1, clusters))
    if clusters == 0:
        return np.ones((1 + resamples, 0))
    drawn = np.random.default_rng(seed).multinomial(clusters, np.full(clusters, 1.0 / clusters), size=resamples)
    return np.concatenate([once, drawn.astype(np.float64)])


def describe(result: Trends, x: str, y: str) -> Notice:
    """What the split into within and between runs says, in a sentence.

    Args:
        result: the correlations.
        x: what the first column is, for example "validation loss".
        y: what the second column is.

    Returns:
        Code "scaling-trend" (between and within), "between-only", "training-only", "opposite", "no-trend" or
        "few-runs".
    """
    within, between = _sign(result.within), _sign(result.between)
    along = f"along training {_shown(result.within)}"
    across = f"between runs {_shown(result.between)}"
    numbers = f"({along}; {across}; {result.n_clusters} runs)"
    if result.n_clusters < MIN_RUNS:
        return Notice(
            code="few-runs",
            message=f"{result.n_clusters} runs cannot show whether {y} goes with {x} from run to run ({along}): what is"
            f" seen along training curves alone is not a scaling trend. Evaluate at least {MIN_RUNS} runs.",
        )
    if within * between < 0:
        text = f"Along training and between runs {y} goes opposite ways with {x} {numbers}: the correlation over all"
        return Notice(code="opposite", message=f"{text} checkpoints mixes the two. Between runs is what scaling asks.")
    if between and within:
        ways = f"Lower {x} goes with {'higher' if between < 0 else 'lower'} {y}"
        text = f"{ways} along training and from run to run {numbers}: it is a trend between runs too."
        return Notice(code="scaling-trend", message=text)
    if between:
        text = f"{y} goes with {x} from run to run {numbers}; within training curves no such trend is seen."
        return Notice(code="between-only", message=text)
    if within:
        text = f"{y} goes with {x} only within training curves {numbers}: both change as training goes on, but runs of"
        return Notice(
            code="training-only", message=f"{text} lower {x} do not differ in {y}. It is not a scaling trend."
        )
    return Notice(code="no-trend", message=f"{y} goes with {x} neither along training nor between runs {numbers}.")


def _sign(estimate: Estimate) -> int:
    """1 or -1 where the interval leaves out 0, else 0."""
    low, high = estimate.interval
    return int(low > 0) - int(high < 0)


def _shown(estimate: Estimate) -> str:
    if not np.isfinite(estimate.value):
        return "nothing to compare"
    low, high = estimate.interval
    return f"r {estimate.value:+.2f}" + ("" if np.isnan(low) else f" ({low:+.2f} to {high:+.2f})")
