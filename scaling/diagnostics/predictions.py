"""Whether predictions can be trusted: how far they reach, and what hold-outs say of them."""

from __future__ import annotations

from collections.abc import Iterator

from scaling.diagnostics.examined import NAMES, Examined
from scaling.notices import Notice
from scaling.points import AXES, Points
from scaling.predictions import Prediction

_FAR = 10.0  # times the largest compute seen


def calibration(fit: Examined) -> Iterator[Notice]:
    """What hold-outs inside the fit say of its predictions, or that there are none."""
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


def extrapolation(fit: Examined) -> Iterator[Notice]:
    """A prediction is far from the points."""
    for run in fit.result.predictions:
        given = {axis: value for axis in AXES if axis != "flops" and (value := getattr(run, axis)) is not None}
        given = given or {"flops": run.flops}
        where = "The prediction at " + ", ".join(f"{NAMES[axis]} {value:.3g}" for axis, value in given.items())
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
    return NAMES[axis], getattr(run, axis) / fit.result.observed[axis][1]


def optimum(fit: Examined) -> Iterator[Notice]:
    """The optimum lies outside the points."""
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
