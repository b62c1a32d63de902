"""What can make a fit look better than it is: each check gives a code and a sentence with a number.

Every check is a function of an :class:`Examined` that yields notices; ``examine`` runs them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from scaling.bootstrap import MIN_DISTINCT, Draws
from scaling.jackknife import leave_one_out
from scaling.lackoffit import bend
from scaling.large import MANY_ROWS
from scaling.losses import LEAST_SQUARES
from scaling.notices import Notice
from scaling.objective import expand
from scaling.points import AXES, FloatArray, Points, places
from scaling.predictions import Prediction
from scaling.problem import Optimum, Problem
from scaling.results import FitResult

_EXPONENT_RANGE = (0.02, 1.5)
_MAX_CONDITION = 1e8
_COLLINEAR = 0.98
_INFLUENCE = 0.2
_FAR = 10.0  # times the largest compute seen
_FEW_CLUSTERS = 10
_IGNORED_SPREAD = 2.0  # x-fold variation of a quantity that the law leaves out
_MAX_LEFT_OUT = 400  # leave-one-out fits cost as much as resamples: not for tables of thousands
LACK_OF_FIT = 0.01  # share of right laws that are called into question
_NAMES = {**{axis: axis for axis in AXES}, "flops": "compute"}


@dataclass(frozen=True, kw_only=True)
class Examined:
    """A fit with everything that a check may look at."""

    problem: Problem
    points: Points
    optimum: Optimum
    draws: Draws
    result: FitResult

    @cached_property
    def compute(self) -> FloatArray | None:
        """Training FLOPs of every row, shape (n,)."""
        return self.points.compute(self.result.provenance.flops_per)


def examine(problem: Problem, points: Points, optimum: Optimum, draws: Draws, result: FitResult) -> tuple[Notice, ...]:
    """All warnings that apply to a fit, worst first."""
    fit = Examined(problem=problem, points=points, optimum=optimum, draws=draws, result=result)
    return tuple(notice for check in _CHECKS for notice in check(fit))


def _starts(fit: Examined) -> Iterator[Notice]:
    if not fit.optimum.converged:
        yield Notice(
            code="starts-disagree",
            message=f"Only {fit.optimum.agreeing:.0%} of the starts reached the best objective, so it may not be"
            " the true optimum. Drop a law parameter or add points.",
        )
    for name in fit.optimum.at_bound:
        yield Notice(
            code="at-bound",
            message=f"{name} ran to its limit ({fit.result.parameters[name].value:.3g}): the points do not"
            " determine it. Add points at other sizes or amounts of data, or fit a law without it.",
        )


def _few_places(fit: Examined) -> Iterator[Notice]:
    floor = fit.problem.law.floor is not None
    needs = "a floor, a coefficient and an exponent need" if floor else "a power law and a check of it need"
    for axis, row in zip(fit.problem.law.axes, fit.problem.x, strict=True):
        if axis not in fit.problem.law.exponents:
            continue
        count = len(np.unique(places(np.exp(row))))
        if count < MIN_DISTINCT:
            yield Notice(
                code=f"few-{axis}",
                message=f"Only {count} distinct {_NAMES[axis]} value{'s' if count != 1 else ''}: {needs}"
                f" at least {MIN_DISTINCT}. Intervals understate the doubt.",
            )
        elif count == MIN_DISTINCT and axis == "params" and floor:
            yield Notice(
                code="no-spare-size",
                message=f"{count} distinct model sizes carry a curve with three unknowns and leave no size to"
                " check it with. A fourth size tests the prediction; treat it as the first check.",
            )


def _no_repeats(fit: Examined) -> Iterator[Notice]:
    if fit.draws.scheme == "wild" and fit.draws.noise is None:
        yield Notice(
            code="no-repeats",
            message="No model size was run twice, and with so few sizes the curve absorbs the luck of each of the"
            f" {fit.points.n_clusters} runs: intervals leave it out. With run-to-run noise of 0.5 % they held 1 in"
            " 10 new runs in simulation, not 8. Repeat a size, the cheapest will do, with another seed.",
        )


def _ignored_axis(fit: Examined) -> Iterator[Notice]:
    (axis, *others), params, data = fit.problem.law.axes, fit.points.params, fit.points.data
    if others:
        return
    ignored = {"params": ("data", data), "data": ("params", params), "steps": ("params", params)}
    if params is not None and data is not None:
        ignored["flops"] = ("data per parameter", data / params)
    name, values = ignored.get(axis, ("", None))
    if values is None:
        return
    spread = float(values.max() / values.min())
    if spread > _IGNORED_SPREAD:
        yield Notice(
            code="ignored-axis",
            message=f"This law knows {_NAMES[axis]} only, and {name} varies {spread:.3g}-fold among the points:"
            " what that does to the loss counts as noise. Fit chinchilla, or filter to one line with --where.",
        )


def _few_rows(fit: Examined) -> Iterator[Notice]:
    n, p = fit.points.n, len(fit.problem.law.parameters)
    if n < 2 * p:
        yield Notice(
            code="few-rows",
            message=f"{n} points for {p} parameters: residuals, and with them all intervals, are too small."
            f" Aim for at least {2 * p}.",
        )
    clusters = fit.points.n_clusters
    if clusters < _FEW_CLUSTERS and fit.draws.requested:
        yield Notice(
            code="few-clusters",
            message=f"Only {clusters} independent runs: intervals from so few are rough and usually too"
            f" narrow ({fit.result.resampling}).",
        )


def _collinear(fit: Examined) -> Iterator[Notice]:
    axes = fit.problem.law.axes
    if not {"params", "data"} <= set(axes):
        return
    rows = fit.problem.x[[axes.index("params"), axes.index("data")]]
    first, second = rows - rows.mean(axis=1, keepdims=True)
    correlation = float(first @ second / np.sqrt((first @ first) * (second @ second)))
    if abs(correlation) > _COLLINEAR:
        yield Notice(
            code="collinear",
            message=f"params and data move together (correlation of logs {correlation:.3f}): only the sum of"
            " their two terms is determined, not the split. Add runs with other data per parameter.",
        )


def _compute_range(fit: Examined) -> Iterator[Notice]:
    if fit.compute is None:
        return
    decades = float(np.log10(fit.compute.max() / fit.compute.min()))
    if decades < 1.0:
        yield Notice(
            code="narrow-compute",
            message=f"The points span {decades:.2f} decades of compute; under one decade a floor and an exponent"
            " trade off almost freely. Add cheaper or longer runs.",
        )


def _floor(fit: Examined) -> Iterator[Notice]:
    name = fit.problem.law.floor
    if name is None or not len(fit.result.draws) or name in fit.optimum.at_bound:
        return
    draws = fit.result.draws[:, fit.problem.law.parameters.index(name)]
    low, high = np.quantile(draws, [0.025, 0.975])
    if low < 0.01 * fit.points.loss.min():
        yield Notice(
            code="floor-open",
            message=f"The floor {name} is not separated from 0 (95 % interval {low:.3g} to {high:.3g}): a law"
            " without a floor would fit about as well, and far predictions depend on which is right.",
        )


def _exponents(fit: Examined) -> Iterator[Notice]:
    low, high = _EXPONENT_RANGE
    names = {name: axis for axis, name in fit.problem.law.exponents.items()}  # a shared exponent is named once
    for name, axis in names.items():
        value = fit.result.parameters[name].value
        if not low <= value <= high:
            yield Notice(
                code="odd-exponent",
                message=f"{name} is {value:.4g}, outside {low} to {high}, where exponents of a loss are found:"
                f" the {_NAMES[axis]} term is probably not identified.",
            )


def _condition(fit: Examined) -> Iterator[Notice]:
    problem, theta = fit.problem, fit.optimum.theta[None]
    matrix = expand(problem.law, theta, problem.x, problem.y, problem.w, LEAST_SQUARES).majoriser[0]
    used = np.diag(matrix) > 0.0
    for name in np.array(problem.law.parameters)[~used]:
        yield Notice(
            code="unused-parameter",
            message=f"No point depends on {name}: the value given for it is where the search began. Add points that"
            " do, or fit a law without it.",
        )
    matrix = matrix[np.ix_(used, used)]
    scale = np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    condition = float(np.linalg.cond(matrix / np.outer(scale, scale)))
    if condition > _MAX_CONDITION:
        yield Notice(
            code="ill-conditioned",
            message=f"The scaled Hessian has condition number {condition:.1e}: some combination of parameters"
            " is free. Trust predictions inside the data only.",
        )


def _influence(fit: Examined) -> Iterator[Notice]:
    exponents, clusters = fit.result.compute_optimal, fit.points.n_clusters
    if not exponents or not fit.draws.requested or not 3 < clusters <= _MAX_LEFT_OUT or fit.points.n > MANY_ROWS:
        return
    law, codes = fit.problem.law, fit.points.cluster_codes
    natural = law.to_natural(leave_one_out(fit.problem, fit.points, fit.optimum), fit.problem.frame)
    base = exponents["params_exponent"].value
    moved = law.compute_optimal(natural)["params_exponent"] - base
    worst = int(np.argmax(np.abs(moved)))
    if abs(moved[worst]) > _INFLUENCE * base:
        row = int(np.flatnonzero(codes == worst)[0])
        label = "" if fit.points.cluster is None else f" ({fit.points.cluster[row]})"
        yield Notice(
            code="influence",
            message=f"Leaving out one run{label}, params {fit.points.need('params')[row]:.3g}, data"
            f" {fit.points.need('data')[row]:.3g}, moves the params exponent from {base:.4f} to"
            f" {base + moved[worst]:.4f}. Check that run, and report the fit without it too.",
        )


def _trend(fit: Examined) -> Iterator[Notice]:
    if fit.compute is None or fit.points.n < 10 or np.ptp(np.log(fit.compute)) == 0:
        return
    decades = np.log10(fit.compute)
    # A line fitted by cluster means would waste within-run trend, so clusters only set the error's size.
    centred = decades - decades.mean()
    slope = float(centred @ fit.result.residuals / (centred @ centred))
    scores = np.bincount(fit.points.cluster_codes, weights=centred * (fit.result.residuals - slope * centred))
    stderr = float(np.sqrt(scores @ scores) / (centred @ centred))
    if stderr > 0 and abs(slope) > 3.0 * stderr:
        way = "more" if slope > 0 else "less"
        yield Notice(
            code="residual-trend",
            message=f"Residuals drift with compute: measured loss is {abs(slope):.2%} {way} per decade than the"
            " law says, so predictions of larger runs lean the other way. Try another law.",
        )


def _lack_of_fit(fit: Examined) -> Iterator[Notice]:
    found = bend(fit.problem, fit.points, fit.optimum)
    if found is None or found[0] >= LACK_OF_FIT:
        return
    axes = " and ".join(_NAMES[axis] for axis in fit.problem.law.axes)
    yield Notice(
        code="lack-of-fit",
        message=f"{found[1]:.0%} of the residual variance is a bend along {axes} that noise leaves with"
        f" probability {max(found[0], 1e-6):.1g} at most: the law is not quite right, and intervals"
        " do not say by how much. Try another law, or a narrower range of runs.",
    )


def _convention(fit: Examined) -> Iterator[Notice]:
    params, data, flops = fit.points.params, fit.points.data, fit.points.flops
    if params is None or data is None or flops is None:
        return
    k = flops / (params * data)
    spread = float(k.max() / k.min() - 1.0)
    if spread > 0.05:
        yield Notice(
            code="flops-convention",
            message=f"Compute over params x data varies by {spread:.0%} among the points ({k.min():.3g} to"
            f" {k.max():.3g}); compute-optimal sizes use the median {np.median(k):.4g}. Small models spend a"
            " larger share outside what params counts.",
        )


def _mixed(fit: Examined) -> Iterator[Notice]:
    counts = np.bincount(fit.points.cluster_codes)
    if fit.points.cluster is not None and counts.max() > 1 and counts.min() == 1:
        yield Notice(
            code="mixed-checkpoints",
            message=f"{int((counts > 1).sum())} runs give several points and {int((counts == 1).sum())} give one:"
            " intermediate losses under a decaying learning rate are not final losses. Keep one kind.",
        )


def _resamples(fit: Examined) -> Iterator[Notice]:
    draws = fit.draws
    if draws.degenerate:
        yield Notice(
            code="degenerate-resamples",
            message=f"{draws.degenerate} of {draws.requested} resamples held fewer than {MIN_DISTINCT} distinct"
            " sizes or amounts of data and were left out of the intervals.",
        )
    if draws.unconverged > 0.01 * draws.requested:
        yield Notice(
            code="unconverged-resamples",
            message=f"{draws.unconverged} of {draws.requested} resamples did not settle: the law is barely"
            " determined by these points, and intervals are rough.",
        )


def _calibration(fit: Examined) -> Iterator[Notice]:
    found = fit.result.calibration
    if found is None or not fit.result.predictions:
        return
    if not found.n_blocks:
        yield Notice(
            code="calibration-prior",
            message="These points leave no smaller fit to test on the larger ones, so the room that intervals leave"
            f" for the law being only approximately right ({found.kappa:.0%} of the predicted gain) comes from"
            " published tables, not from these points. Runs that end at more amounts of compute would replace it.",
        )
    elif found.biased:
        same, word = max(found.n_high, found.n_low), "high" if found.n_high > found.n_low else "low"
        yield Notice(
            code="holdout-bias",
            message=f"Fits of the smaller points predict the larger ones too {word} at {same} of {found.n_cuts} cuts"
            f" (mean signed log error {found.mean_signed:+.4f}). Intervals are widened for it, not shifted: expect"
            " a new run on that side, or try another law with prx-scale backtest.",
        )


def _extrapolation(fit: Examined) -> Iterator[Notice]:
    for run in fit.result.predictions:
        given = {axis: value for axis in AXES if axis != "flops" and (value := getattr(run, axis)) is not None}
        given = given or {"flops": run.flops}
        where = "The prediction at " + ", ".join(f"{_NAMES[axis]} {value:.3g}" for axis, value in given.items())
        name, times = _reach(fit, run)
        if times > _FAR:
            yield Notice(
                code="extrapolation",
                message=f"{where} is {times:.0f} times the largest {name} fitted;"
                " there the interval rests on how laws failed on other tables more than on these points."
                " Fit a run in between first.",
            )
        elif run.params and run.data and (range_ := _ratio_range(fit.points)):
            ratio, (low, high) = run.data / run.params, range_
            if not low / 1.01 <= ratio <= high * 1.01:
                yield Notice(
                    code="data-per-param",
                    message=f"{where} has {ratio:.3g} data per parameter; the points have {low:.3g} to {high:.3g}.",
                )


def _reach(fit: Examined, run: Prediction) -> tuple[str, float]:
    """How far beyond the points a prediction is: in compute where both know it, else along an axis of the law."""
    params, data = fit.points.params, fit.points.data
    if run.flops is not None and fit.compute is not None:
        return "compute", run.flops / float(fit.compute.max())
    if run.params is not None and run.data is not None and params is not None and data is not None:
        return "compute", run.params * run.data / float((params * data).max())  # the ratio is that of compute
    axis = fit.problem.law.axes[0]
    return _NAMES[axis], getattr(run, axis) / fit.result.observed[axis][1]


def _optimum(fit: Examined) -> Iterator[Notice]:
    if not fit.result.compute_optimal or fit.result.provenance.flops_per is None or fit.compute is None:
        return
    params, data, _ = fit.result.frontier(fit.compute.max())
    ratio, range_ = float(data / params), _ratio_range(fit.points)
    if range_ is None:
        return
    low, high = range_
    if not low <= ratio <= high:
        yield Notice(
            code="optimum-outside",
            message=f"At the largest compute fitted the optimum has {ratio:.3g} data per parameter, outside the"
            f" {low:.3g} to {high:.3g} of the points: the allocation is extrapolated. Add runs nearer to it.",
        )


def _ratio_range(points: Points) -> tuple[float, float] | None:
    """Least and greatest data per parameter; None where one of the two was not recorded."""
    if points.params is None or points.data is None:
        return None
    ratio = points.data / points.params
    return float(ratio.min()), float(ratio.max())


_CHECKS: tuple[Callable[[Examined], Iterator[Notice]], ...] = (
    _starts,
    _few_places,
    _no_repeats,
    _ignored_axis,
    _collinear,
    _few_rows,
    _compute_range,
    _floor,
    _exponents,
    _condition,
    _influence,
    _trend,
    _lack_of_fit,
    _convention,
    _mixed,
    _resamples,
    _calibration,
    _extrapolation,
    _optimum,
)
