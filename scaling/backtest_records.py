"""What a backtest returns: errors and coverage by cut, by reach and by law, with a JSON form."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from scaling.results import Notice, finite_json

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
    """

    law: str
    weighted_abs: float
    score: Score
    n_high: int
    n_low: int


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
