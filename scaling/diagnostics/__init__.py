"""What can make a fit look better than it is: each check gives a code and a sentence with a number.

Every check is a function of an :class:`~scaling.diagnostics.examined.Examined` that yields notices; ``examine`` runs
them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from scaling.bootstrap import Draws
from scaling.diagnostics import parameters, predictions, residuals, support
from scaling.diagnostics.examined import Examined
from scaling.notices import Notice
from scaling.points import Points
from scaling.problem import Optimum, Problem
from scaling.results import FitResult

_CHECKS: tuple[Callable[[Examined], Iterator[Notice]], ...] = (
    parameters.starts,
    support.few_places,
    support.no_repeats,
    support.ignored_axis,
    support.collinear,
    support.few_rows,
    support.compute_range,
    parameters.floor,
    parameters.exponents,
    parameters.condition,
    parameters.influence,
    residuals.trend,
    residuals.lack_of_fit,
    support.convention,
    support.mixed,
    parameters.resamples,
    predictions.calibration,
    predictions.extrapolation,
    predictions.optimum,
)


def examine(problem: Problem, points: Points, optimum: Optimum, draws: Draws, result: FitResult) -> tuple[Notice, ...]:
    """All warnings that apply to a fit, worst first."""
    fit = Examined(problem=problem, points=points, optimum=optimum, draws=draws, result=result)
    return tuple(notice for check in _CHECKS for notice in check(fit))
