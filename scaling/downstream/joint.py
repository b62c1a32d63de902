"""One draw of runs for both steps of a chain: parameters of the law and of the metric, and the luck of a new run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling.bootstrap import MIN_DISTINCT
from scaling.downstream.fitting import MetricFit, PosedRows, draw_clusters
from scaling.downstream.rows import MetricRows
from scaling.points import FloatArray, LabelArray, Points, places
from scaling.problem import Problem, resolve
from scaling.results import FitResult

_MAX_LOST = 0.05  # share of resamples without three sizes above which residuals are resampled instead of runs
_WEBB = np.sqrt([1.5, 1.0, 0.5])


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Parameters of every resample: of the law, of the form in the loss, of the form in compute; each (b, p)."""

    law: FloatArray
    metric: FloatArray
    direct: FloatArray
    how: str


@dataclass(frozen=True, kw_only=True)
class Luck:
    """What a new run has of residuals: relative in the loss, (b, 1), and in the metric, rows of ``rows``, (b,)."""

    log_loss: FloatArray
    row: FloatArray


def labels_of(points: Points) -> LabelArray:
    """Cluster of every point, shape (n,): its number where none was given."""
    return np.arange(points.n).astype(np.str_) if points.cluster is None else points.cluster


def draw_chain(
    first: FitResult,
    problem: Problem,
    labels: LabelArray,
    second: PosedRows,
    direct: PosedRows | None,
    rows: MetricRows,
    count: int,
    seed: int,
) -> Draws:
    """Runs are drawn once for both steps; residuals of both are flipped together where runs are too few to draw."""
    everyone, codes = np.unique(np.concatenate([labels, rows.labels]), return_inverse=True)
    in_law, in_metric = codes[: len(labels)], codes[len(labels) :]
    theta = problem.law.to_internal(first.values[None], problem.frame)[0]
    steps = [second] if direct is None else [second, direct]
    if not count:
        none = [step.resampled(step.y, np.empty((0, rows.n))) for step in steps]
        return Draws(law=np.empty((0, len(theta))), metric=none[0], direct=none[-1], how="no resampling")
    times = draw_clusters(len(everyone), count, seed)
    w = times[:, in_law] * problem.w
    usable = _keeps_places(problem, w) & (times[:, in_metric].sum(axis=1) >= second.posed.free)
    if usable.mean() >= 1.0 - _MAX_LOST:
        found = resolve(problem, theta, problem.y, w[usable])
        drawn = [step.resampled(step.y, times[usable][:, in_metric]) for step in steps]
        how = "runs drawn with replacement, once for both steps"
    else:
        flips = np.random.default_rng(seed).choice(np.concatenate([-_WEBB, _WEBB]), size=(count, len(everyone)))
        fitted = problem.law.log_loss(theta[None], problem.x)[0]
        y = fitted + flips[:, in_law] * (problem.y - fitted) * _inflation(problem.y, len(theta))
        found = resolve(problem, theta, y, np.broadcast_to(problem.w, y.shape))
        drawn = [_wild(step, flips[:, in_metric]) for step in steps]
        how = "wild cluster bootstrap with six-point weights, the same for a run in both steps: its sizes are fixed"
    return Draws(
        law=problem.law.to_natural(found.theta, problem.frame),
        metric=drawn[0],
        direct=drawn[-1],
        how=how,
    )


def _keeps_places(problem: Problem, w: FloatArray) -> FloatArray:
    """Whether every axis keeps three places with a positive weight, shape (b,)."""
    keeps = np.ones(len(w), dtype=bool)
    for row in problem.x:
        place = places(np.exp(row))
        present = (w > 0).astype(float) @ np.eye(int(place.max()) + 1)[place] > 0
        keeps &= present.sum(axis=1) >= MIN_DISTINCT
    return keeps


def _inflation(values: FloatArray, free: int) -> float:
    return float(np.sqrt(len(values) / (len(values) - free))) if len(values) > free else 1.0


def _wild(step: PosedRows, flips: FloatArray) -> FloatArray:
    fitted = step.fitted
    y = fitted + flips * (step.y - fitted) * _inflation(step.y, step.posed.free)
    return step.resampled(y, np.ones_like(y))


def draw_luck(
    first: FitResult, labels: LabelArray, second: MetricFit, rows: MetricRows, bootstrap: int, seed: int
) -> Luck:
    """A row of the second step by chance, and a residual of the first step of the same run where it has one."""
    rng = np.random.default_rng([seed, 1])
    row = rng.integers(rows.n, size=len(second.draws))
    everyone, loss = np.arange(len(labels)), rng.integers(len(labels), size=len(row))
    for number, label in enumerate(rows.labels):
        same = everyone[labels == label]
        if len(same):
            loss[row == number] = rng.choice(same, size=int(np.count_nonzero(row == number)))
    return Luck(log_loss=first.residuals[loss][:, None], row=second.residuals[row])
