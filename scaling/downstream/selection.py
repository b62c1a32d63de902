"""Which form predicts the best runs from the others, and what a reader has to know about the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scaling.downstream.fitting import MetricFit, Variable, Weighting, fit_metric, pose
from scaling.downstream.rows import Metric, MetricRows
from scaling.errors import FitInputError
from scaling.notices import Notice
from scaling.points import FloatArray
from scaling.weighted_correlation import spearman

MIN_RUNS = 5
_FOLDS = 5
_CLOSE = 1.05  # held-out errors within 5 % of the least are told apart by AICc
_SATURATED = 0.05  # share of the way from worst to best asymptote that is left


@dataclass(frozen=True, kw_only=True)
class FormScore:
    """How well a form predicts runs with a lower loss than those it was fitted on.

    Attributes:
        form: name of the form.
        held_out: mean absolute error of the metric over runs of lower loss than all fitted; nan where none could be.
        signed: mean of measured - predicted there: of one sign where the form bends the wrong way.
        folds: how many cuts were made.
        aicc: Akaike's criterion on all rows; comparable between forms only.
        fit: the form on all rows.
    """

    form: str
    held_out: float
    signed: float
    folds: int
    aicc: float
    fit: MetricFit


def choose_form(
    rows: MetricRows,
    metric: Metric,
    forms: Sequence[str],
    *,
    weighting: Weighting = "equal",
    bootstrap: int = 1000,
    level: float = 0.8,
    seed: int = 0,
) -> tuple[FormScore, ...]:
    """Fit several forms and rank them: least leave-largest-out error first, AICc where errors are close.

    The runs that reach the least losses are left out, one more in every fold and up to five (half of the runs), and
    of theirs the rows below every fitted loss are predicted: what is asked of a form is that it extrapolates.

    Args:
        rows: the metric beside the loss.
        metric: what is known about it.
        forms: names of forms.
        weighting: see :func:`scaling.downstream.fitting.fit_metric`.
        bootstrap: resamples behind the intervals.
        level: level of the intervals.
        seed: seed of the resamples.

    Returns:
        Scores, best first; a form with more parameters than the rows can determine is left out.

    Raises:
        FitInputError: no form can be fitted; the message is that of the first.
    """
    rows, scores, refusals = rows.canonical(), list[FormScore](), list[FitInputError]()
    for form in dict.fromkeys(forms):
        try:
            fit = fit_metric(rows, metric, form, weighting=weighting, bootstrap=bootstrap, level=level, seed=seed)
        except FitInputError as refusal:
            refusals.append(refusal)
            continue
        errors, folds = held_out_errors(rows, metric, form, weighting=weighting)
        scores.append(
            FormScore(
                form=form,
                held_out=float(np.mean(np.abs(errors))) if len(errors) else float("nan"),
                signed=float(np.mean(errors)) if len(errors) else float("nan"),
                folds=folds,
                aicc=fit.aicc,
                fit=fit,
            )
        )
    if not scores:
        raise refusals[0]
    return _ranked(scores)


def _ranked(scores: Sequence[FormScore]) -> tuple[FormScore, ...]:
    least = min((score.held_out for score in scores if np.isfinite(score.held_out)), default=np.inf)

    def key(score: FormScore) -> tuple[float, float]:
        error = score.held_out if np.isfinite(score.held_out) else np.inf
        return (least if error <= _CLOSE * least else error, score.aicc)

    return tuple(sorted(scores, key=key))


def held_out_errors(
    rows: MetricRows, metric: Metric, form: str, *, weighting: Weighting = "equal", variable: Variable = "loss"
) -> tuple[FloatArray, int]:
    """Measured - predicted of runs beyond the fitted ones, over all folds, and the number of folds."""
    labels, codes = np.unique(rows.labels, return_inverse=True)
    best = np.full(len(labels), np.inf)
    np.minimum.at(best, codes, rows.loss)
    order, errors, folds = np.argsort(best, kind="stable"), list[FloatArray](), 0
    for out in range(1, min(_FOLDS, len(labels) // 2) + 1):
        left = np.isin(codes, order[:out])
        beyond = left & (rows.loss < rows.loss[~left].min())
        try:
            posed = pose(rows.take(~left), metric, form, variable=variable, weighting=weighting)
        except FitInputError:
            break
        if not beyond.any() or posed.posed.free >= posed.posed.x.size:
            continue
        natural = posed.posed.natural(posed.found.theta, posed.found.coefficients)
        fitted = metric.clip(posed.posed.value(natural.T[:, :, None], rows.loss[beyond])[0])
        errors.append(rows.value[beyond] - fitted)
        folds += 1
    return (np.concatenate(errors) if errors else np.empty(0)), folds


def examine(rows: MetricRows, score: FormScore) -> tuple[Notice, ...]:
    """What the data can and cannot say, in sentences.

    Args:
        rows: the rows of step 2.
        score: the form that was chosen.

    Returns:
        Notices with codes "few-runs", "wrong-direction", "non-monotone", "no-signal", "saturated", "at-limit".
    """
    fit, metric = score.fit, score.fit.metric
    notices: list[Notice] = []
    if fit.n_clusters < MIN_RUNS:
        notices.append(_few(fit))
    trend = _trend(rows, metric)
    if trend is not None:
        notices.append(trend)
    middle = _turn(rows, metric)
    if middle is not None:
        notices.append(middle)
    return (*notices, *_asymptotes(fit))


def _few(fit: MetricFit) -> Notice:
    return Notice(
        code="few-runs",
        message=f"{fit.metric.name} was measured on {fit.n_clusters} runs; with fewer than {MIN_RUNS} the curve and"
        " its interval are a guess, however many checkpoints they have.",
    )


def _goodness(rows: MetricRows, metric: Metric) -> float:
    """Rank correlation of -loss with better values: 1 where a lower loss always means a better value."""
    good = rows.value if metric.direction == "max" else -rows.value
    return float(np.nan_to_num(spearman(-rows.loss, good, np.ones((1, rows.n)))[0]))


def _trend(rows: MetricRows, metric: Metric) -> Notice | None:
    rho, name = _goodness(rows, metric), metric.name
    if rho < -0.3:
        return Notice(
            code="wrong-direction",
            message=f"{name} gets worse as the loss falls (rank correlation {rho:+.2f} with lower loss), against its"
            f" direction '{metric.direction}': every form is then flat. Check the direction, and that the losses are"
            " those of the same weights.",
        )
    if rho < 0.3:
        return Notice(
            code="no-signal",
            message=f"{name} hardly goes with the loss (rank correlation {rho:+.2f} with lower loss): predictions are"
            " about its mean.",
        )
    return None


def _turn(rows: MetricRows, metric: Metric) -> Notice | None:
    """Whether the better half of the losses goes against the worse half."""
    half = np.median(rows.loss)
    lower, upper = rows.take(rows.loss <= half), rows.take(rows.loss > half) if (rows.loss > half).any() else rows
    if min(lower.n, upper.n) < 4:
        return None
    a, b = _goodness(lower, metric), _goodness(upper, metric)
    if a < -0.5 and b > 0.5:
        return Notice(
            code="non-monotone",
            message=f"{metric.name} improves with falling loss down to about {half:.4g} and gets worse below it (rank"
            f" correlations {b:+.2f} and {a:+.2f}): no form here has a turn, so do not extrapolate it.",
        )
    return None


def _asymptotes(fit: MetricFit) -> tuple[Notice, ...]:
    notices: list[Notice] = []
    falls = fit.metric.direction == "max"
    if fit.form == "logistic":
        lo, hi = fit.natural[0], fit.natural[1]
        best = float(fit.predict(fit.observed[0]))
        left = (hi - best if falls else best - lo) / (hi - lo) if hi > lo else 0.0
        if left < _SATURATED:
            notices.append(
                Notice(
                    code="saturated",
                    message=f"At the least loss {fit.metric.name} is within {_SATURATED:.0%} of its fitted best value"
                    f" {hi if falls else lo:.4g}: more compute would not show in it. Use a harder metric.",
                )
            )
    if fit.at_limit:
        notices.append(
            Notice(
                code="at-limit",
                message=f"The {fit.form} form stands at the limit of its search: the data are a straight line, a step"
                " or far from its midpoint, and do not determine its parameters. State chance and ceiling, or compare"
                " with the linear form.",
            )
        )
    return tuple(notices)
