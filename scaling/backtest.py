"""Backtest of laws: fit the small runs, predict the larger ones, for every cut in compute.

This is how a law is chosen. An error in the sample says how well a law bends; only runs beyond the fit say
whether it extrapolates. Errors are log L - log Lhat, so negative ones are predictions that were too high.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from scaling.backtest_notes import notices
from scaling.backtest_records import BINS, MAX_REACH, Backtest, Bin, Cut, Predicted, Score, Standing
from scaling.bootstrap import MIN_DISTINCT
from scaling.errors import FitInputError
from scaling.fitting import check_options, fit
from scaling.laws import get_law
from scaling.points import FloatArray, Points, places

BASELINE = "power_floor:flops"  # what anybody could draw: a curve through loss and compute
DEFAULT_LAWS = ("chinchilla", BASELINE)
MIN_ROWS = 5

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class _Held:
    """Predictions of one law at one cut: row numbers, extrapolation factors, errors, interval hits and widths.

    Of intervals there are two: calibrated, and of the law alone.
    """

    row: npt.NDArray[np.intp]
    factor: FloatArray
    error: FloatArray
    inside: FloatArray
    width: FloatArray
    law_inside: FloatArray
    law_width: FloatArray

    def score(self) -> Score:
        return Score(
            n=len(self.error),
            mean_abs=float(np.abs(self.error).mean()),
            mean_signed=float(self.error.mean()),
            max_abs=float(np.abs(self.error).max()),
            coverage=float(self.inside.mean()),
            log_width=float(self.width.mean()),
            law_coverage=float(self.law_inside.mean()),
            law_log_width=float(self.law_width.mean()),
        )

    def where(self, mask: BoolArray) -> _Held:
        return _Held(**{name: values[mask] for name, values in vars(self).items()})

    @staticmethod
    def join(parts: Sequence[_Held]) -> _Held:
        return _Held(**{name: np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])})


def backtest(
    points: Points,
    laws: Sequence[str] = DEFAULT_LAWS,
    *,
    cuts: Sequence[float] | None = None,
    max_cuts: int = 30,
    bootstrap: int = 200,
    level: float = 0.8,
    seed: int = 0,
    flops_per: float | None = None,
) -> Backtest:
    """Fit below a cut in compute, predict the larger runs, for every cut and law.

    A run (cluster) belongs to the fit where all its rows lie below the cut; rows at or above the cut are
    predicted. So a run is never predicted from its own earlier checkpoints.

    Args:
        points: measured losses.
        laws: names of laws, each once.
        cuts: cuts in FLOPs; None takes the compute at which runs end, where at least 5 rows of 3 sizes
            (3 values of every axis of the laws) lie below.
        max_cuts: where there are more, that many evenly spread over their order are taken.
        bootstrap: resamples behind the intervals of each cut; 0 leaves intervals out.
        level: level of the intervals.
        seed: seed of the resamples.
        flops_per: k in C = k N D where the points carry no flops (6 for tokens).

    Returns:
        Errors and coverage by cut, by extrapolation factor and by law.

    Raises:
        FitInputError: unknown or repeated law, no compute, options out of range, or no cut that leaves enough to
            fit and something to predict.
    """
    check_options(bootstrap, level)
    _check_laws(laws, max_cuts)
    points = points.take(points.weights > 0).canonical()
    flops = points.compute(flops_per)
    if flops is None:
        raise FitInputError("a backtest cuts in compute: give the points a flops column")
    ends = points.ends(flops)
    possible = _possible_cuts(points, flops, ends, laws)
    chosen = _spread(possible, max_cuts) if cuts is None else _given(cuts, points, flops, ends, laws)
    done: list[tuple[Cut, _Held]] = []
    for cut in chosen:
        try:
            done += [_one(points, flops, ends, cut, law, bootstrap, level, seed, flops_per) for law in laws]
        except FitInputError as error:
            raise FitInputError(f"cut at {cut:.4g} FLOPs: {error}") from error
    bins = tuple(each for law in laws for each in _bins(law, [held for cut, held in done if cut.law == law]))
    standings = sorted((_standing(law, done, points, flops_per) for law in laws), key=lambda each: each.weighted_abs)
    result = Backtest(
        level=level,
        bootstrap=bootstrap,
        seed=seed,
        n_possible=len(possible),
        n_cuts=len(chosen),
        standings=tuple(standings),
        bins=bins,
        cuts=tuple(cut for law in laws for cut, _ in done if cut.law == law),
        notices=(),
        predictions=tuple(_predicted(points, law, done) for law in laws),
    )
    return replace(result, notices=notices(result))


def _check_laws(laws: Sequence[str], max_cuts: int) -> None:
    if not laws:
        raise FitInputError(f"no law to test: name some, for example {' and '.join(DEFAULT_LAWS)}")
    for law in laws:
        get_law(law)
    if len(set(laws)) < len(laws):
        raise FitInputError(f"a law is named twice: {', '.join(laws)}; name each once")
    if max_cuts < 1:
        raise FitInputError(f"max_cuts is {max_cuts}: make at least one cut")


def _lacking(points: Points, flops: FloatArray, below: BoolArray, laws: Sequence[str]) -> str | None:
    """What the rows below a cut lack for a fit of every law; None where they have enough."""
    rows = max(MIN_ROWS, *(len(get_law(law).parameters) for law in laws))
    if np.count_nonzero(below) < rows:
        return f"{rows} rows"
    sizes = set[str]() if points.params is None else {"params"}
    for axis in sorted(sizes.union(*(get_law(law).exponents for law in laws)), reverse=True):
        column = flops if axis == "flops" else points.need(axis)
        if int(places(column[below]).max()) + 1 < MIN_DISTINCT:
            return f"{MIN_DISTINCT} different {axis}"
    return None


def _possible_cuts(points: Points, flops: FloatArray, ends: FloatArray, laws: Sequence[str]) -> FloatArray:
    candidates = np.unique(ends)
    found = [cut for cut in candidates if _lacking(points, flops, ends < cut, laws) is None]
    if not found:
        lacking = _lacking(points, flops, ends < candidates[-1], laws)
        raise FitInputError(
            f"no cut in compute leaves enough to fit: below the largest, {candidates[-1]:.4g} FLOPs, end"
            f" {np.count_nonzero(ends < candidates[-1])} of {points.n} rows, and the fit needs {lacking}."
            " A backtest needs runs that end at different compute"
        )
    return np.array(found)


def _spread(cuts: FloatArray, most: int) -> FloatArray:
    if len(cuts) <= most:
        return cuts
    return cuts[np.unique(np.linspace(0, len(cuts) - 1, most).round().astype(np.intp))]


def _given(
    cuts: Sequence[float], points: Points, flops: FloatArray, ends: FloatArray, laws: Sequence[str]
) -> FloatArray:
    for cut in cuts:
        below = ends < cut
        if (lacking := _lacking(points, flops, below, laws)) is not None:
            raise FitInputError(
                f"cut at {cut:.4g} FLOPs: {np.count_nonzero(below)} rows of runs end below it; the fit needs {lacking}"
            )
        if not np.any(flops >= cut):
            raise FitInputError(f"cut at {cut:.4g} FLOPs: no row at or above it; the largest is {flops.max():.4g}")
    return np.unique(np.asarray(cuts, dtype=np.float64))


def _one(
    points: Points,
    flops: FloatArray,
    ends: FloatArray,
    cut: float,
    law: str,
    resamples: int,
    level: float,
    seed: int,
    flops_per: float | None,
) -> tuple[Cut, _Held]:
    below, above = ends < cut, np.flatnonzero(flops >= cut)
    result = fit(points.take(below), law=law, bootstrap=resamples, level=level, seed=seed, flops_per=flops_per)
    loss = points.loss[above]
    # Of every row its own compute, where it was measured: k N D is off by as much as k varies.
    axes: dict[str, Any] = {
        axis: flops[above] if axis == "flops" else points.need(axis)[above] for axis in get_law(law).axes
    }
    inside, width = _hits(loss, *result.predict_interval(**axes))
    law_inside, law_width = _hits(loss, *result.predict_interval(**axes, calibrated=False))
    largest = float(flops[below].max())
    held = _Held(
        row=above,
        factor=flops[above] / largest,
        error=np.log(loss) - np.log(result.predict(**axes)),
        inside=inside,
        width=width,
        law_inside=law_inside,
        law_width=law_width,
    )
    record = Cut(
        law=law,
        flops=float(cut),
        fitted_flops=largest,
        extrapolation=float(held.factor.max()),
        n_fit=int(np.count_nonzero(below)),
        n_test=len(above),
        status=result.status,
        score=held.score(),
    )
    return record, held


def _hits(loss: FloatArray, low: FloatArray, high: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Whether losses lie in their intervals, and log(upper / lower); nan without resamples."""
    return np.where(np.isnan(low), np.nan, (low <= loss) & (loss <= high)), np.log(high / low)


def _bins(law: str, parts: Sequence[_Held]) -> list[Bin]:
    every = _Held.join(parts)
    found: list[Bin] = []
    for low, high in BINS:
        held = every.where((every.factor >= low) & (every.factor < high))
        if len(held.row):
            found.append(Bin(law=law, low=low, high=high, n_rows=len(np.unique(held.row)), score=held.score()))
    return found


def _predicted(points: Points, law: str, done: Sequence[tuple[Cut, _Held]]) -> Predicted:
    mine = [(cut, held) for cut, held in done if cut.law == law]
    every = _Held.join([held for _, held in mine])
    labels = np.arange(points.n).astype(np.str_) if points.cluster is None else points.cluster
    return Predicted(
        law=law,
        run=labels[every.row],
        cut=np.concatenate([np.full(len(held.row), cut.flops) for cut, held in mine]),
        factor=every.factor,
        error=every.error,
        inside=every.inside,
        log_width=every.width,
    )


def _standing(law: str, done: Sequence[tuple[Cut, _Held]], points: Points, flops_per: float | None) -> Standing:
    every = _Held.join([held for cut, held in done if cut.law == law])
    near = every.factor <= MAX_REACH
    every = every.where(near) if near.any() else every
    signed = [cut.score.mean_signed for cut, _ in done if cut.law == law]
    weight = np.log(every.factor)
    # Rows at the largest compute fitted extrapolate by nothing and weigh nothing, unless there are no others.
    weight = weight if weight.sum() > 0 else np.ones_like(weight)
    whole = fit(points, law=law, bootstrap=0, flops_per=flops_per).criteria
    return Standing(
        law=law,
        weighted_abs=float(np.average(np.abs(every.error), weights=weight)),
        score=every.score(),
        n_high=sum(mean < 0 for mean in signed),
        n_low=sum(mean > 0 for mean in signed),
        aicc=whole.aicc,
        bic=whole.bic,
    )
