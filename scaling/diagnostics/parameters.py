"""Whether the parameters are determined: by the search, by the points around, by all runs or one of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scaling.bootstrap import MIN_DISTINCT
from scaling.diagnostics.examined import NAMES, Examined
from scaling.jackknife import leave_one_out
from scaling.large import MANY_ROWS
from scaling.losses import LEAST_SQUARES
from scaling.notices import Notice
from scaling.objective import expand

_EXPONENT_RANGE = (0.02, 1.5)
_MAX_CONDITION = 1e8
_INFLUENCE = 0.2
_MAX_LEFT_OUT = 400  # leave-one-out fits cost as much as resamples: not for tables of thousands


def starts(fit: Examined) -> Iterator[Notice]:
    """The search did not settle, or ran into a limit."""
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


def floor(fit: Examined) -> Iterator[Notice]:
    """The floor may as well be 0."""
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


def exponents(fit: Examined) -> Iterator[Notice]:
    """An exponent is outside the range where they are found."""
    low, high = _EXPONENT_RANGE
    names = {name: axis for axis, name in fit.problem.law.exponents.items()}  # a shared exponent is named once
    for name, axis in names.items():
        value = fit.result.parameters[name].value
        if not low <= value <= high:
            yield Notice(
                code="odd-exponent",
                message=f"{name} is {value:.4g}, outside {low} to {high}, where exponents of a loss are found:"
                f" the {NAMES[axis]} term is probably not identified.",
            )


def condition(fit: Examined) -> Iterator[Notice]:
    """A parameter, or a combination of several, is free."""
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


def influence(fit: Examined) -> Iterator[Notice]:
    """One run decides the exponents."""
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


def resamples(fit: Examined) -> Iterator[Notice]:
    """Resamples that do not count, or did not settle."""
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
