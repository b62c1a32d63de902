"""Information criteria of a fit, for a tie-break between laws on the same points and the same loss.

The likelihood is the one that the loss belongs to, with its scale at the maximum: normal for squares, on log loss or
on the loss; Laplace for ``huber`` (whose narrow zone makes it close to absolute deviations) and ``lad``. k counts the
law's parameters and the scale.

    AICc = -2 log L + 2 k + 2 k (k + 1) / (n - k - 1)      Hurvich and Tsai 1989
    BIC  = -2 log L + k log n                               Schwarz 1978

Rows count as independent; checkpoints of a run are not, so with them both favour the wider law too easily.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling.objective import residuals
from scaling.points import FloatArray
from scaling.problem import Problem


@dataclass(frozen=True, kw_only=True)
class Criteria:
    """Information criteria; smaller is better, differences below 2 say nothing.

    Attributes:
        aicc: Akaike's, corrected for small samples; infinite where n is at most k + 1.
        bic: Schwarz's.
        likelihood: "normal on log loss", "Laplace on log loss" or "normal on loss".
    """

    aicc: float
    bic: float
    likelihood: str


def criteria(problem: Problem, theta: FloatArray) -> Criteria:
    """Criteria at the optimum theta, shape (p,); -inf where the law meets every point exactly."""
    predicted = problem.law.log_loss(theta[None], problem.x)[0]
    residual = residuals(problem.y, predicted, problem.loss)
    if problem.loss.linear:
        residual = residual * np.exp(problem.frame.log_scale)
    w = problem.w / problem.w.mean()
    n, k = len(residual), len(theta) + 1
    with np.errstate(divide="ignore"):
        if problem.loss.quadratic:
            twice = n * (np.log(2.0 * np.pi * np.average(residual**2, weights=w)) + 1.0)
        else:
            twice = 2.0 * n * (np.log(2.0 * np.average(np.abs(residual), weights=w)) + 1.0)
    small = 2.0 * k * (k + 1) / (n - k - 1) if n > k + 1 else np.inf
    kind = "normal" if problem.loss.quadratic else "Laplace"
    return Criteria(
        aicc=float(twice + 2.0 * k + small),
        bic=float(twice + k * np.log(n)),
        likelihood=f"{kind} on {'loss' if problem.loss.linear else 'log loss'}",
    )
