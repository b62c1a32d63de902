"""From the first part of a training curve to the loss at its end.

At a constant learning rate, after warm-up, ``L(s) = E + K (s + s0)^-g`` with E, K, s0 >= 0 and g > 0. Three
parameters bend the curve and its first part determines them badly, so a single best fit says little; instead all
pairs (g, s0) of a grid are weighed by how well they explain the curve. For a pair the law is linear in E and K, whose
posterior under flat priors is a Student t in closed form, so the weighing is exact on the grid and needs no sampler.
Residuals are taken to be autocorrelated (AR(1)): neighbouring validation losses err alike, and counted as independent
they would make intervals too narrow.

Complete runs of the same model size have curves of like shape and share g and s0: their likelihoods multiply; E and K
are the run's own. Runs of other sizes do not help there (measured, see docs/curve.md), but they serve as a backtest:
each is predicted from the same first part, and where measured losses fall outside their intervals too often, the
interval of the run in question is widened until they would not (:func:`predict`).

The law says nothing about a learning rate that decays; see :func:`constant_part`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import numpy.typing as npt

from scaling.errors import FitInputError
from scaling.fitting import check_options
from scaling.points import FloatArray
from scaling.projection import cells
from scaling.results import Estimate, interval_bounds

IntArray = npt.NDArray[np.intp]

MIN_POINTS = 5  # four parameters and a residual
DRAWS = 4000
_LEAST_POWER, _MOST_POWER = 0.03, 3.0
_GRID = (44, 24)  # values of g and of s0
_REFINEMENTS = 5
_ENOUGH = 0.1  # share of pairs that matter from which the grid is fine enough
_NEGLIGIBLE = 14.0  # pairs so much less likely (in log) than the best do not matter
_SAME_SIZE = 0.01  # relative difference below which two models are of one size
_SAME_RATE = 1e-3  # relative difference below which two learning rates are one
_MOST_CORRELATED = 0.9


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """Losses of one run.

    Args:
        run: its name.
        step: optimiser steps, shape (n,), positive; sorted where they are not.
        loss: loss at those steps, shape (n,), finite and positive.
        rate: learning rate at those steps, shape (n,); None where it is not known and taken to be constant.
        params: size of the model, N; None where it is not known, and then no run is of the same size.

    Raises:
        FitInputError: lengths differ, a step is there twice, or a value is not finite or positive.
    """

    run: str
    step: FloatArray
    loss: FloatArray
    rate: FloatArray | None = None
    params: float | None = None

    def __post_init__(self) -> None:
        step, loss = np.asarray(self.step, dtype=np.float64), np.asarray(self.loss, dtype=np.float64)
        rate = None if self.rate is None else np.asarray(self.rate, dtype=np.float64)
        if step.shape != loss.shape or step.ndim != 1 or (rate is not None and rate.shape != step.shape):
            raise FitInputError(f"run {self.run}: steps, losses and learning rates must be columns of one length")
        for name, values in (("step", step), ("loss", loss)):
            bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
            if len(bad):
                raise FitInputError(f"run {self.run}: {name} {values[bad[0]]} is not a finite, positive number")
        order = np.argsort(step, kind="stable")
        twice = np.flatnonzero(np.diff(step[order]) == 0)
        if len(twice):
            raise FitInputError(f"run {self.run}: step {step[order][twice[0]]:g} is there twice")
        object.__setattr__(self, "step", step[order])
        object.__setattr__(self, "loss", loss[order])
        object.__setattr__(self, "rate", None if rate is None else rate[order])

    def between(self, first: float, last: float) -> Curve:
        """The rows of steps ``first`` to ``last``, both included."""
        keep = (self.step >= first) & (self.step <= last)
        rate = None if self.rate is None else self.rate[keep]
        return replace(self, step=self.step[keep], loss=self.loss[keep], rate=rate)


@dataclass(frozen=True, kw_only=True)
class Extrapolation:
    """The loss of a run at a later step.

    Attributes:
        run: the run.
        n: losses it was fitted on.
        last: last step of them.
        to: the step predicted.
        loss: median of the predicted loss.
        interval: where a measured loss falls.
        parameters: E, K, s0 and g of this run: medians, standard deviations and intervals.
        correlation: of neighbouring residuals.
        noise: relative standard deviation of a residual at the best pair.
        borrowed: complete runs of the same size whose shape informed this one.
        tests: backtests behind the interval.
        widened: factor by which they widened it, in log loss; 1 where they did not.
    """

    run: str
    n: int
    last: float
    to: float
    loss: float
    interval: tuple[float, float]
    parameters: dict[str, Estimate]
    correlation: float
    noise: float
    borrowed: int
    tests: int = 0
    widened: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Origin:
    """One prediction of a measured loss from an earlier part of the same run.

    Attributes:
        prediction: the prediction.
        measured: the loss at its step.
    """

    prediction: Extrapolation
    measured: float

    @property
    def error(self) -> float:
        """Measured - predicted."""
        return self.measured - self.prediction.loss

    @property
    def inside(self) -> bool:
        """Whether the measured loss is in the interval."""
        low, high = self.prediction.interval
        return low <= self.measured <= high


def constant_part(curve: Curve, warmup: float = 0.0) -> Curve:
    """The rows after warm-up and before the learning rate decays.

    Where the rate is known, warm-up ends when it reaches its greatest value, and decay starts when it leaves it for
    good. The loss falls during a decay in a way that this law does not describe (Tissue et al. 2024, arXiv
    2408.11029, add a term for it, which the part before the decay does not determine): it is cut off, and what is
    predicted is the loss at the constant rate.

    Args:
        curve: the curve.
        warmup: steps to leave out at least.

    Raises:
        FitInputError: fewer than ``MIN_POINTS`` rows are left.
    """
    first, last = warmup, float(curve.step[-1]) if len(curve.step) else 0.0
    if curve.rate is not None and len(curve.rate):
        top = np.flatnonzero(curve.rate >= (1 - _SAME_RATE) * curve.rate.max())
        first, last = max(first, float(curve.step[top[0]])), float(curve.step[top[-1]])
    kept = curve.between(first, last)
    if len(kept.step) < MIN_POINTS:
        raise FitInputError(
            f"run {curve.run}: {len(kept.step)} losses at a constant learning rate after step {first:g};"
            f" the curve needs at least {MIN_POINTS}"
        )
    return kept


def extrapolate(
    curve: Curve, to: float, alike: Sequence[Curve] = (), *, level: float = 0.8, draws: int = DRAWS, seed: int = 0
) -> Extrapolation:
    """Predict the loss of a run at a later step, as far as the law is right.

    Args:
        curve: the run so far, at a constant rate after warm-up.
        to: step to predict.
        alike: runs that share the shape of the curve, likewise cut.
        level: level of the intervals.
        draws: draws from the posterior.
        seed: seed of the draws.

    Returns:
        The prediction.

    Raises:
        FitInputError: too few losses, a step that is not positive, or an option out of range.
    """
    check_options(draws, level)
    if not 0 < to < np.inf:
        raise FitInputError(f"cannot predict step {to}: it must be positive")
    if len(curve.step) < MIN_POINTS:
        raise FitInputError(f"run {curve.run}: {len(curve.step)} losses; the curve needs at least {MIN_POINTS}")
    usable = [other for other in alike if len(other.step) >= MIN_POINTS]
    pairs, own, weight = _posterior(curve, usable)
    rng = np.random.default_rng(seed)
    picked = rng.choice(len(pairs), size=draws, p=weight / weight.sum())
    sampled = _sample(own, picked, rng)
    g, s0 = pairs[picked].T
    height = (curve.step[0] + s0) ** g  # K of the law from K of the column that is 1 at the first step
    mean = sampled.floor + sampled.drop * ((to + s0) / (curve.step[0] + s0)) ** -g
    loss = mean * np.exp(sampled.noise * rng.standard_normal(draws))
    low, high = np.quantile(loss, interval_bounds(level))
    values = {"E": sampled.floor, "K": sampled.drop * height, "s0": s0, "g": g}
    best = int(own.log_marginal.argmax())
    return Extrapolation(
        run=curve.run,
        n=len(curve.step),
        last=float(curve.step[-1]),
        to=float(to),
        loss=float(np.median(mean)),
        interval=(float(low), float(high)),
        parameters={name: _estimate(each, level) for name, each in values.items()},
        correlation=own.correlation,
        noise=float(np.sqrt(own.squares[best] / own.freedom / (1 - own.correlation**2))),
        borrowed=len(usable),
    )


def predict(
    curve: Curve, to: float, others: Sequence[Curve] = (), *, level: float = 0.8, seed: int = 0
) -> tuple[Extrapolation, tuple[Origin, ...]]:
    """Predict the loss of a run at a later step, with an interval that held on what could be checked.

    Args:
        curve: the run so far, at a constant rate after warm-up.
        to: step to predict.
        others: other runs of the study, likewise cut. Those of the same size share its shape; all that have got to
            ``to`` are backtests.
        level: level of the interval.
        seed: seed of the draws.

    Returns:
        The prediction, and the backtests behind its interval: the run itself from an earlier part, the same number of
        times shorter, and every other run from the part that this one has.

    Raises:
        FitInputError: see :func:`extrapolate`.
    """
    raw = extrapolate(curve, to, _same_size(curve, others), level=level, seed=seed)
    last = float(curve.step[-1])
    tests = [_test(curve, last * last / to, last, others, level, seed)] if to > last else []
    tests += [
        _test(other, last, to, [each for each in others if each is not other], level, seed)
        for other in others
        if other.step[-1] >= to > last
    ]
    done = tuple(test for test in tests if test is not None)
    factor = widening(done, level)
    low, high = (raw.loss * (bound / raw.loss) ** factor for bound in raw.interval)
    return replace(raw, interval=(low, high), tests=len(done), widened=factor), done


def widening(tests: Sequence[Origin], level: float) -> float:
    """Factor on the log width of an interval after which the share ``level`` of the tests would be inside.

    Split conformal prediction: of k tests the ceil((k + 1) level)-th least distance, in interval widths, and the
    greatest where k is too small for that. Intervals are never narrowed: 1 at least.
    """
    if not tests:
        return 1.0
    distances: list[float] = []
    for test in tests:
        middle, (low, high) = np.log(test.prediction.loss), np.log(test.prediction.interval)
        off = np.log(test.measured) - middle
        reach = high - middle if off > 0 else middle - low
        distances.append(abs(float(off)) / max(float(reach), 1e-12))
    place = min(int(np.ceil((len(distances) + 1) * level)), len(distances))
    return max(1.0, sorted(distances)[place - 1])


def _same_size(curve: Curve, others: Sequence[Curve]) -> list[Curve]:
    n = curve.params
    return [each for each in others if n and each.params and abs(np.log(each.params / n)) < _SAME_SIZE]


def _test(curve: Curve, until: float, to: float, others: Sequence[Curve], level: float, seed: int) -> Origin | None:
    """The run up to ``until`` against what it measured at ``to``; None where that part is too short."""
    part = curve.between(0.0, until)
    if len(part.step) < MIN_POINTS:
        return None
    at = int(np.abs(curve.step - to).argmin())
    if curve.step[at] <= part.step[-1]:
        return None
    prediction = extrapolate(part, float(curve.step[at]), _same_size(curve, others), level=level, seed=seed)
    return Origin(prediction=prediction, measured=float(curve.loss[at]))


def rolling_origin(
    curve: Curve,
    to: float,
    others: Sequence[Curve] = (),
    fractions: Sequence[float] = (0.4, 0.5, 0.6, 0.7, 0.8),
    *,
    level: float = 0.8,
    seed: int = 0,
) -> tuple[Origin, ...]:
    """Predict the loss at a measured step from ever longer first parts of the run.

    Args:
        curve: a run that has got to ``to``.
        to: the step to predict; the nearest measured one counts.
        others: as for :func:`predict`.
        fractions: of ``to``; parts with fewer than ``MIN_POINTS`` losses are left out.
        level: level of the intervals.
        seed: seed of the draws.
    """
    at = int(np.abs(curve.step - to).argmin())
    target, found = float(curve.step[at]), list[Origin]()
    for fraction in fractions:
        part = curve.between(0.0, fraction * target)
        if len(part.step) >= MIN_POINTS:
            prediction, _ = predict(part, target, others, level=level, seed=seed)
            found.append(Origin(prediction=prediction, measured=float(curve.loss[at])))
    return tuple(found)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Weighed:
    """A curve against every cell (g, s0): means and covariances of (E, K), with K in units of the first step.

    Attributes:
        centre: (E, K) of least squares, shape (cells, 2).
        root: Cholesky factor of the inverse of the normal matrix, shape (cells, 2, 2).
        squares: whitened sum of squares, shape (cells,).
        log_marginal: log of the likelihood with E, K and the noise integrated out, shape (cells,).
        freedom: n - 2.
        correlation: of neighbouring residuals.
    """

    centre: FloatArray
    root: FloatArray
    squares: FloatArray
    log_marginal: FloatArray
    freedom: int
    correlation: float


@dataclass(frozen=True, kw_only=True, eq=False)
class _Sample:
    floor: FloatArray
    drop: FloatArray
    noise: FloatArray


def _posterior(curve: Curve, alike: Sequence[Curve]) -> tuple[FloatArray, _Weighed, FloatArray]:
    """Pairs (g, s0), the curve against each, and their posterior weights up to a factor, shape (cells,).

    The grid spans g from 0.03 to 3 and s0 from 0 to the longest run. Where a long or quiet curve leaves few of its
    pairs, it is laid again over what they span.
    """
    first, last = float(curve.step[0]), max(float(each.step[-1]) for each in (curve, *alike))
    low, high = (math.log(_LEAST_POWER), 0.0), (math.log(_MOST_POWER), math.log1p(last / first))
    refinement = 0
    while True:
        place = cells(*(np.linspace(low[axis], high[axis], count) for axis, count in enumerate(_GRID)))
        pairs = np.column_stack([np.exp(place[:, 0]), first * np.expm1(place[:, 1])])
        own = _weigh(curve, pairs)
        score = own.log_marginal + sum(_weigh(other, pairs).log_marginal for other in alike)
        score = score - score.max()
        matters, refinement = score > -_NEGLIGIBLE, refinement + 1
        if refinement == _REFINEMENTS or np.mean(matters) > _ENOUGH:
            return pairs, own, np.exp(score)
        left = place[matters]
        pitch = [(high[axis] - low[axis]) / (count - 1) for axis, count in enumerate(_GRID)]
        low, high = (
            (max(low[0], float(left[:, 0].min()) - pitch[0]), max(low[1], float(left[:, 1].min()) - pitch[1])),
            (min(high[0], float(left[:, 0].max()) + pitch[0]), min(high[1], float(left[:, 1].max()) + pitch[1])),
        )


def _weigh(curve: Curve, pairs: FloatArray) -> _Weighed:
    """Against every cell, with errors proportional to the loss and correlated as a first fit shows them to be."""
    fitted = _fitted(curve, pairs, _least_squares(curve, pairs, curve.loss, 0.0))
    fitted = _fitted(curve, pairs, _least_squares(curve, pairs, fitted, 0.0))
    return _least_squares(curve, pairs, fitted, _correlation(curve.loss / fitted - 1.0))


def _fitted(curve: Curve, pairs: FloatArray, weighed: _Weighed) -> FloatArray:
    """Losses at the best cell, shape (n,)."""
    best = int(weighed.log_marginal.argmax())
    g, s0 = pairs[best]
    floor, drop = weighed.centre[best]
    return floor + drop * ((curve.step + s0) / (curve.step[0] + s0)) ** -g


def _correlation(residual: FloatArray) -> float:
    """Lag-one correlation, corrected for the few residuals it comes from (Kendall 1954), between 0 and 0.9."""
    n, total = len(residual), float(residual @ residual)
    if total <= 1e-300 or n < 4:
        return 0.0
    raw = float(residual[1:] @ residual[:-1]) / total
    return float(np.clip(raw + (1 + 3 * raw) / n, 0.0, _MOST_CORRELATED))


def _least_squares(curve: Curve, pairs: FloatArray, scale: FloatArray, correlation: float) -> _Weighed:
    g, s0 = pairs.T[:, :, None]
    shape = ((curve.step + s0) / (curve.step[0] + s0)) ** -g
    columns = _whiten(np.stack([np.ones_like(shape), shape], axis=1) / scale, correlation)
    y = _whiten(curve.loss / scale, correlation)
    gram = columns @ columns.transpose(0, 2, 1)
    ridge = 1e-12 * np.trace(gram, axis1=1, axis2=2)[:, None, None] * np.eye(2)
    inverse = cast(FloatArray, np.linalg.inv(gram + ridge))
    centre = np.einsum("cij,cj->ci", inverse, columns @ y)
    # Where least squares asks for a floor or a drop below 0, the best that is allowed stands for the cell.
    centre = np.where(centre[:, :1] < 0, np.stack([0 * g[:, 0], columns[:, 1] @ y / gram[:, 1, 1]], axis=1), centre)
    centre = np.where(centre[:, 1:] < 0, np.stack([columns[:, 0] @ y / gram[:, 0, 0], 0 * g[:, 0]], axis=1), centre)
    residual = y - np.einsum("ci,cin->cn", centre, columns)
    squares = np.maximum(np.einsum("cn,cn->c", residual, residual), 1e-24 * float(y @ y))
    freedom = len(y) - 2
    determinant = cast(FloatArray, np.linalg.slogdet(gram + ridge)[1])
    return _Weighed(
        centre=centre,
        root=cast(FloatArray, np.linalg.cholesky(inverse)),
        squares=squares,
        log_marginal=-0.5 * determinant - 0.5 * freedom * np.log(squares),
        freedom=freedom,
        correlation=correlation,
    )


def _whiten(values: FloatArray, correlation: float) -> FloatArray:
    """Prais and Winsten: rows that are independent where those of ``values`` (last axis) are AR(1)."""
    head = np.sqrt(1 - correlation**2) * values[..., :1]
    return np.concatenate([head, values[..., 1:] - correlation * values[..., :-1]], axis=-1)


def _sample(own: _Weighed, picked: IntArray, rng: np.random.Generator) -> _Sample:
    """E, K and the standard deviation of a loss, each (draws,), with E and K not negative."""
    scale = np.sqrt(own.squares[picked] / rng.chisquare(own.freedom, size=len(picked)))
    both = np.empty((len(picked), 2))
    waiting = np.arange(len(picked))
    for _ in range(20):
        at = picked[waiting]
        normal = rng.standard_normal((len(waiting), 2))
        both[waiting] = own.centre[at] + scale[waiting, None] * np.einsum("bij,bj->bi", own.root[at], normal)
        waiting = waiting[(both[waiting] < 0).any(axis=1)]
        if not len(waiting):
            break
    both = np.maximum(both, 0.0)
    return _Sample(floor=both[:, 0], drop=both[:, 1], noise=scale / np.sqrt(1 - own.correlation**2))


def _estimate(draws: FloatArray, level: float) -> Estimate:
    low, high = np.quantile(draws, interval_bounds(level))
    return Estimate(value=float(np.median(draws)), stderr=float(draws.std()), interval=(float(low), float(high)))
