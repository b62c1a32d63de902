"""Which runs to launch next: the design that tightens one prediction most for a given amount of compute.

The resamples of a fit say how losses at different places move together: their covariance K(x, x') of log loss is what
is known before a run. A run at x with noise s^2 lowers the variance at the target t by ``K(t, x)^2 / (K(x, x) + s^2)``
and changes K elsewhere in the same way, so the worth of any set of runs follows without training one. To first order in
the parameters this is c-optimal design (Elfving 1952; Silvey 1980) with information ``V^-1 + J'J / s^2``, V being the
bootstrap covariance; working on losses instead of parameters keeps it sound where the points barely determine some
parameter, whose resamples then scatter widely while the losses they predict do not.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scaling.errors import FitInputError
from scaling.estimates import interval_bounds
from scaling.exchange import Chosen, Kernel, choose
from scaling.jsontypes import finite_json
from scaling.notices import Notice
from scaling.planning import surface_of
from scaling.points import FloatArray
from scaling.results import FitResult

MOST_RUNS = 12
FEW_SIZES = 4
_SAME = 0.01
_LEAST_DRAWS = 100
_CLIP = 4.0  # robust standard deviations beyond which a resample's loss is drawn in


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Runs that could be launched.

    Attributes:
        params: N, shape (m,).
        data: D, shape (m,).
        flops: training cost, shape (m,).
        fitted: a run of this size and length was fitted, so this one would repeat it, shape (m,).
        labels: what to call them, for example the depth; m texts.
    """

    params: FloatArray
    data: FloatArray
    flops: FloatArray
    fitted: npt.NDArray[np.bool_]
    labels: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class NextRun:
    """A run of the suggestion.

    Attributes:
        label: that of its candidate.
        params: N.
        data: D.
        flops: training cost.
        new_size: no fitted run has this size.
        repeat: a run of this size and length was fitted, or stands before this one in the list.
        candidate: its place among the candidates.
        cumulative_flops: cost of the runs up to this one.
        width_before: relative width of the target's interval before this run.
        width_after: after it.
    """

    label: str
    params: float
    data: float
    flops: float
    new_size: bool
    repeat: bool
    candidate: int
    cumulative_flops: float
    width_before: float
    width_after: float


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """Another use of the same budget.

    Attributes:
        name: what it is.
        runs: how many.
        flops: what they cost.
        width_after: relative width of the target's interval.
    """

    name: str
    runs: int
    flops: float
    width_after: float


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """The runs to launch, cheapest first, and what they should do for the prediction of the target.

    Attributes:
        budget: FLOPs that may be spent.
        spent: FLOPs of the runs.
        target_params: N of the target.
        target_data: D of the target.
        target_flops: its cost.
        loss: predicted at the target.
        level: of the intervals.
        noise: standard deviation of log loss of a run about the curve.
        width_before: relative width of the interval of the target's curve, from the fit's resamples.
        width_after: expected after the runs.
        runs: the suggestion.
        alternatives: other uses of the budget.
        notices: what a reader has to know.
    """

    budget: float
    spent: float
    target_params: float
    target_data: float
    target_flops: float
    loss: float
    level: float
    noise: float
    width_before: float
    width_after: float
    runs: tuple[NextRun, ...]
    alternatives: tuple[Alternative, ...]
    notices: tuple[Notice, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON types; nan and infinity become null."""
        return {"schema": 1, **finite_json(asdict(self))}


def suggest(
    result: FitResult,
    candidates: Candidates,
    target: tuple[float, float, float],
    budget: float,
    sizes: npt.ArrayLike = (),
    most_runs: int = MOST_RUNS,
) -> Suggestion:
    """The runs that tighten the prediction of a target most, within a budget.

    Args:
        result: the fit, with at least 100 resamples.
        candidates: runs that could be launched.
        target: N, D and cost of the run whose loss is to be known.
        budget: FLOPs that may be spent on all runs together.
        sizes: N of the fitted runs; with fewer than four sizes, at least one run of a new size is taken.
        most_runs: upper limit of the number of runs.

    Raises:
        FitInputError: too few resamples, nothing is affordable, or a number is out of range.
    """
    _check(result, candidates, budget, most_runs)
    fitted = np.unique(np.asarray(sizes, dtype=np.float64))
    new = np.array([bool(np.all(np.abs(fitted / size - 1.0) > _SAME)) for size in candidates.params])
    kernel = _kernel(result, candidates, target)
    must = new if 0 < _places(fitted) < FEW_SIZES and bool(new[candidates.flops <= budget].any()) else None
    chosen = choose(kernel, candidates.flops, budget, most_runs, must)
    chosen = tuple(sorted(chosen, key=lambda j: float(candidates.flops[j])))
    runs = _runs(kernel, candidates, chosen, new, result.level)
    before = _width(kernel.variance(()), result.level)
    loss = float(np.exp(surface_of(result).log_loss(*(np.log([value]) for value in target[:2]))[0, 0]))
    after = _width(kernel.variance(chosen), result.level)
    return Suggestion(
        budget=budget,
        spent=float(candidates.flops[list(chosen)].sum()),
        target_params=target[0],
        target_data=target[1],
        target_flops=target[2],
        loss=loss,
        level=result.level,
        noise=float(np.sqrt(kernel.noise)),
        width_before=before,
        width_after=after,
        runs=runs,
        alternatives=tuple(_alternatives(kernel, candidates, budget, target[1] / target[0], result.level)),
        notices=tuple(_notices(result, runs, target, budget, before, after, forced=must is not None)),
    )


def _check(result: FitResult, candidates: Candidates, budget: float, most_runs: int) -> None:
    if len(result.draws) < _LEAST_DRAWS:
        raise FitInputError(
            f"the fit has {len(result.draws)} resamples: the design needs at least {_LEAST_DRAWS}, better 1000"
        )
    if not (np.isfinite(budget) and budget > 0):
        raise FitInputError(f"budget is {budget}: give a positive number of FLOPs, such as 1e20")
    if most_runs < 1:
        raise FitInputError(f"most runs is {most_runs}: at least 1")
    cheapest = float(candidates.flops.min()) if len(candidates.flops) else float("nan")
    if not cheapest <= budget:
        raise FitInputError(f"the cheapest candidate costs {cheapest:.3g} FLOPs, more than the budget of {budget:.3g}")


def _places(sizes: FloatArray) -> int:
    return 1 + int((np.diff(np.log(sizes)) > _SAME).sum()) if len(sizes) else 0


def _kernel(result: FitResult, candidates: Candidates, target: tuple[float, float, float]) -> Kernel:
    """Covariance over the resamples; those far out are drawn in, so that a few cannot decide the design."""
    params, data = np.append(candidates.params, target[0]), np.append(candidates.data, target[1])
    values = surface_of(result, draws=True).log_loss(np.log(params), np.log(data))
    middle = np.median(values, axis=0)
    spread = 1.4826 * np.median(np.abs(values - middle), axis=0)
    away = np.clip(values - middle, -_CLIP * spread, _CLIP * spread)
    away = away - away.mean(axis=0)
    # Residuals are already inflated for the parameters spent on them; their median size is not moved by outliers.
    scatter = 1.4826 * float(np.median(np.abs(result.residuals)))
    noise = max(scatter**2 + result.run_noise**2, 1e-10)
    return Kernel(covariance=away.T @ away / (len(away) - 1), noise=noise)


def _width(variance: float, level: float) -> float:
    """Width of a normal interval of log loss, as a share of the loss."""
    from statistics import NormalDist

    return 2.0 * NormalDist().inv_cdf(interval_bounds(level)[1]) * float(np.sqrt(max(variance, 0.0)))


def _runs(
    kernel: Kernel, candidates: Candidates, chosen: Chosen, new: npt.NDArray[np.bool_], level: float
) -> tuple[NextRun, ...]:
    widths = [_width(kernel.variance(chosen[:k]), level) for k in range(len(chosen) + 1)]
    cost = np.cumsum(candidates.flops[list(chosen)])
    return tuple(
        NextRun(
            label=candidates.labels[j],
            params=float(candidates.params[j]),
            data=float(candidates.data[j]),
            flops=float(candidates.flops[j]),
            new_size=bool(new[j]),
            repeat=bool(candidates.fitted[j]) or j in chosen[:k],
            candidate=j,
            cumulative_flops=float(cost[k]),
            width_before=widths[k],
            width_after=widths[k + 1],
        )
        for k, j in enumerate(chosen)
    )


def largest_run(candidates: Candidates, budget: float, ratio: float) -> Chosen:
    """The dearest affordable candidate; of equally dear ones (to a fifth) that nearest to D / N = ratio."""
    affordable = np.flatnonzero(candidates.flops <= budget)
    dear = affordable[candidates.flops[affordable] >= 0.8 * candidates.flops[affordable].max()]
    away = np.abs(np.log(candidates.data[dear] / candidates.params[dear] / ratio))
    return (int(dear[np.argmin(away)]),)


def repeats(candidates: Candidates, budget: float) -> Chosen:
    """Fitted runs over again, the dearest first, round after round until the budget is spent."""
    order = [int(j) for j in np.argsort(-candidates.flops, kind="stable") if candidates.fitted[j]]
    chosen: list[int] = []
    left, taken = budget, -1
    while len(chosen) > taken:
        taken = len(chosen)
        for j in order:
            if candidates.flops[j] <= left:
                chosen.append(j)
                left -= float(candidates.flops[j])
    return tuple(chosen)


def _alternatives(
    kernel: Kernel, candidates: Candidates, budget: float, ratio: float, level: float
) -> list[Alternative]:
    named = {
        "one run, as large as can be": largest_run(candidates, budget, ratio),
        "fitted runs with other seeds": repeats(candidates, budget),
    }
    return [
        Alternative(
            name=name,
            runs=len(chosen),
            flops=float(candidates.flops[list(chosen)].sum()),
            width_after=_width(kernel.variance(chosen), level),
        )
        for name, chosen in named.items()
        if chosen
    ]


def _notices(
    result: FitResult,
    runs: tuple[NextRun, ...],
    target: tuple[float, float, float],
    budget: float,
    before: float,
    after: float,
    *,
    forced: bool,
) -> list[Notice]:
    notices: list[Notice] = []
    if forced:
        text = f"The fit has fewer than {FEW_SIZES} sizes, so at least one run of a new size is among these: how loss"
        notices.append(Notice(code="new-size", message=f"{text} falls with size is otherwise assumed, not seen."))
    if target[2] <= budget:
        text = f"The budget pays for the target itself ({target[2]:.3g} FLOPs): launching it answers the question."
        notices.append(Notice(code="target-affordable", message=text))
    if not runs or after > 0.9 * before:
        text = f"No runs within this budget tighten the prediction by a tenth (by {1 - after / before:.1%} at best)."
        notices.append(Notice(code="little-to-gain", message=text))
    codes = {warning.code for warning in result.warnings} & {"at-bound", "starts-disagree", "collinear"}
    if codes:
        text = f"The fit warns of {', '.join(sorted(codes))}: the expected widths are rough; suggest again after a run."
        notices.append(Notice(code="weak-fit", message=text))
    return notices
