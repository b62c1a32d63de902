"""What a fit says of a run that was asked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The loss that a new run should reach, with a prediction interval (not a confidence interval).

    Attributes:
        loss: predicted loss.
        interval: where a new run falls with the result's level, with room for the law being only about right.
        law_interval: the same if the law were exactly right; see docs/calibration.md.
        params: trainable parameters N; like every axis, None where the law did not need it and it was not given.
        data: samples or tokens D.
        flops: training FLOPs; None too where the points do not say how much a sample costs.
        steps: optimiser steps.
        unique: distinct samples or tokens among the data.
        mean_interval: where the curve itself is, in the result's kind of interval.
    """

    loss: float
    interval: tuple[float, float]
    law_interval: tuple[float, float] = (float("nan"), float("nan"))
    params: float | None = None
    data: float | None = None
    flops: float | None = None
    steps: float | None = None
    unique: float | None = None
    mean_interval: tuple[float, float] = (float("nan"), float("nan"))
