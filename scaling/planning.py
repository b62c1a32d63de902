"""What to train at a budget: compute-optimal size and data with intervals, and what other choices cost.

Everything here is found along curves of equal cost (:mod:`scaling.isocost`), so it holds for any law of parameters and
data and for any cost per sample. :meth:`scaling.results.FitResult.allocate` is the way in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from scaling.cost import Cost
from scaling.errors import FitInputError
from scaling.estimates import Estimate, estimate
from scaling.isocost import Minima, Surface, equivalent_budgets, minimise
from scaling.jsontypes import finite_json
from scaling.laws import get_law
from scaling.notices import Notice
from scaling.points import FloatArray
from scaling.results import FitResult

DEVIATIONS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_FAR = 10.0
_ROOM = 1e4  # how far beyond the sizes fitted an optimum is looked for
_EDGE_SHARE = 0.05


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """A run of another size than the optimum, for the same compute.

    Attributes:
        factor: N / N*.
        params: N.
        data: D, what the budget pays for at that size.
        loss: predicted.
        loss_increase: loss / L* - 1.
        equivalent_flops: budget at which the optimum has this loss.
        compute_factor: C / equivalent_flops: how many times too much is paid for the loss.
    """

    factor: float
    params: float
    data: float
    loss: float
    loss_increase: float
    equivalent_flops: float
    compute_factor: float


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """The best use of a training budget.

    Attributes:
        flops: the budget C.
        params: N*.
        data: D*.
        data_per_param: D* / N*.
        loss: L*, with the interval of the curve (parameter draws only).
        run_interval: where a run of that size and data should fall, its own luck included.
        extrapolation: C over the largest compute fitted; nan where compute was not recorded.
        level: level of the intervals.
        deviations: other sizes at the same compute.
        notices: what a reader has to know.
    """

    flops: float
    params: Estimate
    data: Estimate
    data_per_param: Estimate
    loss: Estimate
    run_interval: tuple[float, float]
    extrapolation: float
    level: float
    deviations: tuple[Deviation, ...]
    notices: tuple[Notice, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON types; nan and infinity become null."""
        return finite_json(asdict(self))


def surface_of(result: FitResult, *, draws: bool = False, unique: float | None = None) -> Surface:
    """A fit as a surface over size and data: its estimate, or all its resamples.

    Args:
        result: the fit.
        draws: one row of parameters per resample.
        unique: distinct samples that there are, for laws of repeated data.

    Raises:
        FitInputError: the law has no trade-off between them.
    """
    natural = result.draws if draws else result.values[None]
    return Surface(law=get_law(result.law), natural=natural, flops_per=result.provenance.flops_per, unique=unique)


def cost_of(result: FitResult, cost: Cost | None = None) -> Cost:
    """The given cost, else k N with the fit's own k.

    Raises:
        FitInputError: the fit knows no compute.
    """
    if cost is not None:
        return cost
    if result.provenance.flops_per is None:
        raise FitInputError("what a sample costs is unknown: give the points a flops column")
    return Cost.proportional(result.provenance.flops_per)


def allocate(
    result: FitResult,
    flops: float,
    cost: Cost | None = None,
    factors: Sequence[float] = DEVIATIONS,
    unique: float | None = None,
) -> Allocation:
    """The best use of a training budget.

    Args:
        result: the fit; intervals need its resamples.
        flops: training budget C in FLOPs.
        cost: FLOPs of one sample; by default k N with the fit's own k.
        factors: sizes to price, as multiples of N*.
        unique: distinct samples that there are, for laws of repeated data; as many as are seen where None.

    Raises:
        FitInputError: the budget is not positive, the law has no trade-off, or a sample's cost is unknown.
    """
    if not (np.isfinite(flops) and flops > 0):
        raise FitInputError(f"budget is {flops}: give a positive number of FLOPs, such as 1e21")
    cost, surface = cost_of(result, cost), surface_of(result, unique=unique)
    window = search_window(result, flops)
    best = minimise(surface, cost, flops, window)
    draws = surface_of(result, draws=True, unique=unique)
    every = minimise(draws, cost, flops, window) if len(result.draws) else None
    params, data, loss = (float(np.exp(value[0])) for value in (best.log_params, best.log_data, best.log_loss))
    spread = _spread(every)
    low, high = result.predict_interval(params, data, unique=unique)
    largest = result.observed["flops"][1] if "flops" in result.observed else float("nan")
    return Allocation(
        flops=float(flops),
        params=estimate(params, spread[0], result.level, log=True),
        data=estimate(data, spread[1], result.level, log=True),
        data_per_param=estimate(data / params, spread[1] / spread[0], result.level, log=True),
        loss=estimate(loss, spread[2], result.level),
        run_interval=(float(low), float(high)),
        extrapolation=float(flops) / largest,
        level=result.level,
        deviations=tuple(_deviations(surface, cost, flops, best, window, factors)),
        notices=tuple(_notices(result, params, data, float(flops) / largest, best, every)),
    )


def search_window(result: FitResult, flops: float) -> tuple[float, float]:
    """Least and greatest size at which the optimum of a budget is looked for."""
    low, high = result.observed["params"]
    largest = result.observed["flops"][1] if "flops" in result.observed else flops
    return low / _ROOM, high * _ROOM * max(1.0, flops / largest)


def _spread(every: Minima | None) -> tuple[FloatArray, FloatArray, FloatArray]:
    if every is None:
        return np.empty(0), np.empty(0), np.empty(0)
    return np.exp(every.log_params), np.exp(every.log_data), np.exp(every.log_loss)


def deviate(
    surface: Surface, cost: Cost, flops: float, params: FloatArray, window: tuple[float, float]
) -> list[Deviation]:
    """What it costs to train these sizes instead of the best one, for the same compute.

    Args:
        surface: the law, one row of parameters.
        cost: FLOPs of one sample.
        flops: training budget C.
        params: sizes N, shape (m,).
        window: least and greatest N searched for the optimum.
    """
    best = minimise(surface, cost, flops, window)
    log_params = np.log(params)
    log_data = np.log(flops) - cost.log_per_sample(log_params)
    log_loss = surface.log_loss(log_params, log_data)[0]
    equal = equivalent_budgets(surface, cost, log_loss, flops, window)
    return [
        Deviation(
            factor=float(np.exp(log_params[i] - best.log_params[0])),
            params=float(params[i]),
            data=float(np.exp(log_data[i])),
            loss=float(np.exp(log_loss[i])),
            loss_increase=float(np.expm1(max(log_loss[i] - best.log_loss[0], 0.0))),
            equivalent_flops=float(equal[i]),
            compute_factor=float(flops / equal[i]),
        )
        for i in range(len(params))
    ]


def _deviations(
    surface: Surface, cost: Cost, flops: float, best: Minima, window: tuple[float, float], factors: Sequence[float]
) -> list[Deviation]:
    if not factors:
        return []
    sizes = np.exp(best.log_params[0]) * np.asarray(factors, dtype=np.float64)
    return deviate(surface, cost, flops, sizes, window)


def _notices(
    result: FitResult, params: float, data: float, reach: float, best: Minima, every: Minima | None
) -> list[Notice]:
    notices: list[Notice] = []
    lost = float(every.edge.mean()) if every is not None else 0.0
    if bool(best.edge[0]) or lost > _EDGE_SHARE:
        text = f"The optimum of {lost:.0%} of the resamples" if not best.edge[0] else "The optimum"
        text += " stands at the edge of the search: the points do not determine how size and data trade off."
        notices.append(Notice(code="optimum-edge", message=text))
    if reach > _FAR:
        text = f"The budget is {reach:.3g} times the largest compute fitted; on published tables intervals that far out"
        notices.append(Notice(code="extrapolation", message=f"{text} were too narrow. Fit a run in between first."))
    values = {"params": params, "data": data, "data_per_param": data / params}
    names = {"params": "N*", "data": "D*", "data_per_param": "D*/N*"}
    for key, value in values.items():
        if key not in result.observed:
            continue
        low, high = result.observed[key]
        if not low / 1.01 <= value <= high * 1.01:
            text = f"{names[key]} = {value:.3g} lies outside the {low:.3g} to {high:.3g} of the points."
            notices.append(Notice(code=f"outside-{key.replace('_', '-')}", message=text))
    return notices
