"""What a backtest returns: errors and coverage by cut, by reach and by law, with a JSON form."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from scaling.jsontypes import finite_json
from scaling.notices import Notice
from scaling.points import FloatArray, LabelArray

SCHEMA = 1
BINS = ((1.5, 3.0), (3.0, 10.0), (10.0, 30.0))
MAX_REACH = 30.0  # laws are ranked on predictions up to here: nobody buys a run a thousand times the largest measured


@dataclass(frozen=True, kw_only=True)
class Score:
    """How a law did on held-out rows.

    Attributes:
        n: rows predicted; a row that several cuts predict counts once for each.
        mean_abs: mean of abs(log L - log Lhat).
        mean_signed: mean of log L - log Lhat; negative where predictions were too high.
        max_abs: greatest of abs(log L - log Lhat).
        coverage: share of the rows inside their calibrated interval; nan without resamples.
        log_width: mean of log(upper / lower) of the intervals; nan without resamples.
        law_coverage: coverage of intervals that take the law for true.
        law_log_width: their mean log(upper / lower).
    """

    n: int
    mean_abs: float
    mean_signed: float
    max_abs: float
    coverage: float
    log_width: float
    law_coverage: float
    law_log_width: float


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
        n_high: cuts whose predictions are too high on average, far ones included.
        n_low: cuts whose predictions are too low on average.
        aicc: Akaike's criterion of the law fitted to all points; a tie-break, not the ranking.
        bic: Schwarz's criterion of the same fit.
    """

    law: str
    weighted_abs: float
    score: Score
    n_high: int
    n_low: int
    aicc: float
    bic: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Predicted:
    """Every prediction of one law; a row that several cuts predict is in once for each. Columns of shape (m,).

    Attributes:
        law: name of the law.
        run: label of the row's run; its number among the rows where runs have no label.
        cut: the cut in FLOPs below which the law was fitted.
        factor: compute of the row over the largest fitted.
        error: log L - log Lhat.
        inside: 1 where the loss lies in its interval, 0 where not; nan without resamples.
        log_width: log(upper / lower) of the interval; nan without resamples.
    """

    law: str
    run: LabelArray
    cut: FloatArray
    factor: FloatArray
    error: FloatArray
    inside: FloatArray
    log_width: FloatArray


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
        predictions: behind all of these, by law in the order that was asked for; not in the JSON form.
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
    predictions: tuple[Predicted, ...] = field(default=(), repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """The result as JSON types; nan becomes null."""
        plain = asdict(replace(self, predictions=()))
        del plain["predictions"]
        return {"schema": SCHEMA, **finite_json(plain)}
