"""Numbers that a fit is asked for, as functions of its internal parameters, so that every kind of interval is one code.

A quantity has a working scale, on which its sampling distribution is closest to normal: the logarithm for coefficients
and for the loss, the number itself for the floor, exponents and what is derived from them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scaling.points import FloatArray
from scaling.problem import Problem

_STEP = 1e-4  # of internal parameters: second differences are then good to about 1e-7


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A scalar of the fit.

    Attributes:
        of: the number on its working scale, (batch, p) internal parameters to (batch,).
        log: whether the working scale is the logarithm.
    """

    of: Callable[[FloatArray], FloatArray]
    log: bool

    def natural(self, value: float) -> float:
        """From the working scale; infinite ends stay what they are."""
        return float(np.exp(value)) if self.log else value

    def gradient(self, theta: FloatArray) -> FloatArray:
        """First derivatives by central differences, shape (batch, p)."""
        (batch, p), step = theta.shape, _STEP * np.eye(theta.shape[1])
        shifted = theta[:, None, None, :] + np.stack([step, -step])[None]
        values = self.of(shifted.reshape(-1, p)).reshape(batch, 2, p)
        return (values[:, 0] - values[:, 1]) / (2.0 * _STEP)

    def hessian(self, theta: FloatArray) -> FloatArray:
        """Second derivatives by central differences of the gradient, shape (batch, p, p)."""
        (batch, p), step = theta.shape, _STEP * np.eye(theta.shape[1])
        shifted = theta[:, None, None, :] + np.stack([step, -step])[None]
        slopes = self.gradient(shifted.reshape(-1, p)).reshape(batch, 2, p, p)
        hessian = (slopes[:, 0] - slopes[:, 1]) / (2.0 * _STEP)
        return 0.5 * (hessian + hessian.transpose(0, 2, 1))


def quantities(problem: Problem) -> dict[str, Quantity]:
    """Natural parameters by name, then exponents of the compute-optimal split by theirs."""
    law, frame = problem.law, problem.frame

    def parameter(i: int, log: bool) -> Quantity:
        def of(theta: FloatArray) -> FloatArray:
            values = law.to_natural(theta, frame)[:, i]
            return np.log(values) if log else values

        return Quantity(of=of, log=log)

    def exponent(name: str) -> Quantity:
        return Quantity(of=lambda theta: law.compute_optimal(law.to_natural(theta, frame))[name], log=False)

    found = {name: parameter(i, name in law.coefficients) for i, name in enumerate(law.parameters)}
    probe = law.compute_optimal(np.ones((1, len(law.parameters))))
    return found | {name: exponent(name) for name in probe}


def mean_at(problem: Problem, x: FloatArray) -> Quantity:
    """The curve's loss at one place; x are logarithms of the law's axes, shape (axes,)."""
    centred = (x - problem.frame.centre)[:, None]
    return Quantity(of=lambda theta: problem.law.log_loss(theta, centred)[:, 0] + problem.frame.log_scale, log=True)
