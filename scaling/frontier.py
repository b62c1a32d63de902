"""The compute-optimal frontier from one optimum per budget: lines of N* and D* in compute, and loss along them.

Shared by the two ways of finding the optima: isoFLOP parabolas (:mod:`scaling.isoflop`) and the envelope of training
curves (:mod:`scaling.envelope`), approaches 2 and 1 of Hoffmann et al. 2022 (arXiv 2203.15556). N* and D* are fitted
apart, log N* = n + a log C and log D* = d + b log C, so a + b shows whether compute is a constant times N D.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from scaling.errors import FitInputError
from scaling.estimates import Estimate, estimate, interval_bounds
from scaling.jsontypes import finite_json
from scaling.laws import get_law
from scaling.losses import LEAST_SQUARES
from scaling.notices import Notice
from scaling.points import FloatArray, Points
from scaling.problem import pose, resolve, solve

MIN_BUDGETS = 3
_SUM_TOLERANCE = 0.02
_LEAST_DRAWS = 20
_MOST_REASONS = 6


@dataclass(frozen=True, kw_only=True)
class Optimum:
    """The best run at one budget, as the method sees it.

    Attributes:
        flops: the budget C.
        n_rows: rows behind it.
        n_sizes: distinct sizes among them.
        params: N*; nan where there is no minimum.
        data: D*.
        loss: L at the minimum.
        params_interval: at the result's level; nan without resamples.
        data_interval: likewise.
        loss_interval: likewise.
        sizes: (least, greatest) size sampled at this budget.
        used: whether the lines below go through it.
        flags: codes of what is wrong with it; empty where nothing is.
    """

    flops: float
    n_rows: int
    n_sizes: int
    params: float
    data: float
    loss: float
    params_interval: tuple[float, float]
    data_interval: tuple[float, float]
    loss_interval: tuple[float, float]
    sizes: tuple[float, float]
    used: bool
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LossLaw:
    """Loss of the optima against compute, least squares on log loss.

    Attributes:
        law: "power_floor:flops" or "power:flops".
        parameters: by name; coefficients are for C in FLOPs.
        log_rss: sum of squared differences of log loss.
        at_reference: K C^-g at the frontier's reference budget, which is better determined than K.
    """

    law: str
    parameters: dict[str, Estimate]
    log_rss: float
    at_reference: float


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """The compute-optimal frontier.

    Attributes:
        method: "isoflop" or "envelope".
        description: what was done, in words.
        level: level of every interval.
        n_points: rows used.
        reference: budget at which ``params_at`` and ``data_at`` stand: the geometric mean of the budgets used.
        params_exponent: a in N* ~ C^a.
        data_exponent: b in D* ~ C^b, fitted apart.
        exponent_sum: a + b: 1 where compute is a constant times N D.
        params_at: N* on the line at the reference budget.
        data_at: D* likewise.
        loss_laws: with and without a floor, in that order; empty with fewer than three budgets.
        optima: one per budget, ascending.
        notices: what a reader has to know.
        resampling: how the draws were made, in words.
        lines: log N* and log D* at the reference and both exponents of every draw, shape (b, 4).
    """

    method: str
    description: str
    level: float
    n_points: int
    reference: float
    params_exponent: Estimate
    data_exponent: Estimate
    exponent_sum: Estimate
    params_at: Estimate
    data_at: Estimate
    loss_laws: tuple[LossLaw, ...]
    optima: tuple[Optimum, ...]
    notices: tuple[Notice, ...]
    resampling: str
    lines: FloatArray = field(repr=False, compare=False)

    def at(self, flops: float) -> tuple[Estimate, Estimate]:
        """N* and D* on the lines at a budget."""
        step = float(np.log(flops / self.reference))
        found: list[Estimate] = []
        for middle, slope, where in (
            (self.params_at, self.params_exponent, 0),
            (self.data_at, self.data_exponent, 1),
        ):
            draws = np.exp(self.lines[:, where] + self.lines[:, where + 2] * step)
            found.append(estimate(middle.value * float(np.exp(slope.value * step)), draws, self.level, log=True))
        return found[0], found[1]

    def to_json(self) -> dict[str, Any]:
        """The result as JSON types; nan and infinity become null."""
        plain = asdict(self)
        plain["lines"] = self.lines.tolist()
        return {"schema": 1, **finite_json(plain)}


@dataclass(frozen=True, kw_only=True)
class Found:
    """Optima in logarithms, of all rows and of every resample.

    Attributes:
        flops: budgets, shape (k,).
        best: log N*, log D* and log L of every budget, shape (3, k); nan where there is no minimum.
        draws: the same for every resample, shape (b, 3, k).
        optima: what is to be reported of each budget, intervals left out.
        n_points: rows behind them.
    """

    flops: FloatArray
    best: FloatArray
    draws: FloatArray
    optima: tuple[Optimum, ...]
    n_points: int


def assemble(
    found: Found, *, method: str, description: str, resampling: str, level: float, notices: tuple[Notice, ...]
) -> Frontier:
    """Draw the lines through the optima that are used.

    Args:
        found: the optima.
        method: "isoflop" or "envelope".
        description: what was done, in words.
        resampling: how the draws were made, in words.
        level: level of the intervals.
        notices: what the method itself has to say; what the lines show is added.

    Raises:
        FitInputError: fewer than two budgets have a usable optimum.
    """
    used = np.array([optimum.used for optimum in found.optima])
    if int(used.sum()) < 2:
        raise FitInputError(_too_few(found))
    x = np.log(found.flops[used])
    centre = float(x.mean())
    line = _lines(x - centre, found.best[None][:, :, used])[0]
    usable = np.isfinite(found.draws[:, 0, used]).sum(axis=1) >= min(MIN_BUDGETS, int(used.sum()))
    draws = found.draws[usable]
    lines = _lines(x - centre, draws[:, :, used])
    optima = tuple(_with_intervals(o, draws[:, :, i], level) for i, o in enumerate(found.optima))
    slopes = [estimate(float(line[i]), lines[:, i], level) for i in (2, 3)]
    places = [estimate(float(np.exp(line[i])), np.exp(lines[:, i]), level, log=True) for i in (0, 1)]
    total = estimate(float(line[2] + line[3]), lines[:, 2] + lines[:, 3], level)
    return Frontier(
        method=method,
        description=description,
        level=level,
        n_points=found.n_points,
        reference=float(np.exp(centre)),
        params_exponent=slopes[0],
        data_exponent=slopes[1],
        exponent_sum=total,
        params_at=places[0],
        data_at=places[1],
        loss_laws=_loss_laws(found, used, draws, float(np.exp(centre)), level),
        optima=optima,
        notices=(*notices, *_line_notices(int(used.sum()), total, len(found.draws), int(usable.sum()))),
        resampling=resampling,
        lines=lines,
    )


def _too_few(found: Found) -> str:
    lost = [f"{each.flops:.3g} FLOPs: {', '.join(each.flags)}" for each in found.optima if not each.used]
    reasons = "; ".join([*lost[:_MOST_REASONS], *(["..."] if len(lost) > _MOST_REASONS else [])])
    return f"fewer than two budgets have a usable optimum, so there is no line to draw ({reasons})"


def _lines(x: FloatArray, values: FloatArray) -> FloatArray:
    """Least squares through log N* and log D*, shape (b, 4): both values at x = 0, then both slopes.

    Args:
        x: log C about the reference, shape (k,).
        values: shape (b, 3, k); a budget that is nan is left out of that draw.
    """
    known = np.isfinite(values[:, 0])
    count = np.maximum(known.sum(axis=1), 1)
    mean_x = (known * x).sum(axis=1) / count
    away = np.where(known, x - mean_x[:, None], 0.0)
    spread = np.maximum((away * away).sum(axis=1), 1e-300)
    out = np.empty((len(values), 4))
    for i in (0, 1):
        y = np.where(known, values[:, i], 0.0)
        out[:, i + 2] = (away * y).sum(axis=1) / spread
        out[:, i] = y.sum(axis=1) / count - out[:, i + 2] * mean_x
    return out


def _with_intervals(optimum: Optimum, draws: FloatArray, level: float) -> Optimum:
    known = draws[np.isfinite(draws[:, 0])]
    if len(known) < _LEAST_DRAWS:
        return optimum
    low, high = np.exp(np.quantile(known, interval_bounds(level), axis=0))
    pairs = [(float(low[i]), float(high[i])) for i in range(3)]
    return replace(optimum, params_interval=pairs[0], data_interval=pairs[1], loss_interval=pairs[2])


def _loss_laws(
    found: Found, used: np.ndarray[Any, Any], draws: FloatArray, reference: float, level: float
) -> tuple[LossLaw, ...]:
    if int(used.sum()) < MIN_BUDGETS:
        return ()
    params, data, loss = np.exp(found.best[:, used])
    points = Points(params=params, data=data, loss=loss, flops=found.flops[used])
    measured = draws[:, 2, used]
    laws = [_loss_law(name, points, measured, reference, level) for name in ("power_floor:flops", "power:flops")]
    return tuple(laws)


def _loss_law(name: str, points: Points, measured: FloatArray, reference: float, level: float) -> LossLaw:
    """Fit the optima, and the optima of every draw from there on; lost budgets weigh nothing in a draw."""
    law = get_law(name)
    problem = pose(law, points, LEAST_SQUARES, None)
    optimum = solve(problem)
    natural = law.to_natural(optimum.theta[None], problem.frame)[0]
    known = np.isfinite(measured)
    y = np.where(known, measured, 0.0) - problem.frame.log_scale
    resampled = np.empty((0, len(natural)))
    if len(measured):
        resampled = law.to_natural(resolve(problem, optimum.theta, y, known.astype(np.float64)).theta, problem.frame)
    names = law.parameters
    power = dict(zip(names, natural, strict=True))
    return LossLaw(
        law=name,
        parameters={
            key: estimate(float(natural[i]), resampled[:, i], level, log=key in law.coefficients)
            for i, key in enumerate(names)
        },
        log_rss=2.0 * optimum.objective,
        at_reference=float(power["K"] * reference ** -power["g"]),
    )


def _line_notices(n_budgets: int, total: Estimate, requested: int, usable: int) -> list[Notice]:
    notices: list[Notice] = []
    if n_budgets < MIN_BUDGETS:
        text = f"Only {n_budgets} budgets have a usable optimum: a line through them has no error to show. Add budgets."
        notices.append(Notice(code="few-budgets", message=text))
    if abs(total.value - 1.0) > _SUM_TOLERANCE:
        text = (
            f"The exponents of N* and D* add up to {total.value:.3f}: compute here is not a constant times N D, or the"
            " budgets are not met exactly."
        )
        notices.append(Notice(code="exponent-sum", message=text))
    if usable < requested:
        text = f"{requested - usable} of {requested} resamples left fewer than {MIN_BUDGETS} optima and were left out."
        notices.append(Notice(code="degenerate-resamples", message=text))
    return notices
