"""Where the points of a fit come from: tables of any trainer, trainers' logs, or the runs of a study.

A source is opened by what it is (:mod:`tables`, :mod:`studies`, :mod:`tensorboard`, :mod:`wandb`) as a
:class:`~prx_scale.sources.sheet.Sheet`; :mod:`columns` says which of its columns is what, :mod:`reading` reads those,
and :mod:`joining` makes one set of points of all sources.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from prx_scale.errors import InputError
from prx_scale.rowfilter import parse_condition
from prx_scale.sources.columns import ALIASES, SYNONYMS, check_keys, parse_columns
from prx_scale.sources.joining import Loaded, join
from prx_scale.sources.opening import expand
from prx_scale.sources.reading import Request, read
from prx_scale.sources.tables import READERS, read_table

__all__ = ["ALIASES", "READERS", "SYNONYMS", "Loaded", "load", "parse_columns", "read_table"]


def load(
    sources: Sequence[str | Path],
    columns: Mapping[str, str] | None = None,
    where: Sequence[str] = (),
    cluster: str | None = None,
    *,
    by: Sequence[str] = (),
    runs_table: Path | None = None,
    drop_bad_rows: bool = False,
    thin: int | None = None,
) -> Loaded:
    """Read points from tables, logs and study directories.

    Args:
        sources: CSV, Parquet or JSON-lines files (or patterns such as ``runs/*.csv``), study directories,
            TensorBoard log directories, or W&B run folders.
        columns: our name (params, data, tokens, samples, loss, flops, steps, unique, stderr, cluster, weight) to the
            source's column, a number, or a product of both such as ``step*2M``.
        where: conditions such as ``split=heldout``; all must hold.
        cluster: column whose rows are resampled together, "row", or "file" where every file is one run.
        by: columns whose values name the group of every point.
        runs_table: table with one row a run, whose columns are added to every row of that run.
        drop_bad_rows: leave out rows with values that cannot be used, and all but the last of rows that repeat a step
            of a run, instead of refusing the first and keeping the second.
        thin: keep at most so many rows of every run, evenly in the logarithm of its data; 1 keeps the last.

    Returns:
        The points of all sources together.

    Raises:
        InputError: a source, column, value or condition that cannot be used; names file, row and column.
    """
    if not sources:
        raise InputError("no source: give a CSV, Parquet or JSONL file, a log directory, or a study directory")
    chosen, unit = check_keys({**(columns or {}), **({"cluster": cluster} if cluster is not None else {})})
    request = Request(
        columns=chosen,
        unit=unit,
        conditions=tuple(parse_condition(text) for text in where),
        by=tuple(by),
        runs_table=runs_table,
        drop_bad_rows=drop_bad_rows,
        thin=thin,
    )
    return join([read(path, request) for path in expand(sources)], request.by)
