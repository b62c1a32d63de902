"""The robust objective of a fit and its derivatives.

``objective(theta) = sum_i w_i Huber_delta(log L_i - log Lhat_i(theta))``, summed and never averaged: an
averaged loss shrinks gradients by the number of rows, and optimisers then stop early. delta = 1e-3 is
the choice of Hoffmann et al. 2022 (arXiv 2203.15556). delta = inf is half the sum of squares.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling.laws.base import Law
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


def huber(residual: FloatArray, delta: float) -> FloatArray:
    """Huber's function elementwise: r^2/2 within delta, delta (|r| - delta/2) beyond it."""
    if np.isinf(delta):
        return 0.5 * residual * residual
    size = np.abs(residual)
    inside = np.minimum(size, delta)
    return inside * (size - 0.5 * inside)


def value(law: Law, theta: FloatArray, x: FloatArray, y: FloatArray, w: FloatArray, delta: float) -> FloatArray:
    """Objective of every parameter vector in a batch.

    Args:
        law: the law, in its internal parameters.
        theta: internal parameters, shape (batch, p).
        x: centred logarithms of the law's axes, shape (axes, n).
        y: log of the scaled loss, shape (n,) or (batch, n).
        w: row weights, shape (n,) or (batch, n).
        delta: width of the quadratic zone in log loss.

    Returns:
        Sums over rows, shape (batch,).
    """
    return np.sum(w * huber(y - law.log_loss(theta, x), delta), axis=-1)


def expand(law: Law, theta: FloatArray, x: FloatArray, y: FloatArray, w: FloatArray, delta: float) -> Expansion:
    """Objective, gradient and both Hessians; arguments as in :func:`value`."""
    local = law.linearise(theta, x)
    residual = y - local.value
    size = np.abs(residual)
    influence = w * np.clip(residual, -delta, delta)
    inside = w * (size <= delta)
    reweighted = w / np.maximum(size / delta, 1.0)
    jacobian = local.jacobian
    transposed = jacobian.transpose(0, 2, 1)
    newton = (jacobian * inside[:, None, :]) @ transposed - local.curvature(influence)
    return Expansion(
        value=np.sum(w * huber(residual, delta), axis=-1),
        gradient=-np.einsum("bpn,bn->bp", jacobian, influence),
        newton=newton,
        majoriser=(jacobian * reweighted[:, None, :]) @ transposed,
    )
