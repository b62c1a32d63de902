"""Rows with a known standard error: how much each one counts.

A standard error of the measurement, such as one over evaluation samples, is only a part of what scatters runs about a
curve. Taken alone, 1 / stderr^2 would give a fit to the few rows that were evaluated best. So the variance of a row is
``tau^2 + (stderr / loss)^2``, in log loss, with tau^2 for everything else; tau^2 is where the weighted sum of squared
residuals meets its expectation n - p (Paule and Mandel 1982), and 0 where the errors given explain the residuals.

The objective is the loss of ``c_i r_i``, with c_i proportional to one over that standard deviation and scaled so that
the mean of c_i^2 is 1: with equal standard errors it is the objective without any.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from scaling.points import FloatArray, Points
from scaling.problem import Problem, solve


def weigh(problem: Problem, points: Points) -> Problem:
    """The problem with every row weighted by its known noise; itself where none is known.

    Args:
        problem: the posed fit.
        points: its rows.
    """
    if points.stderr is None:
        return problem
    known = points.stderr / points.loss
    plain = solve(problem)
    residual = problem.y - problem.law.log_loss(plain.theta[None], problem.x)[0]
    variance = known**2 + _between(residual, known, len(plain.theta))
    precision = 1.0 / np.sqrt(variance * np.mean(1.0 / variance))
    # A linear loss has residuals in units of the loss, where the same error of log loss is larger for larger losses.
    unit = np.exp(problem.y) if problem.loss.linear else 1.0
    scale = precision / unit
    return replace(problem, w=problem.w * scale**2, precision=precision, loss=replace(problem.loss, precision=scale))


def _between(residual: FloatArray, known: FloatArray, p: int) -> float:
    """tau^2, by bisection: the sum falls in it."""
    freedom = max(len(residual) - p, 1)

    def excess(tau2: float) -> float:
        return float(np.sum(residual**2 / (tau2 + known**2))) - freedom

    low, high = 0.0, float(np.sum(residual**2)) / freedom
    if excess(low) <= 0:
        return low
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return 0.5 * (low + high)
