"""The cheapest model of a given loss when it is also used: training and inference paid for together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling.cost import Cost
from scaling.errors import FitInputError
from scaling.isocost import Surface, minimise
from scaling.planning import cost_of, search_window, surface_of
from scaling.points import FloatArray
from scaling.results import FitResult

FORWARD_SHARE = 1.0 / 3.0  # a training step is a forward pass and a backward pass of twice its cost
_GRID = 161
_ZOOMS = 8


@dataclass(frozen=True, kw_only=True)
class Lifetime:
    """The cheapest model that reaches a loss when it is also used: training and inference together.

    Attributes:
        samples: samples (or tokens) generated over the model's life.
        per_training_cost: inference FLOPs of a sample over its training FLOPs.
        loss: that of the compute-optimal run of the budget, kept equal.
        params: N with the least total.
        data: D that reaches the loss at that N.
        training_flops: of that model.
        inference_flops: of that model.
        optimal_params: N* of the training budget alone.
        optimal_total: training and inference FLOPs of the compute-optimal model.
        saving: 1 - total / optimal_total.
    """

    samples: float
    per_training_cost: float
    loss: float
    params: float
    data: float
    training_flops: float
    inference_flops: float
    optimal_params: float
    optimal_total: float
    saving: float


def lifetime(
    result: FitResult, flops: float, samples: float, per_training_cost: float, cost: Cost | None = None
) -> Lifetime:
    """The cheapest model of equal loss when inference is paid for as well.

    Minimises ``c(N) D + Q r c(N)`` over N, with D such that L(N, D) is the loss of the compute-optimal run of the
    budget. c(N) is the training cost of a sample and r c(N) what a generated sample costs: a forward pass is a third of
    a training step, so r = (sampling steps x passes a step) / 3, with two passes where classifier-free guidance is
    used; for a token of a language model r = 1/3. Sardana et al. 2023 (arXiv 2401.00448) do this for Q tokens.

    Args:
        result: the fit.
        flops: training budget of the compute-optimal run whose loss is kept.
        samples: Q, samples (or tokens) generated over the model's life.
        per_training_cost: r.
        cost: FLOPs of one training sample; by default k N with the fit's own k.

    Raises:
        FitInputError: Q or r is negative, or as :func:`allocate`.
    """
    if not (samples >= 0 and per_training_cost >= 0 and np.isfinite([samples, per_training_cost]).all()):
        raise FitInputError(
            f"inference of {samples} samples at {per_training_cost} a sample: both must not be negative"
        )
    cost, surface, window = cost_of(result, cost), surface_of(result), search_window(result, flops)
    best = minimise(surface, cost, flops, window)
    log_loss, use = float(best.log_loss[0]), samples * per_training_cost
    log_params = _cheapest(surface, cost, log_loss, float(best.log_data[0]), use, window)
    place = np.array([log_params])
    data = float(np.exp(data_for_loss(surface, place, log_loss, float(best.log_data[0]))[0]))
    per_sample, optimal = float(np.exp(cost.log_per_sample(place)[0])), float(np.exp(best.log_params[0]))
    optimal_total = float(flops + use * cost.per_sample(optimal))
    return Lifetime(
        samples=samples,
        per_training_cost=per_training_cost,
        loss=float(np.exp(log_loss)),
        params=float(np.exp(log_params)),
        data=data,
        training_flops=per_sample * data,
        inference_flops=per_sample * use,
        optimal_params=optimal,
        optimal_total=optimal_total,
        saving=1.0 - per_sample * (data + use) / optimal_total,
    )


def _cheapest(
    surface: Surface, cost: Cost, log_loss: float, about: float, use: float, window: tuple[float, float]
) -> float:
    """Log N with the least c(N) (D + use), D being what reaches the loss: a grid narrowed to its best cell."""
    left, right = float(np.log(window[0])), float(np.log(window[1]))
    for _ in range(_ZOOMS):
        grid = np.linspace(left, right, _GRID)
        total = cost.log_per_sample(grid) + np.log(np.exp(data_for_loss(surface, grid, log_loss, about)) + use)
        at = int(np.argmin(total))
        left, right = float(grid[max(at - 2, 0)]), float(grid[min(at + 2, _GRID - 1)])
    return 0.5 * (left + right)


def data_for_loss(surface: Surface, log_params: FloatArray, log_loss: float, about: float) -> FloatArray:
    """Log D at which models of these sizes reach a loss; infinite where no amount does.

    Args:
        surface: the law, one row of parameters.
        log_params: shape (m,).
        log_loss: the loss to reach.
        about: log D near the answer, the middle of the bisection.
    """
    low, high = np.full(len(log_params), about - 40.0), np.full(len(log_params), about + 40.0)
    out_of_reach = surface.log_loss(log_params, high)[0] > log_loss
    for _ in range(70):
        middle = 0.5 * (low + high)
        above = surface.log_loss(log_params, middle)[0] > log_loss
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.where(out_of_reach, np.inf, high)
