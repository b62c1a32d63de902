"""Ranking variants by several metrics over several settings: non-dominated sorting, ranks averaged.

The procedure by which Esser et al. 2024 (arXiv 2403.03206, Stable Diffusion 3, Table 1) compare 61 formulations by
CLIP score and FID: within one setting (sampler, weights, dataset), a variant dominates another where it is no worse in
every metric and better in one. Variants that nothing dominates are front 1; without them, those that nothing dominates
are front 2; and so on (Deb et al. 2002, NSGA-II). A variant's score is the mean of its front numbers over settings:
no metric is traded against another, and no scale or monotone transform of a metric matters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from scaling.errors import FitInputError
from scaling.estimates import interval_bounds
from scaling.fitting import check_options
from scaling.points import FloatArray

IntArray = npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A variant among the others.

    Attributes:
        variant: its name.
        rank: mean front over the settings in which it was measured; 1 is best.
        interval: of that mean over resampled settings; nan with one setting or without resamples.
        first: in how many settings it is on front 1.
        settings: in how many it was measured.
        fronts: front by setting.
    """

    variant: str
    rank: float
    interval: tuple[float, float]
    first: int
    settings: int
    fronts: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Variants, best first.

    Attributes:
        standings: by mean rank, ties by name.
        settings: names of the settings, sorted.
        directions: metric to "max" or "min".
        dropped: (variant, setting, metric) that had no value: the variant has no rank in that setting.
        resamples: resamples of settings behind the intervals.
        level: level of the intervals.
    """

    standings: tuple[Standing, ...]
    settings: tuple[str, ...]
    directions: dict[str, str]
    dropped: tuple[tuple[str, str, str], ...]
    resamples: int
    level: float

    @property
    def incomplete(self) -> tuple[str, ...]:
        """Variants that lack a setting: their mean is over other settings than that of the others."""
        return tuple(each.variant for each in self.standings if each.settings < len(self.settings))


def fronts(values: FloatArray) -> IntArray:
    """Front of every row, shape (n,), 1 and up, by non-dominated sorting.

    Args:
        values: shape (n, metrics), lower is better in every column. Equal rows do not dominate each other and share a
            front.

    Raises:
        FitInputError: the array is not two-dimensional or a value is not a number.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2:
        raise FitInputError(f"values must have a row a variant and a column a metric, got shape {values.shape}")
    if np.isnan(values).any():
        raise FitInputError("a value to rank is not a number; leave the variant out of the setting")
    no_worse = np.all(values[:, None, :] <= values[None, :, :], axis=2)
    dominates: npt.NDArray[np.bool_] = no_worse & ~no_worse.T
    result = np.zeros(len(values), dtype=np.intp)
    beaten_by: IntArray = np.count_nonzero(dominates, axis=0)
    front = 0
    while len(now := np.flatnonzero((result == 0) & (beaten_by == 0))):
        front += 1
        result[now] = front
        beaten_by = beaten_by - np.count_nonzero(dominates[now], axis=0)
    return result


def rank(
    variant: Sequence[str],
    setting: Sequence[str],
    metrics: Mapping[str, npt.ArrayLike],
    directions: Mapping[str, Literal["max", "min"]],
    *,
    resamples: int = 2000,
    level: float = 0.8,
    seed: int = 0,
) -> Ranking:
    """Rank variants.

    Args:
        variant: variant of every row, length n.
        setting: setting of every row, length n.
        metrics: a column a metric, each of shape (n,); nan where a variant was not measured.
        directions: "max" or "min" of every metric.
        resamples: resamples of whole settings behind the intervals; 0 leaves them out.
        level: level of the intervals.
        seed: seed of the resamples.

    Returns:
        The ranking.

    Raises:
        FitInputError: columns of different lengths, a direction that is neither, a variant twice in a setting, or
            nothing to rank.
    """
    check_options(resamples, level)
    columns = _oriented(len(variant), metrics, directions)
    if len(setting) != len(variant):
        raise FitInputError(f"{len(variant)} variants and {len(setting)} settings: a row needs one of each")
    names, settings = sorted(set(variant)), sorted(set(setting))
    row_of, col_of = {name: i for i, name in enumerate(names)}, {name: i for i, name in enumerate(settings)}
    cube = np.full((len(names), len(settings), columns.shape[1]), np.nan)
    seen: set[tuple[str, str]] = set()
    for name, place, values in zip(variant, setting, columns, strict=True):
        if (name, place) in seen:
            raise FitInputError(f"variant '{name}' is in setting '{place}' twice: one row of each is ranked")
        seen.add((name, place))
        cube[row_of[name], col_of[place]] = values
    missing = np.isnan(cube)
    dropped = tuple(
        (v, s, m)
        for v, s in sorted(seen)
        for m, absent in zip(metrics, missing[row_of[v], col_of[s]], strict=True)
        if absent
    )
    table = np.full(cube.shape[:2], np.nan)
    for place in range(len(settings)):
        there = ~missing[:, place].any(axis=1)
        table[there, place] = fronts(cube[there, place])
    measured = ~np.isnan(table).all(axis=1)
    if not measured.any():
        raise FitInputError("no variant has all metrics in any setting: there is nothing to rank")
    lows, highs = _intervals(table, resamples, level, seed)
    standings = [_standing(names[i], settings, table[i], (lows[i], highs[i])) for i in np.flatnonzero(measured)]
    return Ranking(
        standings=tuple(sorted(standings, key=lambda each: (each.rank, each.variant))),
        settings=tuple(settings),
        directions=dict(directions),
        dropped=dropped,
        resamples=resamples,
        level=level,
    )


def _oriented(n: int, metrics: Mapping[str, npt.ArrayLike], directions: Mapping[str, str]) -> FloatArray:
    """Columns with lower better, shape (n, metrics)."""
    if not metrics:
        raise FitInputError("no metric to rank by: give at least one, for example fid:min")
    columns: list[FloatArray] = []
    for name, values in metrics.items():
        direction = directions.get(name)
        if direction not in ("max", "min"):
            raise FitInputError(f"direction of {name} is {direction!r}: valid: max, min")
        column = np.asarray(values, dtype=np.float64)
        if column.shape != (n,):
            raise FitInputError(f"{name} has shape {column.shape} and there are {n} rows; they must match")
        columns.append(-column if direction == "max" else column)
    return np.stack(columns, axis=1)


def _standing(name: str, settings: Sequence[str], ranks: FloatArray, interval: tuple[float, float]) -> Standing:
    measured = {place: int(front) for place, front in zip(settings, ranks, strict=True) if not np.isnan(front)}
    return Standing(
        variant=name,
        rank=float(np.mean(list(measured.values()))),
        interval=(float(interval[0]), float(interval[1])),
        first=sum(front == 1 for front in measured.values()),
        settings=len(measured),
        fronts=measured,
    )


def _intervals(table: FloatArray, resamples: int, level: float, seed: int) -> tuple[FloatArray, FloatArray]:
    """Percentile interval of every mean rank over resampled settings, each of shape (variants,)."""
    n, settings = len(table), len(table.T)
    if settings < 2 or not resamples:
        return np.full(n, np.nan), np.full(n, np.nan)
    times = np.random.default_rng(seed).multinomial(settings, np.full(settings, 1.0 / settings), size=resamples)
    there = ~np.isnan(table)
    count = times @ there.T
    with np.errstate(invalid="ignore", divide="ignore"):
        means = (times @ np.nan_to_num(table).T) / count
    bounds = np.full((2, n), np.nan)
    for variant in range(n):
        drawn = means[count[:, variant] > 0, variant]
        if len(drawn):
            bounds[:, variant] = np.quantile(drawn, interval_bounds(level))
    return bounds[0], bounds[1]
