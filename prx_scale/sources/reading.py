"""From an opened source to numbers: filters, columns, bad rows, repeated steps, thinning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from prx_scale.errors import InputError, nearest
from prx_scale.rowfilter import Condition, keep_all
from prx_scale.sources import columns as mapping
from prx_scale.sources import selection, values
from prx_scale.sources.columns import Column
from prx_scale.sources.opening import open_source
from prx_scale.sources.runstable import with_runs_table
from prx_scale.sources.sheet import LINE, Sheet
from scaling.columns import FLOPS_PER_TOKEN

if TYPE_CHECKING:
    import polars as pl

    from prx_scale.study import FitTable

SEPARATOR = "\x1f"
"""Between the values of several columns that name a group: in no table's cells."""

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user wants of every source; see :func:`prx_scale.sources.load`."""

    columns: Mapping[str, str]
    unit: str | None = None
    conditions: tuple[Condition, ...] = ()
    by: tuple[str, ...] = ()
    runs_table: Path | None = None
    drop_bad_rows: bool = False
    thin: int | None = None


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one source contributes.

    Attributes:
        name: of the source.
        numbers: our columns, each of shape (n,).
        cluster: run of every row; None where rows are independent.
        group: the values of every row by which fits are split, joined by ``SEPARATOR``; None without any.
        columns: our column to what it was read from.
        unit: "samples" or "tokens".
        n_rows: rows read.
        dropped: (reason, count) of rows left out.
        notices: what was assumed, in sentences.
        fit: the [fit] table of a study.
    """

    name: str
    numbers: dict[str, FloatArray]
    cluster: pl.Series | None
    group: pl.Series | None
    columns: dict[str, str]
    unit: str
    n_rows: int
    dropped: tuple[tuple[str, int], ...]
    notices: tuple[str, ...]
    fit: FitTable | None


def read(path: Path, request: Request) -> Part:
    """Read what a fit needs from one source.

    Raises:
        InputError: a source, column, value or condition that cannot be used.
    """
    sheet = open_source(path, {condition.column for condition in request.conditions})
    chosen = dict(request.columns)
    whole_file = chosen.get("cluster") == "file" and "file" not in sheet.names
    if whole_file:
        chosen["cluster"] = "row"
    if request.runs_table is not None:
        sheet = with_runs_table(sheet, request.runs_table, mapping.cluster_column(sheet.names, chosen))
    found, notices = mapping.find(sheet.names, chosen, sheet.defaults, sheet.name)
    frame, dropped = _rows(sheet, found, request)
    read = values.read(frame, found, sheet.name)
    cluster = _cluster(frame, found.get("cluster"), path.name if whole_file or _is_history(sheet, found) else None)
    part = Part(
        name=sheet.name,
        numbers=read.numbers,
        cluster=cluster,
        group=_group(frame, request.by, sheet),
        columns={key: column.text for key, column in found.items() if key in read.numbers or key == "cluster"},
        unit=request.unit or ("tokens" if "data" in found and "token" in found["data"].text.lower() else "samples"),
        n_rows=len(frame) + sum(count for _, count in dropped) if sheet.n_rows is None else sheet.n_rows,
        dropped=(*sheet.dropped, *dropped),
        notices=(*sheet.notices, *notices, *read.notices),
        fit=sheet.fit,
    )
    if cluster is not None and "cluster" not in part.columns:
        part = replace(part, columns={**part.columns, "cluster": "file"})
    if read.bad.any():
        if not request.drop_bad_rows:
            values.refuse(read, sheet.name)
        part = _keep(part, ~read.bad, "bad value")
    return _thin(_without_repeats(_derive(part), request), request)


def _is_history(sheet: Sheet, found: Mapping[str, Column]) -> bool:
    """Whether a file is what one run logged, as the history that W&B's API gives."""
    return sheet.log and "cluster" not in found


def _rows(sheet: Sheet, found: Mapping[str, Column], request: Request) -> tuple[pl.DataFrame, list[tuple[str, int]]]:
    """The needed columns of the rows that the conditions keep, and what was left out."""
    wanted = [name for column in found.values() for name in column.names]
    wanted += [condition.column for condition in request.conditions]
    frame = sheet.collect([*wanted, *request.by])
    kept, dropped = frame, list[tuple[str, int]]()
    for condition in request.conditions:
        if condition.column not in sheet.names:
            hint = nearest(condition.column, sheet.names)
            raise InputError(f"{sheet.name}: --where {condition}: no column '{condition.column}'; {hint}")
    if request.conditions:
        kept = keep_all(frame, request.conditions, sheet.name)
        dropped.append((f"not {' and '.join(map(str, request.conditions))}", len(frame) - len(kept)))
    if sheet.log:
        logged = _with_loss(kept, found)
        dropped += [(f"no {found['loss'].text} at that step", len(kept) - len(logged))] * (len(logged) < len(kept))
        kept = logged
    if kept.is_empty():
        reasons = "; ".join(f"{count}: {reason}" for reason, count in (*sheet.dropped, *dropped))
        raise InputError(f"{sheet.name}: no rows to fit ({reasons or 'no run has validated yet'})")
    return kept, dropped


def _with_loss(frame: pl.DataFrame, found: Mapping[str, Column]) -> pl.DataFrame:
    """The rows of a log that have a loss; other columns as they were last logged in that run."""
    import polars as pl

    loss = found["loss"].names
    runs = found["cluster"].names if "cluster" in found else ()
    others = [name for name in frame.columns if name not in (LINE, *loss, *runs)]
    last = (pl.col(name).forward_fill() for name in others)
    frame = frame.with_columns(pl.col(pl.String).replace("", None))  # an empty cell in quotes is no value either
    filled = frame.with_columns(expr.over(runs) if runs else expr for expr in last)
    return filled.filter(*(pl.col(name).is_not_null() for name in loss))


def _cluster(frame: pl.DataFrame, column: Column | None, file: str | None) -> pl.Series | None:
    import polars as pl

    if file is not None:
        return pl.Series("cluster", [file], dtype=pl.String).new_from_index(0, len(frame))
    return None if column is None else frame[column.names[0]].cast(pl.String).fill_null("")


def _group(frame: pl.DataFrame, by: tuple[str, ...], sheet: Sheet) -> pl.Series | None:
    import polars as pl

    for name in by:
        if name not in sheet.names:
            raise InputError(f"{sheet.name}: --by {name}: no column '{name}'; {nearest(name, sheet.names)}")
    if not by:
        return None
    texts = [pl.col(name).cast(pl.String).fill_null("(empty)") for name in by]
    return frame.select(pl.concat_str(texts, separator=SEPARATOR)).to_series()


def _keep(part: Part, mask: npt.NDArray[np.bool_], reason: str) -> Part:
    """The rows of a mask; how many were not is noted."""
    if mask.all():
        return part
    if not mask.any():
        raise InputError(f"{part.name}: no rows left ({len(mask)}: {reason})")
    return replace(
        part,
        numbers={key: numbers[mask] for key, numbers in part.numbers.items()},
        cluster=None if part.cluster is None else part.cluster.filter(mask),
        group=None if part.group is None else part.group.filter(mask),
        dropped=(*part.dropped, (reason, int((~mask).sum()))),
    )


def _derive(part: Part) -> Part:
    """Fill in params or data from compute, by C = 6 N D, where one of them was not recorded."""
    numbers = part.numbers
    for absent, other in (("data", "params"), ("params", "data")):
        if absent not in numbers and other in numbers and "flops" in numbers:
            notice = f"{part.name}: no column for {absent}; used flops / (6 {other}), so data are tokens."
            derived = numbers["flops"] / (FLOPS_PER_TOKEN * numbers[other])
            return replace(part, numbers={**numbers, absent: derived}, unit="tokens", notices=(*part.notices, notice))
    return part


def _without_repeats(part: Part, request: Request) -> Part:
    if part.cluster is None:
        return part
    again = selection.repeated(part.cluster, part.numbers)
    if not again.any():
        return part
    if request.drop_bad_rows:
        return _keep(part, ~again, "same run and step again later")
    run = part.cluster[int(np.flatnonzero(again)[0])]
    notice = (
        f"{part.name}: {int(again.sum())} rows repeat a step of their run, such as of run '{run}': keep one kind with"
        " --where, or the last of each with --drop-bad-rows"
    )
    return replace(part, notices=(*part.notices, notice))


def _thin(part: Part, request: Request) -> Part:
    if request.thin is None:
        return part
    kept = selection.thinned(part.cluster, part.numbers, request.thin)
    reason = "not the last of its run" if request.thin == 1 else f"thinned to {request.thin} a run"
    return _keep(part, kept, reason)
