"""The chain from model size and data to a metric: a law of the loss, then a form of the metric in the loss.

Both steps have errors, and they compound; so the chain is resampled as one. Every resample draws runs once, and both
steps are fitted on the runs that were drawn: a run that was lucky in its loss is lucky in both. To a resample's
predicted loss and metric are added a residual of either step, of one and the same run where it is in both. Llama 3
(arXiv 2407.21783) and the task ladders of Bhagia et al. 2024 (arXiv 2412.04403) predict in two such steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from scaling import losses
from scaling.downstream.fitting import (
    MetricFit,
    PosedRows,
    Variable,
    Weighting,
    assemble,
    interval,
    pose,
)
from scaling.downstream.joint import Luck, draw_chain, draw_luck, labels_of
from scaling.downstream.rows import Metric, MetricRows
from scaling.errors import FitInputError
from scaling.estimates import estimate
from scaling.fitting import check_options, fit
from scaling.jsontypes import finite_json
from scaling.known_noise import weigh
from scaling.laws import get_law
from scaling.notices import Notice
from scaling.points import FloatArray, Points
from scaling.problem import pose as pose_law
from scaling.provenance import Provenance
from scaling.results import FitResult


@dataclass(frozen=True, kw_only=True)
class Target:
    """A run to predict: its size and data, or its compute alone.

    Attributes:
        params: trainable parameters N.
        data: samples or tokens D.
        flops: training FLOPs; with it alone, the compute-optimal run of a law with a trade-off.
    """

    params: float | None = None
    data: float | None = None
    flops: float | None = None


@dataclass(frozen=True, kw_only=True)
class ChainPrediction:
    """What a run should score.

    Attributes:
        target: the run; what follows from the law or from C = k N D is filled in.
        loss: predicted loss.
        loss_interval: where the loss of a new run falls.
        value: predicted metric.
        interval: where the metric of a new run falls: both steps, their parameters and their residuals.
        parameters_interval: the part of it that is uncertainty of parameters.
        direct: the metric by the one-step fit on compute; nan without compute.
        direct_interval: its prediction interval.
    """

    target: Target
    loss: float
    loss_interval: tuple[float, float]
    value: float
    interval: tuple[float, float]
    parameters_interval: tuple[float, float]
    direct: float
    direct_interval: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Both steps and what they predict.

    Attributes:
        first: the law of the loss; its draws are those of the chain.
        second: the metric in the loss, on the same draws.
        direct: the metric on log C in the same form, on the same draws; None where runs have no compute.
        shared: independent units that are in both steps.
        resampling: how the draws were made, in words.
        predictions: for the runs that were asked for.
        notices: what a reader has to know.
    """

    first: FitResult
    second: MetricFit
    direct: MetricFit | None
    shared: int
    resampling: str
    predictions: tuple[ChainPrediction, ...]
    notices: tuple[Notice, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """The chain as JSON types; what is not finite becomes null."""
        law = {
            "law": self.first.law,
            "formula": self.first.formula,
            "status": self.first.status,
            "n_points": self.first.n_points,
            "n_clusters": self.first.n_clusters,
            "parameters": {name: asdict(each) for name, each in self.first.parameters.items()},
            "warnings": [asdict(each) for each in self.first.warnings],
        }
        plain = {
            "first": law,
            "second": self.second.to_json(),
            "direct": None if self.direct is None else self.direct.to_json(),
            "shared": self.shared,
            "resampling": self.resampling,
            "predictions": [asdict(each) for each in self.predictions],
            "notices": [asdict(each) for each in self.notices],
        }
        return finite_json(plain)


def chain(
    points: Points,
    rows: MetricRows,
    metric: Metric,
    targets: Sequence[Target],
    *,
    law: str = "chinchilla",
    form: str = "exponential",
    weighting: Weighting = "equal",
    bootstrap: int = 1000,
    level: float = 0.8,
    seed: int = 0,
    loss: str = "huber",
    delta: float = 1e-3,
    flops_per: float | None = None,
    provenance: Provenance | None = None,
) -> Chain:
    """Fit both steps and predict runs through them.

    Args:
        points: measured losses for the law. They should be final losses: checkpoints before the end of a decaying
            schedule are not.
        rows: the metric beside the loss; checkpoints may be among them. Labels of runs that are in ``points`` too
            must be the same.
        metric: what is known about the metric.
        targets: runs to predict.
        law: law of the loss.
        form: form of the metric in the loss.
        weighting: how rows of the second step count.
        bootstrap: resamples of the chain.
        level: level of the intervals.
        seed: seed of the resamples.
        loss: objective of the first step, see ``scaling.losses``.
        delta: width of Huber's zone.
        flops_per: k in C = k N D where the points carry no flops.
        provenance: where the points came from.

    Returns:
        Both fits and the predictions.

    Raises:
        FitInputError: either step cannot be fitted, or a target lacks what the law needs.
    """
    check_options(bootstrap, level)
    points, rows = points.canonical(), rows.canonical()
    first = fit(
        points,
        law,
        bootstrap=0,
        level=level,
        seed=seed,
        loss=loss,
        delta=delta,
        flops_per=flops_per,
        provenance=provenance,
    )
    objective = losses.make(loss, delta, 1.0)
    problem = weigh(pose_law(get_law(law), points, objective, first.provenance.flops_per), points)
    second = pose(rows, metric, form, variable="loss", weighting=weighting)
    direct = _pose_direct(rows, metric, form, weighting)
    labels = labels_of(points)
    draws = draw_chain(first, problem, labels, second, direct, rows, bootstrap, seed)
    first = _with_draws(first, draws.law, level)

    def assembled(posed: PosedRows, drawn: FloatArray, variable: Variable) -> MetricFit:
        return assemble(posed, rows, drawn, form, variable=variable, weighting=weighting, level=level)

    metric_fit = assembled(second, draws.metric, "loss")
    direct_fit = None if direct is None else assembled(direct, draws.direct, "flops")
    luck = draw_luck(first, labels, metric_fit, rows, bootstrap, seed)
    predictions = tuple(_predict(first, metric_fit, direct_fit, target, luck, level) for target in targets)
    return Chain(
        first=first,
        second=metric_fit,
        direct=direct_fit,
        shared=len(np.intersect1d(labels, rows.labels)),
        resampling=draws.how,
        predictions=predictions,
        notices=_notices(points, rows, metric_fit, predictions),
    )


def _pose_direct(rows: MetricRows, metric: Metric, form: str, weighting: Weighting) -> PosedRows | None:
    if rows.flops is None:
        return None
    return pose(rows, metric, form, variable="flops", weighting=weighting)


def _with_draws(first: FitResult, draws: FloatArray, level: float) -> FitResult:
    law = get_law(first.law)
    parameters = {
        name: estimate(each.value, draws[:, i], level, log=name in law.coefficients)
        for i, (name, each) in enumerate(first.parameters.items())
    }
    return replace(first, draws=draws, parameters=parameters)


def _predict(
    first: FitResult, second: MetricFit, direct: MetricFit | None, target: Target, luck: Luck, level: float
) -> ChainPrediction:
    loss, drawn, target = _losses(first, target)
    with_luck = drawn * np.exp(luck.log_loss)
    clip = second.metric.clip
    parameters = clip(second.curve(second.draws, drawn))
    value = clip(second.curve(second.draws, with_luck) + luck.row[:, None])
    bounds = [_pair(each, level) for each in (with_luck, value, parameters)]
    one_step, one_step_interval = float("nan"), (float("nan"), float("nan"))
    if direct is not None and target.flops is not None:
        x = np.array([np.log(target.flops)])
        one_step = float(direct.predict(x)[0])
        residuals = np.random.default_rng([len(direct.draws), 1]).choice(direct.residuals, size=(len(direct.draws), 1))
        one_step_interval = _pair(clip(direct.curve(direct.draws, x) + residuals), level)
    return ChainPrediction(
        target=target,
        loss=loss,
        loss_interval=bounds[0],
        value=float(second.predict(loss)),
        interval=bounds[1],
        parameters_interval=bounds[2],
        direct=one_step,
        direct_interval=one_step_interval,
    )


def _pair(draws: FloatArray, level: float) -> tuple[float, float]:
    low, high = interval(draws, level)
    return float(low[0]), float(high[0])


def _losses(first: FitResult, target: Target) -> tuple[float, FloatArray, Target]:
    """Predicted loss, that of every draw (b, 1), and the target with what follows from it."""
    law, k = get_law(first.law), first.provenance.flops_per
    if target.params is None and target.data is None and target.flops is not None and len(law.axes) > 1:
        if k is None:
            raise FitInputError("compute alone can be predicted from only where the points have a flops column")
        budget = np.array([target.flops])
        best, drawn = law.frontier(first.values[None], budget, k), law.frontier(first.draws, budget, k)
        if best is None or drawn is None:
            raise FitInputError(f"law '{law.name}' has no compute-optimal run: give params and data of the target")
        target = replace(target, params=float(best[0][0, 0]), data=float(best[1][0, 0]))
        return float(best[2][0, 0]), drawn[2], target
    target = _filled(target, k)
    given = {"params": target.params, "data": target.data, "flops": target.flops}
    missing = [axis for axis in law.axes if given.get(axis) is None]
    if missing:
        raise FitInputError(f"law '{law.name}' predicts from {' and '.join(law.axes)}: the target lacks {missing[0]}")
    x = np.log([[float(given[axis] or 1.0)] for axis in law.axes])
    return float(law.predict(first.values[None], x)[0, 0]), law.predict(first.draws, x), target


def _filled(target: Target, k: float | None) -> Target:
    """The third of params, data and flops from the other two, by C = k N D."""
    n, d, c = target.params, target.data, target.flops
    if k is None:
        return target
    if c is None and n is not None and d is not None:
        return replace(target, flops=k * n * d)
    if d is None and c is not None and n is not None:
        return replace(target, data=c / (k * n))
    if n is None and c is not None and d is not None:
        return replace(target, params=c / (k * d))
    return target


def _notices(
    points: Points, rows: MetricRows, second: MetricFit, predictions: Sequence[ChainPrediction]
) -> tuple[Notice, ...]:
    notices: list[Notice] = []
    if points.n_clusters < points.n:
        notices.append(
            Notice(
                code="checkpoints",
                message=f"The law of the loss was fitted on {points.n} checkpoints of {points.n_clusters} runs. That is"
                " right at a constant learning rate; before the end of a decay a checkpoint's loss is not the one a"
                " run of that length would have, so keep final losses only (--where).",
            )
        )
    if not np.isin(rows.labels, labels_of(points)).any():
        notices.append(
            Notice(
                code="different-runs",
                message="No run is in both steps: they are resampled apart, and whatever makes the loss of the one"
                " kind of run mean another score than the loss of the other is not in the interval.",
            )
        )
    low, high = second.observed
    beyond = [each for each in predictions if each.loss < low]
    if beyond:
        worst = min(each.loss for each in beyond)
        notices.append(
            Notice(
                code="extrapolation",
                message=f"{second.metric.name} is predicted at a loss of {worst:.4g}, below all that were measured with"
                f" it ({low:.4g} to {high:.4g}): how the curve goes on there is the choice of form, not data.",
            )
        )
    return tuple(notices)
