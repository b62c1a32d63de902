"""Validation loss beside a metric of the same checkpoints: what a correlation of the two is made on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prx_scale.errors import InputError, nearest

if TYPE_CHECKING:
    import polars as pl

    from prx_scale.runs.rows import Weights

MIN_CHECKPOINTS = 3
_KEYS = ("study", "run", "step", "weights")
_COLUMNS = (
    *("study", "run", "variant", "depth", "seed", "params", "step", "samples", "flops", "weights"),
    *("loss", "value", "stderr", "n"),
)
_SETTING = ("sampler", "steps", "guidance", "source")


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """Checkpoints that have both a validation loss and the metric.

    Attributes:
        metric: the metric.
        frame: columns study, run, variant, depth, seed, params, step, samples, flops, weights, loss, value, stderr, n;
            a row a checkpoint.
        notices: what was left out or mixed, in sentences.
    """

    metric: str
    frame: pl.DataFrame
    notices: tuple[str, ...]


def load(paths: Sequence[str | Path], metrics: Sequence[str], weights: Weights = "ema") -> list[Checkpoints]:
    """Join validation and evaluation of studies on run, step and weights.

    Validation is on the held-out split; failed runs are left out. Where a checkpoint was scored more than once,
    the last score counts.

    Args:
        paths: study folders or run folders.
        metrics: metrics as the run record names them, such as geneval/overall.
        weights: which weights were validated and scored, raw or ema.

    Returns:
        The checkpoints of every metric, in the order of ``metrics``.

    Raises:
        InputError: no such study, nothing was evaluated, an unknown metric, or fewer than three checkpoints.
    """
    import polars as pl

    from prx_scale import runs

    names = ", ".join(str(path) for path in paths)
    usable = (pl.col("state") != "failed") & (pl.col("weights") == weights)
    everything = runs.load(list(paths), "evaluation")
    scores = everything.filter(usable)
    losses = runs.load(list(paths), "validation").filter(usable & (pl.col("split") == "heldout"))
    losses = losses.select(*_KEYS, "samples", "flops", "loss").unique(list(_KEYS), keep="last")
    if scores.is_empty():
        reason = "no checkpoint was scored yet; run prx-scale evaluate"
        if not everything.is_empty():
            reason = f"no checkpoint of a run that did not fail was scored with {weights} weights"
        raise InputError(f"{names}: {reason}")
    found: list[Checkpoints] = []
    for metric in metrics:
        of_metric = scores.filter(pl.col("metric") == metric)
        if of_metric.is_empty():
            raise InputError(f"{names}: no metric '{metric}'; {nearest(metric, scores['metric'].unique().to_list())}")
        found.append(_join(of_metric, losses, metric, names, weights))
    return found


def _join(scores: pl.DataFrame, losses: pl.DataFrame, metric: str, names: str, weights: Weights) -> Checkpoints:
    keys = list(_KEYS)
    latest = scores.unique(keys, keep="last", maintain_order=True)
    frame = latest.join(losses, on=keys, how="inner").sort("depth", "study", "run", "step")
    notices: list[str] = []
    if len(latest) > len(frame):
        count = len(latest) - len(frame)
        notices.append(f"{metric}: {count} scored checkpoints have no validation loss at their step and are left out.")
    settings = latest.select(_SETTING).unique()
    if len(settings) > 1:
        differ = [name for name in _SETTING if settings[name].n_unique() > 1]
        notices.append(f"{metric}: scores of different {' and '.join(differ)} are mixed; compare them with care.")
    if len(frame) < MIN_CHECKPOINTS:
        raise InputError(
            f"{names}: {len(frame)} checkpoints have both a validation loss and {metric} with {weights} weights;"
            f" a correlation needs at least {MIN_CHECKPOINTS}"
        )
    return Checkpoints(metric=metric, frame=frame.select(_COLUMNS), notices=tuple(notices))
