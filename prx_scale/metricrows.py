"""A metric beside the losses it is predicted from, out of a study's run record or out of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prx_scale import lossmetric, sources
from prx_scale.errors import InputError, nearest
from prx_scale.rowfilter import keep_all, parse_condition

if TYPE_CHECKING:
    import polars as pl

    from prx_scale.runs.rows import Weights
    from prx_scale.sources import Loaded
    from scaling.downstream import Metric, MetricRows
    from scaling.points import FloatArray

# (how a name starts, direction, least value, greatest value) of metrics that are known.
_KNOWN: tuple[tuple[str, str, float | None, float | None], ...] = (
    ("geneval", "max", 0.0, 1.0),
    ("compbench", "max", 0.0, 1.0),
    ("fid", "min", 0.0, None),
    ("cmmd", "min", 0.0, None),
    ("dino_mmd", "min", 0.0, None),
    ("clip", "max", None, None),
    ("err", "min", 0.0, None),
    ("acc", "max", 0.0, None),
)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A checkpoint of a held-out run, with what it scored.

    Attributes:
        run: the run.
        params: N.
        data: samples seen.
        flops: training FLOPs.
        loss: its validation loss.
        value: the metric.
    """

    run: str
    params: float
    data: float
    flops: float
    loss: float
    value: float


@dataclass(frozen=True, kw_only=True)
class Source:
    """Both steps' rows.

    Attributes:
        points: points of the law of the loss, with where they came from.
        rows: the metric beside the loss.
        metric: its name, direction and range.
        held_out: the last scored checkpoint of every held-out run of a study; in neither step.
        notices: what was assumed or left out, in sentences.
    """

    points: Loaded
    rows: MetricRows
    metric: Metric
    held_out: tuple[Measured, ...]
    notices: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class MetricOptions:
    """What the user says about the metric; None is left to what is known or measured."""

    name: str
    direction: str | None = None
    chance: float | None = None
    ceiling: float | None = None


def load(
    source: str | Path,
    wanted: MetricOptions,
    *,
    columns: Mapping[str, str] | None = None,
    where: Sequence[str] = (),
    law_where: Sequence[str] = (),
    cluster: str | None = None,
    weights: Weights = "ema",
) -> Source:
    """Read both steps' rows from a study folder or a table.

    Args:
        source: a study folder, or a CSV, Parquet or JSON-lines file with a loss and a column of the metric.
        wanted: the metric.
        columns: as for :func:`prx_scale.sources.load`.
        where: conditions on the rows of both steps (of a study: on validation rows, for the law only).
        law_where: further conditions on the rows of the law of the loss.
        cluster: column whose rows are resampled together, or "row".
        weights: which weights of a study were validated and scored.

    Raises:
        InputError: a source, column, value or condition that cannot be used.
    """
    path = Path(source)
    points = sources.load([path], columns, [*where, *law_where], cluster)
    if path.is_dir():
        return _from_study(path, wanted, points, weights)
    return _from_table(path, wanted, points, columns, where, cluster)


def _from_study(path: Path, wanted: MetricOptions, points: Loaded, weights: Weights) -> Source:
    import polars as pl

    from scaling.downstream import MetricRows

    (found,) = lossmetric.load([path], [wanted.name], weights)
    held_out = pl.col("variant").is_in(list(points.fit.holdout) if points.fit else [])
    frame, held = found.frame.filter(~held_out), found.frame.filter(held_out)
    if frame.is_empty():
        raise InputError(f"{path}: only held-out runs were scored on {wanted.name}; score those that are fitted")
    rows = MetricRows(
        loss=frame["loss"].to_numpy(),
        value=frame["value"].to_numpy(),
        cluster=frame["run"].to_numpy(),
        flops=frame["flops"].to_numpy(),
        stderr=frame["stderr"].to_numpy(),
        trials=frame["n"].to_numpy(),
    )
    metric, assumed = _metric(wanted, rows)
    last = held.sort("step").unique("run", keep="last").sort("params", "run")
    return Source(
        points=points,
        rows=rows,
        metric=metric,
        held_out=tuple(_measured(row) for row in last.iter_rows(named=True)),
        notices=(*found.notices, *assumed),
    )


def _measured(row: Mapping[str, Any]) -> Measured:
    return Measured(
        run=row["run"],
        params=float(row["params"]),
        data=float(row["samples"]),
        flops=float(row["flops"]),
        loss=float(row["loss"]),
        value=float(row["value"]),
    )


def _from_table(
    path: Path,
    wanted: MetricOptions,
    points: Loaded,
    columns: Mapping[str, str] | None,
    where: Sequence[str],
    cluster: str | None,
) -> Source:
    import numpy as np

    from scaling.downstream import MetricRows

    frame = keep_all(sources.read_table(path), [parse_condition(text) for text in where], str(path))
    # The same rows through the same reader: what the law is fitted on and what the metric stands beside agree.
    beside = sources.load([path], columns, where, cluster).points
    if beside.n != len(frame):
        raise InputError(
            f"{path}: {len(frame)} rows, of which {beside.n} have a loss: leave out the others with --where"
        )
    value = numbers(frame, wanted.name, str(path))
    there = np.isfinite(value)
    if not there.any():
        raise InputError(f"{path}: column '{wanted.name}' is empty in every row")
    stderr = f"{wanted.name}_stderr"
    rows = MetricRows(
        loss=beside.loss[there],
        value=value[there],
        cluster=None if beside.cluster is None else beside.cluster[there],
        flops=None if (flops := beside.compute(points.provenance.flops_per)) is None else flops[there],
        stderr=numbers(frame, stderr, str(path))[there] if stderr in frame.columns else None,
    )
    metric, notices = _metric(wanted, rows)
    if not there.all():
        notices = (*notices, f"{path}: {int((~there).sum())} rows have no {wanted.name} and serve the loss only.")
    return Source(points=points, rows=rows, metric=metric, held_out=(), notices=notices)


def numbers(frame: pl.DataFrame, name: str, source: str) -> FloatArray:
    """A column as numbers, empty values as nan, shape (n,).

    Args:
        frame: the table.
        name: the column.
        source: name of the file, for messages.

    Raises:
        InputError: no such column, or a value that is not a finite number.
    """
    import numpy as np
    import polars as pl

    if name not in frame.columns:
        raise InputError(f"{source}: no column '{name}'; {nearest(name, frame.columns)}")
    column = frame[name]
    texts = column.cast(pl.String).str.strip_chars()
    empty = (texts.is_null() | (texts == "")).fill_null(True)
    parsed = texts.cast(pl.Float64, strict=False)
    bad = (~empty & ~parsed.is_finite().fill_null(False)).arg_true()
    if len(bad):
        raise InputError(
            f"{source}: column '{name}' holds {texts[int(bad[0])]!r} in its row {int(bad[0]) + 1} of those kept,"
            " which is not a finite number"
        )
    return np.array(parsed.fill_null(float("nan")).to_list(), dtype=np.float64)


def _metric(wanted: MetricOptions, rows: MetricRows) -> tuple[Metric, tuple[str, ...]]:
    import numpy as np

    from scaling import FitInputError
    from scaling.downstream import Metric
    from scaling.weighted_correlation import spearman

    name, notices = wanted.name, list[str]()
    known = next((each for each in _KNOWN if name.lower().startswith(each[0])), None)
    direction, low, high = known[1:] if known else (None, None, None)
    if wanted.direction is not None:
        direction = wanted.direction
    if direction is None:
        rho = float(spearman(rows.loss, rows.value, np.ones((1, rows.n)))[0])
        direction = "min" if rho > 0 else "max"
        better = "lower" if direction == "min" else "higher"
        notices.append(
            f"{name}: took {better} for better, as its values go with the loss (Spearman {rho:+.2f});"
            " state it with --direction."
        )
    try:
        metric = Metric(
            name=name,
            direction="max" if direction == "max" else "min",
            chance=wanted.chance,
            ceiling=wanted.ceiling,
            low=-np.inf if low is None else low,
            high=np.inf if high is None else high,
        )
    except FitInputError as error:
        raise InputError(str(error)) from error
    outside = int(((rows.value < metric.bottom - 1e-12) | (rows.value > metric.top + 1e-12)).sum())
    if outside:
        notices.append(
            f"{name}: {outside} of {rows.n} values lie outside {metric.bottom:g} to {metric.top:g}; predictions do not."
        )
    return metric, tuple(notices)
