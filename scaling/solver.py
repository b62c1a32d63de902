"""Minimising the objective for a whole batch of problems at once.

Damped Newton: the exact Hessian of the objective plus ``damping`` times the Hessian of iteratively
reweighted least squares, which is positive definite and makes every rejected step shorter. Steps that do
not lower the objective are refused, so a solution is never above its start. Problems are independent:
starts, resamples and leave-one-out fits all go through here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scaling.laws.base import Law
from scaling.losses import Loss
from scaling.objective import Expansion, expand
from scaling.points import FloatArray

_CHUNK_ELEMENTS = 24_000  # rows x problems worked on together: what stays in a core's cache
_MAX_STEP = 2.0  # largest change of a log coefficient or exponent in one step
_GIVE_UP_DAMPING = 1e10


@dataclass(frozen=True, kw_only=True)
class Solution:
    """Minimisers of a batch of problems.

    Attributes:
        theta: internal parameters, shape (batch, p).
        objective: shape (batch,).
        converged: whether the last accepted step promised less than the tolerance, shape (batch,).
    """

    theta: FloatArray
    objective: FloatArray
    converged: npt.NDArray[np.bool_]


def minimise(
    law: Law,
    theta: FloatArray,
    x: FloatArray,
    y: FloatArray,
    w: FloatArray,
    *,
    loss: Loss,
    tolerance: float = 1e-13,
    max_iterations: int = 200,
) -> Solution:
    """Minimise the objective from every start.

    Args:
        law: the law to fit.
        theta: starts, shape (batch, p).
        x: centred log axes, shape (axes, n).
        y: log of the scaled loss, shape (n,) or (batch, n).
        w: row weights, shape (n,) or (batch, n).
        loss: what is summed over rows.
        tolerance: promised relative decrease below which a problem is done.
        max_iterations: accepted and refused steps together.

    Returns:
        One solution per start.
    """
    batch, n = len(theta), x.shape[1]
    y, w = np.broadcast_to(y, (batch, n)), np.broadcast_to(w, (batch, n))
    size = max(1, _CHUNK_ELEMENTS // n)
    parts = [
        _minimise_chunk(law, theta[i : i + size], x, y[i : i + size], w[i : i + size], loss, tolerance, max_iterations)
        for i in range(0, batch, size)
    ]
    return Solution(
        theta=np.concatenate([part.theta for part in parts]),
        objective=np.concatenate([part.objective for part in parts]),
        converged=np.concatenate([part.converged for part in parts]),
    )


def _minimise_chunk(
    law: Law,
    start: FloatArray,
    x: FloatArray,
    y: FloatArray,
    w: FloatArray,
    loss: Loss,
    tolerance: float,
    max_iterations: int,
) -> Solution:
    low, high = law.limits(x)
    theta = np.clip(start, low, high)
    local = expand(law, theta, x, y, w, loss)
    objective, converged = local.value.copy(), np.zeros(len(theta), dtype=bool)
    result = theta.copy()
    alive, damping = np.arange(len(theta)), np.full(len(theta), 1.0)
    for _ in range(max_iterations):
        step, promised = _step(local, theta, low, high, damping)
        done = promised * (1.0 + damping) <= tolerance * local.value + 1e-26
        stop = done | (damping > _GIVE_UP_DAMPING)
        converged[alive[done]] = True
        if stop.any():
            keep = ~stop
            alive, theta, step, damping = alive[keep], theta[keep], step[keep], damping[keep]
            y, w, local = y[keep], w[keep], _select(local, keep)
            if not len(alive):
                break
        trial = np.clip(theta + step, low, high)
        there = expand(law, trial, x, y, w, loss)
        better = there.value < local.value
        theta = np.where(better[:, None], trial, theta)
        local = _merge(local, there, better)
        damping = np.where(better, damping * 0.2, np.maximum(damping * 5.0, 1e-2))
        damping[damping < 1e-7] = 0.0
        result[alive], objective[alive] = theta, local.value
    return Solution(theta=result, objective=objective, converged=converged)


def _step(
    local: Expansion, theta: FloatArray, low: FloatArray, high: FloatArray, damping: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Damped Newton step, shape (batch, p), and twice the decrease that it promises, shape (batch,)."""
    fixed = ((theta <= low) & (local.gradient > 0)) | ((theta >= high) & (local.gradient < 0))
    gradient = local.gradient
    scale = np.sqrt(np.maximum(np.einsum("bpp->bp", local.majoriser), 1e-30))
    hessian = local.newton + damping[:, None, None] * local.majoriser
    hessian /= scale[:, :, None] * scale[:, None, :]
    if fixed.any():
        gradient, free = np.where(fixed, 0.0, gradient), ~fixed
        identity = fixed[:, :, None] * np.eye(theta.shape[1])
        hessian = np.where(free[:, :, None] & free[:, None, :], hessian, 0.0) + identity
    values, vectors = np.linalg.eigh(hessian)
    # Negative curvature is turned round, so that the step still goes downhill.
    values = np.maximum(np.abs(values), 1e-11)
    along = np.einsum("bpk,bp->bk", vectors, gradient / scale)
    step = -np.einsum("bpk,bk->bp", vectors, along / values) / scale
    longest = np.abs(step).max(axis=1)
    step *= np.minimum(1.0, _MAX_STEP / np.maximum(longest, 1e-300))[:, None]
    return step, -np.einsum("bp,bp->b", gradient, step)


def _select(local: Expansion, keep: npt.NDArray[np.bool_]) -> Expansion:
    return Expansion(
        value=local.value[keep],
        gradient=local.gradient[keep],
        newton=local.newton[keep],
        majoriser=local.majoriser[keep],
    )


def _merge(here: Expansion, there: Expansion, better: npt.NDArray[np.bool_]) -> Expansion:
    if better.all():
        return there
    if not better.any():
        return here
    return Expansion(
        value=np.where(better, there.value, here.value),
        gradient=np.where(better[:, None], there.gradient, here.gradient),
        newton=np.where(better[:, None, None], there.newton, here.newton),
        majoriser=np.where(better[:, None, None], there.majoriser, here.majoriser),
    )
