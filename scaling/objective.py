"""The objective of a fit, ``sum_i w_i loss(log L_i - log Lhat_i(theta))``, and its derivatives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling.laws.base import Law, Linearised
from scaling.losses import Loss
from scaling.points import FloatArray


@dataclass(frozen=True, kw_only=True)
class Expansion:
    """The objective around a batch of parameter vectors.

    Attributes:
        value: objective, shape (batch,).
        gradient: shape (batch, p).
        newton: exact Hessian where it exists, shape (batch, p, p); may be indefinite.
        majoriser: Hessian of the iteratively reweighted least squares step, positive semi-definite.
    """

    value: FloatArray
    gradient: FloatArray
    newton: FloatArray
    majoriser: FloatArray


def value(law: Law, theta: FloatArray, x: FloatArray, y: FloatArray, w: FloatArray, loss: Loss) -> FloatArray:
    """Objective of every parameter vector in a batch.

    Args:
        law: the law, in its internal parameters.
        theta: internal parameters, shape (batch, p).
        x: centred logarithms of the law's axes, shape (axes, n).
        y: log of the scaled loss, shape (n,) or (batch, n).
        w: row weights, shape (n,) or (batch, n).
        loss: what is summed over rows.

    Returns:
        Sums over rows, shape (batch,).
    """
    return np.sum(w * loss.of(residuals(y, law.log_loss(theta, x), loss)), axis=-1)


def residuals(y: FloatArray, predicted: FloatArray, loss: Loss) -> FloatArray:
    """What is measured over what is predicted: a difference of logs, or of (scaled) losses for a linear loss."""
    return np.exp(y) - np.exp(predicted) if loss.linear else y - predicted


def expand(law: Law, theta: FloatArray, x: FloatArray, y: FloatArray, w: FloatArray, loss: Loss) -> Expansion:
    """Objective, gradient and both Hessians; arguments as in :func:`value`."""
    local = law.linearise(theta, x)
    if loss.linear:
        local = _exponential(local)
        y = np.exp(y)
    residual = y - local.value
    influence = w * loss.slope(residual)
    jacobian = local.jacobian
    transposed = jacobian.transpose(0, 2, 1)
    newton = (jacobian * (w * loss.curvature(residual))[:, None, :]) @ transposed - local.curvature(influence)
    return Expansion(
        value=np.sum(w * loss.of(residual), axis=-1),
        gradient=-np.einsum("bpn,bn->bp", jacobian, influence),
        newton=newton,
        majoriser=(jacobian * (w * loss.reweighting(residual))[:, None, :]) @ transposed,
    )


def _exponential(local: Linearised) -> Linearised:
    """The loss itself around the same parameters: exp of log loss, by the chain rule."""
    predicted, jacobian = np.exp(local.value), local.jacobian

    def curvature(c: FloatArray) -> FloatArray:
        scaled = c * predicted
        return local.curvature(scaled) + (jacobian * scaled[:, None, :]) @ jacobian.transpose(0, 2, 1)

    return Linearised(value=predicted, jacobian=jacobian * predicted[:, None, :], curvature=curvature)
