"""Whether the points bear the law: how many they are, how far apart, and whether of one kind."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scaling.bootstrap import MIN_DISTINCT
from scaling.diagnostics.examined import NAMES, Examined
from scaling.notices import Notice
from scaling.points import places

_COLLINEAR = 0.98
_FEW_CLUSTERS = 10
_IGNORED_SPREAD = 2.0  # x-fold variation of a quantity that the law leaves out


def few_places(fit: Examined) -> Iterator[Notice]:
    """Too few distinct values of an axis for the law's curve."""
    floor = fit.problem.law.floor is not None
    needs = "a floor, a coefficient and an exponent need" if floor else "a power law and a check of it need"
    for axis, row in zip(fit.problem.law.axes, fit.problem.x, strict=True):
        if axis not in fit.problem.law.exponents:
            continue
        count = len(np.unique(places(np.exp(row))))
        if count < MIN_DISTINCT:
            yield Notice(
                code=f"few-{axis}",
                message=f"Only {count} distinct {NAMES[axis]} value{'s' if count != 1 else ''}: {needs}"
                f" at least {MIN_DISTINCT}. Intervals understate the doubt.",
            )
        elif count == MIN_DISTINCT and axis == "params" and floor:
            yield Notice(
                code="no-spare-size",
                message=f"{count} distinct model sizes carry a curve with three unknowns and leave no size to"
                " check it with. A fourth size tests the prediction; treat it as the first check.",
            )


def no_repeats(fit: Examined) -> Iterator[Notice]:
    """Nothing tells the luck of a run from the curve."""
    if fit.draws.scheme == "wild" and fit.draws.noise is None:
        yield Notice(
            code="no-repeats",
            message="No model size was run twice, and with so few sizes the curve absorbs the luck of each of the"
            f" {fit.points.n_clusters} runs: intervals leave it out. With run-to-run noise of 0.5 % they held 1 in"
            " 10 new runs in simulation, not 8. Repeat a size, the cheapest will do, with another seed.",
        )


def ignored_axis(fit: Examined) -> Iterator[Notice]:
    """What the law leaves out varies among the points."""
    (axis, *others), params, data = fit.problem.law.axes, fit.points.params, fit.points.data
    if others:
        return
    ignored = {"params": ("data", data), "data": ("params", params), "steps": ("params", params)}
    if params is not None and data is not None:
        ignored["flops"] = ("data per parameter", data / params)
    name, values = ignored.get(axis, ("", None))
    if values is None:
        return
    spread = float(values.max() / values.min())
    if spread > _IGNORED_SPREAD:
        yield Notice(
            code="ignored-axis",
            message=f"This law knows {NAMES[axis]} only, and {name} varies {spread:.3g}-fold among the points:"
            " what that does to the loss counts as noise. Fit chinchilla, or filter to one line with --where.",
        )


def collinear(fit: Examined) -> Iterator[Notice]:
    """Params and data move together."""
    axes = fit.problem.law.axes
    if not {"params", "data"} <= set(axes):
        return
    rows = fit.problem.x[[axes.index("params"), axes.index("data")]]
    first, second = rows - rows.mean(axis=1, keepdims=True)
    correlation = float(first @ second / np.sqrt((first @ first) * (second @ second)))
    if abs(correlation) > _COLLINEAR:
        yield Notice(
            code="collinear",
            message=f"params and data move together (correlation of logs {correlation:.3f}): only the sum of"
            " their two terms is determined, not the split. Add runs with other data per parameter.",
        )


def few_rows(fit: Examined) -> Iterator[Notice]:
    """Too few points, or too few independent runs."""
    n, p = fit.points.n, len(fit.problem.law.parameters)
    if n < 2 * p:
        yield Notice(
            code="few-rows",
            message=f"{n} points for {p} parameters: residuals, and with them all intervals, are too small."
            f" Aim for at least {2 * p}.",
        )
    clusters = fit.points.n_clusters
    if clusters < _FEW_CLUSTERS and fit.draws.requested:
        yield Notice(
            code="few-clusters",
            message=f"Only {clusters} independent runs: intervals from so few are rough and usually too"
            f" narrow ({fit.result.resampling}).",
        )


def compute_range(fit: Examined) -> Iterator[Notice]:
    """The points lie close together in compute."""
    if fit.compute is None:
        return
    decades = float(np.log10(fit.compute.max() / fit.compute.min()))
    if decades < 1.0:
        yield Notice(
            code="narrow-compute",
            message=f"The points span {decades:.2f} decades of compute; under one decade a floor and an exponent"
            " trade off almost freely. Add cheaper or longer runs.",
        )


def convention(fit: Examined) -> Iterator[Notice]:
    """What params counts is not what compute was spent on."""
    params, data, flops = fit.points.params, fit.points.data, fit.points.flops
    if params is None or data is None or flops is None:
        return
    k = flops / (params * data)
    spread = float(k.max() / k.min() - 1.0)
    if spread > 0.05:
        yield Notice(
            code="flops-convention",
            message=f"Compute over params x data varies by {spread:.0%} among the points ({k.min():.3g} to"
            f" {k.max():.3g}); compute-optimal sizes use the median {np.median(k):.4g}. Small models spend a"
            " larger share outside what params counts.",
        )


def mixed(fit: Examined) -> Iterator[Notice]:
    """Final losses among intermediate ones."""
    counts = np.bincount(fit.points.cluster_codes)
    if fit.points.cluster is not None and counts.max() > 1 and counts.min() == 1:
        yield Notice(
            code="mixed-checkpoints",
            message=f"{int((counts > 1).sum())} runs give several points and {int((counts == 1).sum())} give one:"
            " intermediate losses under a decaying learning rate are not final losses. Keep one kind.",
        )
