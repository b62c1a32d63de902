"""Backtest of laws: fit the small runs, predict the larger ones, for every cut in compute.

This is how a law is chosen. An error in the sample says how well a law bends; only runs beyond the fit say
whether it extrapolates. Errors are log L - log Lhat, so negative ones are predictions that were too high.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from scaling.bootstrap import MIN_DISTINCT, places
from scaling.errors import FitInputError
from scaling.fitting import check_options, fit
from scaling.laws import get_law
from scaling.points import FloatArray, Points
from scaling.results import Notice, finite_json

SCHEMA = 1
DEFAULT_LAWS = ("chinchilla", "power_floor:flops")
MIN_ROWS = 5
BINS = ((1.5, 3.0), (3.0, 10.0), (10.0, 30.0))
MAX_REACH = 30.0  # laws are ranked on predictions up to here: nobody buys a run a thousand times the largest measured

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Score:
    """How a law did on held-out rows.

    Attributes:
        n: rows predicted; a row that several cuts predict counts once for each.
        mean_abs: mean of abs(log L - log Lhat).
        mean_signed: mean of log L - log Lhat; negative where predictions were too high.
        max_abs: greatest of abs(log L - log Lhat).
        coverage: share of the rows inside their interval; nan without resamples.
        log_width: mean of log(upper / lower) of the intervals; nan without resamples.
    """

    n: int
    mean_abs: float
    mean_signed: float
    max_abs: float
    coverage: float
    log_width: float


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One law fitted below one cut.

    Attributes:
        law: name of the law.
        flops: the cut: runs that end below it are fitted, rows at or above it are predicted.
        fitted_flops: the largest compute fitted.
        extrapolation: largest compute predicted over the largest fitted.
        n_fit: rows fitted.
        n_test: rows predicted.
        status: of the fit: "converged", "bound-hit" or "not-converged".
        score: errors and coverage on the rows predicted.
    """

    law: str
    flops: float
    fitted_flops: float
    extrapolation: float
    n_fit: int
    n_test: int
    status: str
    score: Score


@dataclass(frozen=True, kw_only=True)
class Bin:
    """All predictions of one law whose compute is ``low`` to ``high`` times the largest fitted.

    Attributes:
        law: name of the law.
        low: least extrapolation factor, included.
        high: greatest one, not included.
        n_rows: different rows among the predictions.
        score: errors and coverage of the predictions of all cuts.
    """

    law: str
    low: float
    high: float
    n_rows: int
    score: Score


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One law over all cuts, on predictions up to 30 times the largest compute fitted (on all, where none is).

    Attributes:
        law: name of the law.
        weighted_abs: mean of abs(log L - log Lhat), weighted by the log of the extrapolation factor, so that far
            predictions decide.
        score: of the same predictions, unweighted.
        same_sign: share of the cuts whose mean signed error has the more frequent sign.
    """

    law: str
    weighted_abs: float
    score: Score
    same_sign: float


@dataclass(frozen=True, kw_only=True)
class Backtest:
    """What a backtest returns.

    Attributes:
        level: level of the intervals.
        bootstrap: resamples behind the intervals of each cut.
        seed: seed of the resamples.
        n_possible: cuts that leave enough to fit.
        n_cuts: cuts that were made.
        standings: the laws, best first.
        bins: by law and extrapolation factor; bins without predictions are left out.
        cuts: by law and cut.
        notices: what the numbers say, in sentences.
    """

    level: float
    bootstrap: int
    seed: int
    n_possible: int
    n_cuts: int
    standings: tuple[Standing, ...]
    bins: tuple[Bin, ...]
    cuts: tuple[Cut, ...]
    notices: tuple[Notice, ...]

    def to_json(self) -> dict[str, Any]:
        """The result as JSON types; nan becomes null."""
        return {"schema": SCHEMA, **finite_json(asdict(self))}


@dataclass(frozen=True, kw_only=True)
class _Held:
    """Predictions of one law at one cut: row numbers, extrapolation factors, errors, interval hits and widths."""

    row: npt.NDArray[np.intp]
    factor: FloatArray
    error: FloatArray
    inside: FloatArray
    width: FloatArray

    def score(self) -> Score:
        return Score(
            n=len(self.error),
            mean_abs=float(np.abs(self.error).mean()),
            mean_signed=float(self.error.mean()),
            max_abs=float(np.abs(self.error).max()),
            coverage=float(self.inside.mean()),
            log_width=float(self.width.mean()),
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
    ends = _ends(points, flops)
    possible = _possible_cuts(points, flops, ends, laws)
    chosen = _spread(possible, max_cuts) if cuts is None else _given(cuts, points, flops, ends, laws)
    done: list[tuple[Cut, _Held]] = []
    for cut in chosen:
        try:
            done += [_one(points, flops, ends, cut, law, bootstrap, level, seed, flops_per) for law in laws]
        except FitInputError as error:
            raise FitInputError(f"cut at {cut:.4g} FLOPs: {error}") from error
    bins = tuple(each for law in laws for each in _bins(law, [held for cut, held in done if cut.law == law]))
    standings = sorted((_standing(law, done) for law in laws), key=lambda each: each.weighted_abs)
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
    )
    return replace(result, notices=_notices(result))


def _check_laws(laws: Sequence[str], max_cuts: int) -> None:
    if not laws:
        raise FitInputError(f"no law to test: name some, for example {' and '.join(DEFAULT_LAWS)}")
    for law in laws:
        get_law(law)
    if len(set(laws)) < len(laws):
        raise FitInputError(f"a law is named twice: {', '.join(laws)}; name each once")
    if max_cuts < 1:
        raise FitInputError(f"max_cuts is {max_cuts}: make at least one cut")


def _ends(points: Points, flops: FloatArray) -> FloatArray:
    """The compute at which the run of every row ends, shape (n,)."""
    codes = points.cluster_codes
    last = np.zeros(points.n_clusters)
    np.maximum.at(last, codes, flops)
    return last[codes]


def _lacking(points: Points, flops: FloatArray, below: BoolArray, laws: Sequence[str]) -> str | None:
    """What the rows below a cut lack for a fit of every law; None where they have enough."""
    rows = max(MIN_ROWS, *(len(get_law(law).parameters) for law in laws))
    if np.count_nonzero(below) < rows:
        return f"{rows} rows"
    columns = {"params": points.params, "data": points.data, "flops": flops}
    for axis in sorted({"params"}.union(*(get_law(law).axes for law in laws)), reverse=True):
        if int(places(columns[axis][below]).max()) + 1 < MIN_DISTINCT:
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
    params, data, loss = points.params[above], points.data[above], points.loss[above]
    low, high = result.predict_interval(params, data)
    inside = np.where(np.isnan(low), np.nan, (low <= loss) & (loss <= high))
    largest = float(flops[below].max())
    held = _Held(
        row=above,
        factor=flops[above] / largest,
        error=np.log(loss) - np.log(result.predict(params, data)),
        inside=inside,
        width=np.log(high / low),
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


def _bins(law: str, parts: Sequence[_Held]) -> list[Bin]:
    every = _Held.join(parts)
    found: list[Bin] = []
    for low, high in BINS:
        held = every.where((every.factor >= low) & (every.factor < high))
        if len(held.row):
            found.append(Bin(law=law, low=low, high=high, n_rows=len(np.unique(held.row)), score=held.score()))
    return found


def _standing(law: str, done: Sequence[tuple[Cut, _Held]]) -> Standing:
    every = _Held.join([held for cut, held in done if cut.law == law])
    near = every.factor <= MAX_REACH
    every = every.where(near) if near.any() else every
    signs = np.array([cut.score.mean_signed > 0 for cut, _ in done if cut.law == law])
    weight = np.log(every.factor)
    # Rows at the largest compute fitted extrapolate by nothing and weigh nothing, unless there are no others.
    weight = weight if weight.sum() > 0 else np.ones_like(weight)
    return Standing(
        law=law,
        weighted_abs=float(np.average(np.abs(every.error), weights=weight)),
        score=every.score(),
        same_sign=float(max(signs.mean(), 1 - signs.mean())),
    )


_EXACT = 1e-6  # mean abs log error below which a law meets the points, and signs are rounding
_CONSTANT = 0.9  # share of the cuts with one sign above which the sign counts as constant
_NARROW = 0.1  # coverage that far below its level is too little


def _notices(result: Backtest) -> tuple[Notice, ...]:
    notes = [_rank_notice(result)]
    notes += [_sign_notice(each, result.n_cuts) for each in result.standings]
    notes += [_coverage_notice(each, result.level) for each in result.bins]
    if result.n_cuts < 3:
        made = "one cut was" if result.n_cuts == 1 else f"{result.n_cuts} cuts were"
        text = f"Only {made} made: that is an anecdote, not a test. Give runs that end at more amounts of compute."
        notes.append(Notice(code="few-cuts", message=text))
    return tuple(note for note in notes if note is not None)


def _rank_notice(result: Backtest) -> Notice | None:
    if len(result.standings) < 2:
        return None
    best, second = result.standings[:2]
    text = (
        f"{best.law} extrapolates best: mean absolute log error {best.weighted_abs:.4f} (far predictions weigh more)"
        f" up to {MAX_REACH:g} times the compute fitted, against {second.weighted_abs:.4f} for {second.law}."
    )
    if get_law(best.law).name.startswith("power_floor:"):
        text += " A law in one variable sees no difference between runs that spend it differently."
    return Notice(code="best-law", message=text)


def _sign_notice(standing: Standing, n_cuts: int) -> Notice | None:
    if n_cuts < 3 or standing.same_sign < _CONSTANT or standing.score.mean_abs < _EXACT:
        return None
    word = "high" if standing.score.mean_signed < 0 else "low"
    text = (
        f"{standing.law} predicts too {word} at {round(standing.same_sign * n_cuts)} of {n_cuts} cuts"
        f" (mean signed log error {standing.score.mean_signed:+.4f}): a constant sign is misspecification, not noise."
        " Its extrapolations are off to that side; try another law, or leave out runs that are not in its regime."
    )
    return Notice(code="constant-sign", message=text)


def _coverage_notice(each: Bin, level: float) -> Notice | None:
    if not each.score.coverage < level - _NARROW:
        return None
    text = (
        f"{each.law}: at {each.low:g} to {each.high:g} times the compute fitted, {each.score.coverage:.0%} of"
        f" {each.score.n} predictions ({each.n_rows} rows) lie in their {level:.0%} interval: intervals that far out"
        " are too narrow on these points."
    )
    return Notice(code="narrow-intervals", message=text)
