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

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from scaling.curve_posterior import posterior, sample
from scaling.curve_records import Curve, Extrapolation, Origin
from scaling.errors import FitInputError
from scaling.estimates import estimate, interval_bounds
from scaling.fitting import check_options

__all__ = [
    "Curve",
    "Extrapolation",
    "Origin",
    "constant_part",
    "extrapolate",
    "predict",
    "rolling_origin",
    "widening",
]

MIN_POINTS = 5  # four parameters and a residual
DRAWS = 4000
_SAME_SIZE = 0.01  # relative difference below which two models are of one size
_SAME_RATE = 1e-3  # relative difference below which two learning rates are one


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
    pairs, own, weight = posterior(curve, usable)
    rng = np.random.default_rng(seed)
    picked = rng.choice(len(pairs), size=draws, p=weight / weight.sum())
    sampled = sample(own, picked, rng)
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
        parameters={name: estimate(float(np.median(each)), each, level) for name, each in values.items()},
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
