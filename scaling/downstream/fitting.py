"""Least squares of a metric on the loss (or on log compute), resampled by run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from scaling.downstream.forms import Posed, get_form
from scaling.downstream.rows import Metric, MetricRows
from scaling.errors import FitInputError
from scaling.estimates import Estimate, estimate, interval_bounds
from scaling.fitting import check_options
from scaling.jsontypes import finite_json
from scaling.points import FloatArray
from scaling.separable import Found, solve

Weighting = Literal["equal", "stderr", "binomial"]
Variable = Literal["loss", "flops"]
WEIGHTINGS: tuple[Weighting, ...] = ("equal", "stderr", "binomial")
_REWEIGHTINGS = 30


@dataclass(frozen=True, kw_only=True)
class MetricFit:
    """A form fitted to a metric.

    Attributes:
        form: name of the form.
        variable: "loss", or "flops" for a form in x = log C.
        metric: direction, chance, ceiling and range.
        weighting: "equal", "stderr" (1 / stderr^2) or "binomial".
        parameters: by name, with percentile intervals.
        free: how many of them were estimated rather than stated.
        n_rows: rows fitted.
        n_clusters: independent units among them.
        squares: weighted sum of squared residuals, weights of mean 1.
        residual_sd: weighted standard deviation of residuals, for the degrees of freedom; nan without any.
        aicc: Akaike's criterion for normal residuals, corrected for few rows; inf where rows do not suffice for it.
        at_limit: a parameter that is not linear stands at the limit of the search.
        level: level of the intervals.
        observed: least and greatest x; metric values are in ``values``.
        values: least and greatest measured value.
        draws: parameters of every resample, shape (b, p).
        residuals: value - fitted of every row, inflated by sqrt(n / (n - free)), shape (n,).
    """

    form: str
    variable: Variable
    metric: Metric
    weighting: Weighting
    parameters: dict[str, Estimate]
    free: int
    n_rows: int
    n_clusters: int
    squares: float
    residual_sd: float
    aicc: float
    at_limit: bool
    level: float
    observed: tuple[float, float]
    values: tuple[float, float]
    draws: FloatArray = field(repr=False, compare=False)
    residuals: FloatArray = field(repr=False, compare=False)

    @property
    def natural(self) -> FloatArray:
        """Parameters in the form's order, shape (p,)."""
        return np.array([each.value for each in self.parameters.values()])

    def predict(self, x: FloatArray | float) -> FloatArray:
        """The metric at a loss (at log C for ``variable`` "flops"), within the metric's range, of the shape of x."""
        return self.metric.clip(self.curve(self.natural[None], np.atleast_1d(x))[0].reshape(np.shape(x)))

    def curve(self, parameters: FloatArray, x: FloatArray) -> FloatArray:
        """The form for parameters (b, p) at x, shape (m,) or (b, m), not clipped; shape (b, m)."""
        return get_form(self.form).evaluate(parameters, np.asarray(x, dtype=np.float64))

    def to_json(self) -> dict[str, Any]:
        """The fit as JSON types, without draws and residuals; what is not finite becomes null."""
        plain = {name: value for name, value in asdict(self).items() if name not in ("draws", "residuals")}
        plain["formula"] = get_form(self.form).formula
        return finite_json(plain)


@dataclass(frozen=True, kw_only=True, eq=False)
class PosedRows:
    """Rows ready for resampling: the posed form, values and weights of mean 1, and the optimum of all rows."""

    posed: Posed
    y: FloatArray
    w: FloatArray
    found: Found

    @property
    def fitted(self) -> FloatArray:
        """Fitted values, shape (n,)."""
        return np.einsum("bk,bkn->bn", self.found.coefficients, self.posed.columns(self.found.theta))[0]

    def resampled(self, y: FloatArray, times: FloatArray) -> FloatArray:
        """Parameters for values y, (n,) or (b, n), with every row counted ``times``, (b, n); shape (b, p)."""
        if not len(times):
            return np.empty((0, self.posed.natural(self.found.theta, self.found.coefficients).shape[1]))
        found = solve(self.posed, y, times * self.w)
        return self.posed.natural(found.theta, found.coefficients)


def fit_metric(
    rows: MetricRows,
    metric: Metric,
    form: str = "exponential",
    *,
    variable: Variable = "loss",
    weighting: Weighting = "equal",
    bootstrap: int = 1000,
    level: float = 0.8,
    seed: int = 0,
) -> MetricFit:
    """Fit one form to a metric.

    Args:
        rows: the metric beside the loss.
        metric: what is known about it.
        form: linear, logistic or exponential; see :mod:`scaling.downstream.forms`.
        variable: "loss", or "flops" to fit the metric directly on log C.
        weighting: how rows count: all alike, by their stderr, or by the binomial variance at the fitted value.
        bootstrap: resamples of whole clusters; 0 leaves intervals out.
        level: level of the intervals.
        seed: seed of the resamples.

    Returns:
        The fit.

    Raises:
        FitInputError: an unknown form or weighting, too few rows or values of x, or what the weighting needs is absent.
    """
    check_options(bootstrap, level)
    rows = rows.canonical()
    posed = pose(rows, metric, form, variable=variable, weighting=weighting)
    codes = np.unique(rows.labels, return_inverse=True)[1]
    draws = posed.resampled(posed.y, draw_clusters(int(codes.max()) + 1, bootstrap, seed)[:, codes])
    return assemble(posed, rows, draws, form, variable=variable, weighting=weighting, level=level)


def draw_clusters(count: int, resamples: int, seed: int) -> FloatArray:
    """How often every cluster is drawn, shape (resamples, count); with a single one, once."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(count, np.full(count, 1.0 / count), size=resamples).astype(np.float64)


def pose(rows: MetricRows, metric: Metric, form: str, *, variable: Variable, weighting: Weighting) -> PosedRows:
    """Check the rows against the form, weigh them and find the optimum.

    Raises:
        FitInputError: see :func:`fit_metric`.
    """
    x = rows.loss if variable == "loss" else _log_flops(rows)
    improves_down = variable == "loss"
    posed = get_form(form).pose(x, metric, rising=(metric.direction == "min") == improves_down)
    different = len(np.unique(x))
    if rows.n < posed.free or different < min(posed.free, 3):
        raise FitInputError(
            f"{rows.n} row{'s' * (rows.n != 1)} at {different} different {variable} values cannot determine the"
            f" {posed.free} parameters of the {form} form of {metric.name}: give more runs, or state chance and ceiling"
        )
    w = _weights(rows, metric, weighting)
    found = solve(posed, rows.value, w[None])
    if weighting == "binomial":
        w, found = _reweighted(posed, rows, w, found)
    return PosedRows(posed=posed, y=rows.value, w=w, found=found)


def _log_flops(rows: MetricRows) -> FloatArray:
    if rows.flops is None:
        raise FitInputError("the direct fit on compute needs flops beside the metric")
    return np.log(rows.flops)


def _weights(rows: MetricRows, metric: Metric, weighting: str) -> FloatArray:
    if weighting not in WEIGHTINGS:
        raise FitInputError(f"no weighting is called '{weighting}': valid: {', '.join(WEIGHTINGS)}")
    if weighting == "equal":
        return np.ones(rows.n)
    if weighting == "stderr":
        if rows.stderr is None or not (rows.stderr > 0).all():
            why = "there is none" if rows.stderr is None else f"the least is {rows.stderr.min():g}"
            raise FitInputError(
                f"weighting by stderr needs a positive stderr of {metric.name} in every row, and {why}:"
                " where the value is a share of n trials, weigh binomially"
            )
        w = 1.0 / rows.stderr**2
    else:
        if rows.trials is None or not (rows.trials > 0).all():
            raise FitInputError(f"binomial weighting needs the number of trials n of {metric.name} in every row")
        if not ((rows.value >= 0) & (rows.value <= 1)).all():
            raise FitInputError(f"binomial weighting needs shares between 0 and 1, and {metric.name} has others")
        w = rows.trials
    return w / w.mean()


def _reweighted(posed: Posed, rows: MetricRows, w: FloatArray, found: Found) -> tuple[FloatArray, Found]:
    """Weights n / (p (1 - p)) at the fitted p, until they stay: then the binomial score equations hold."""
    assert rows.trials is not None
    nearest = 0.5 / rows.trials  # a fitted 0 or 1 would weigh without limit
    for _ in range(_REWEIGHTINGS):
        share = np.einsum("bk,bkn->bn", found.coefficients, posed.columns(found.theta))[0]
        share = np.clip(share, nearest, 1.0 - nearest)
        updated = rows.trials / (share * (1.0 - share))
        updated /= updated.mean()
        settled = np.allclose(updated, w, rtol=1e-10)
        w, found = updated, solve(posed, rows.value, updated[None])
        if settled:
            break
    return w, found


def assemble(
    posed: PosedRows,
    rows: MetricRows,
    draws: FloatArray,
    form: str,
    *,
    variable: Variable,
    weighting: Weighting,
    level: float,
) -> MetricFit:
    """The fit as people read it, from the optimum and the parameters of the resamples, shape (b, p)."""
    natural = posed.posed.natural(posed.found.theta, posed.found.coefficients)[0]
    residual = posed.y - posed.fitted
    n, free = rows.n, posed.posed.free
    squares = float(posed.w @ residual**2)
    names = get_form(form).parameters
    return MetricFit(
        form=form,
        variable=variable,
        metric=posed.posed.metric,
        weighting=weighting,
        parameters={name: estimate(natural[i], draws[:, i], level) for i, name in enumerate(names)},
        free=free,
        n_rows=n,
        n_clusters=len(np.unique(rows.labels)),
        squares=squares,
        residual_sd=float(np.sqrt(squares / (n - free))) if n > free else float("nan"),
        aicc=_aicc(squares, posed.w, n, free),
        at_limit=bool(posed.found.at_limit[0]),
        level=level,
        observed=(float(posed.posed.x.min()), float(posed.posed.x.max())),
        values=(float(rows.value.min()), float(rows.value.max())),
        draws=draws,
        residuals=residual * (np.sqrt(n / (n - free)) if n > free else 1.0),
    )


def _aicc(squares: float, w: FloatArray, n: int, free: int) -> float:
    k = free + 1  # the residual variance is estimated too
    if n - k - 1 <= 0:
        return float("inf")
    squares = max(squares, 1e-300)
    return n * float(np.log(squares / n)) - float(np.log(w).sum()) + 2 * k + 2 * k * (k + 1) / (n - k - 1)


def interval(draws: FloatArray, level: float) -> tuple[FloatArray, FloatArray]:
    """Percentile interval over the first axis of draws (b, m); nan without draws."""
    if not len(draws):
        unknown = np.full(len(draws.T), np.nan)
        return unknown, unknown
    low, high = np.quantile(draws, interval_bounds(level), axis=0)
    return low, high
