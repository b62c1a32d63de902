"""The one entry point: points in, a fitted law with intervals, predictions and warnings out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from scaling import diagnostics
from scaling.bootstrap import Draws, resample
from scaling.calibration import calibrate
from scaling.errors import FitInputError
from scaling.laws import Law, get_law
from scaling.points import AXES, FloatArray, Points
from scaling.problem import Optimum, Problem, pose, solve
from scaling.results import Estimate, FitResult, Prediction, Provenance, estimate

Target = Mapping[str, float] | tuple[float, float]

LOSSES = ("huber", "least-squares")

_SCHEMES = {
    "none": "no resampling",
    "clusters": "clusters drawn with replacement",
    "clusters-within-size": "clusters drawn within their model size, rescaled (Rao and Wu 1988)",
    "wild": "wild cluster bootstrap with six-point weights: sizes and data fixed, residuals resampled",
}


def fit(
    points: Points,
    law: str = "chinchilla",
    bootstrap: int = 1000,
    level: float = 0.8,
    seed: int = 0,
    loss: str = "huber",
    delta: float = 1e-3,
    predict: Sequence[Target] = (),
    flops_per: float | None = None,
    provenance: Provenance | None = None,
) -> FitResult:
    """Fit a scaling law to its true optimum and resample it.

    Args:
        points: measured losses; row order and units do not matter.
        law: name of the law, see ``scaling.laws.LAWS``.
        bootstrap: resamples of whole clusters; 0 leaves intervals out.
        level: level of all intervals, between 0 and 1.
        seed: seed of the resamples.
        loss: "huber" on log loss, or "least-squares" on log loss.
        delta: width of Huber's quadratic zone in log loss.
        predict: runs to predict: (params, data), or what the law needs by name, such as {"flops": 1e22}.
        flops_per: k in C = k N D where the points carry no flops, or only flops (6 for tokens).
        provenance: where the points came from; counts, seed and cluster are filled in.

    Returns:
        The fitted law.

    Raises:
        FitInputError: unknown law or loss, too few points, or values that cannot be fitted.
    """
    check_options(bootstrap, level)
    _check_objective(loss, delta)
    targets = [_target(run) for run in predict]
    chosen, points = get_law(law), points.canonical()
    flops_per = points.flops_per or flops_per
    problem = pose(chosen, points, np.inf if loss == "least-squares" else delta, flops_per)
    optimum = solve(problem)
    draws = resample(problem, points, optimum, count=bootstrap, seed=seed)
    result = _assemble(problem, points, optimum, draws, level, flops_per)
    kind = f"huber({delta:g}) on log loss, summed" if loss == "huber" else "half squared log loss, summed"
    result = replace(
        result,
        loss_kind=kind,
        provenance=_provenance(provenance, points, bootstrap, seed, flops_per),
    )
    if bootstrap:
        result = replace(result, calibration=calibrate(problem, points, optimum, seed=seed))
    result = replace(result, predictions=tuple(_prediction(result, run) for run in targets))
    return replace(result, warnings=diagnostics.examine(problem, points, optimum, draws, result))


def check_options(resamples: int, level: float) -> None:
    """Check what every analysis with intervals is given.

    Args:
        resamples: 0 leaves intervals out.
        level: level of the intervals.

    Raises:
        FitInputError: one of them is out of range.
    """
    if resamples < 0:
        raise FitInputError(f"bootstrap is {resamples}: give 0 (no intervals) or a positive number of resamples")
    if not 0.0 < level < 1.0:
        raise FitInputError(f"level is {level}: an interval's level lies between 0 and 1, for example 0.8")


def _check_objective(loss: str, delta: float) -> None:
    if loss not in LOSSES:
        raise FitInputError(f"no loss is called '{loss}': valid: {', '.join(LOSSES)}")
    if not delta > 0:
        raise FitInputError(f"delta is {delta}: Huber's zone must have a positive width, usually 1e-3")


def _target(run: Target) -> dict[str, float]:
    if not isinstance(run, Mapping) and len(run) != 2:
        raise FitInputError(f"cannot predict at {run}: give (params, data), or axes by name")
    named = dict(run) if isinstance(run, Mapping) else {"params": run[0], "data": run[1]}
    for name, number in named.items():
        if name not in AXES:
            raise FitInputError(f"cannot predict at {name}={number}: valid: {', '.join(AXES)}")
        if not (np.isfinite(number) and number > 0):
            raise FitInputError(f"cannot predict at {name}={number}: it must be positive and finite")
    return {name: float(number) for name, number in named.items()}


def _assemble(
    problem: Problem,
    points: Points,
    optimum: Optimum,
    draws: Draws,
    level: float,
    flops_per: float | None,
) -> FitResult:
    law = problem.law
    natural = law.to_natural(optimum.theta[None], problem.frame)
    resampled = law.to_natural(draws.theta, problem.frame)
    n, p = points.n, len(law.parameters)
    residuals = problem.y - law.log_loss(optimum.theta[None], problem.x)[0]
    inflation = np.sqrt(n / (n - p)) if n > p else 1.0
    noise = draws.noise
    if noise is not None:
        residuals = residuals - noise.offset
    return FitResult(
        law=law.name,
        formula=law.formula,
        status=_status(optimum),
        n_points=n,
        n_clusters=points.n_clusters,
        objective=optimum.objective,
        loss_kind="",
        level=level,
        parameters=_parameters(law, natural[0], resampled, level),
        compute_optimal=_exponents(law, natural, resampled, level),
        predictions=(),
        warnings=(),
        provenance=Provenance(),
        resampling=_SCHEMES[draws.scheme],
        observed=_observed(points, flops_per),
        draws=resampled,
        residuals=residuals * inflation,
        run_noise=noise.sigma if noise else 0.0,
        run_freedom=noise.freedom if noise else 0,
        starts_agreeing=optimum.agreeing,
    )


def _status(optimum: Optimum) -> str:
    if not optimum.converged:
        return "not-converged"
    return "bound-hit" if optimum.at_bound else "converged"


def _parameters(law: Law, natural: FloatArray, draws: FloatArray, level: float) -> dict[str, Estimate]:
    return {
        name: estimate(natural[i], draws[:, i], level, log=name in law.coefficients)
        for i, name in enumerate(law.parameters)
    }


def _exponents(law: Law, natural: FloatArray, draws: FloatArray, level: float) -> dict[str, Estimate]:
    resampled = law.compute_optimal(draws)
    return {
        name: estimate(float(value[0]), resampled[name], level) for name, value in law.compute_optimal(natural).items()
    }


def _observed(points: Points, flops_per: float | None) -> dict[str, tuple[float, float]]:
    columns = {name: points.axis(name, flops_per) for name in AXES}
    return {name: (float(values.min()), float(values.max())) for name, values in columns.items() if values is not None}


def _provenance(
    given: Provenance | None, points: Points, resamples: int, seed: int, flops_per: float | None
) -> Provenance:
    base = given or Provenance(n_rows=points.n, cluster="row" if points.cluster is None else "cluster")
    return replace(base, n_used=points.n, bootstrap=resamples, seed=seed, flops_per=flops_per)


def _prediction(result: FitResult, run: dict[str, float]) -> Prediction:
    low, high = result.predict_interval(**run, calibrated=True)
    law_low, law_high = result.predict_interval(**run, calibrated=False)
    k, flops = result.provenance.flops_per, run.get("flops")
    if flops is None and k is not None and "params" in run and "data" in run:
        flops = k * run["params"] * run["data"]
    return Prediction(
        **{**dict.fromkeys(AXES), **run, "flops": flops},
        loss=float(result.predict(**run)),
        interval=(float(low), float(high)),
        law_interval=(float(law_low), float(law_high)),
    )
