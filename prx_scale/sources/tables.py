"""Tables as files: CSV, Parquet and JSON lines, compressed or not, and the two shapes that W&B exports."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prx_scale.errors import InputError
from prx_scale.sources.sheet import LINE, Sheet

if TYPE_CHECKING:
    import polars as pl

READERS = (".csv", ".parquet", ".jsonl", ".csv.gz", ".jsonl.gz")

_CURVE = re.compile(r"^(?P<run>.+) - (?P<metric>.+?)(?P<extreme>__MIN|__MAX)?$")


def open_table(path: Path) -> Sheet:
    """Find the columns of a file without reading its rows.

    CSV values stay text: compute columns overflow 64-bit integers, and a bad value can then be quoted.

    Raises:
        InputError: no such file, an unknown extension, an empty or damaged file.
    """
    import polars as pl

    kind = _kind(path)
    try:
        rows = _scan(path, kind)
        names = tuple(name for name in rows.collect_schema().names() if name != LINE)
        if rows.select(LINE).head(1).collect().is_empty():
            raise InputError(f"{path}: the file has a header and no rows")
    except (pl.exceptions.PolarsError, OSError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"{path}: not a readable {kind[1:]} file: {first}") from error
    if curves := _curves(names):
        return _from_curves(str(path), rows, names[0], curves)
    return Sheet(name=str(path), rows=rows, names=names, log="_step" in names)


def read_table(path: Path) -> pl.DataFrame:
    """All of a file as a frame, with the column ``LINE``; see :func:`open_table`."""
    sheet = open_table(path)
    return sheet.collect(sheet.names)


def _kind(path: Path) -> str:
    if not path.exists():
        raise InputError(f"{path}: no such file or directory")
    suffix = "".join(path.suffixes[-2:]).lower() if path.suffix.lower() == ".gz" else path.suffix.lower()
    if suffix not in READERS:
        raise InputError(f"{path}: cannot read '{suffix or 'a file without extension'}'; valid: {', '.join(READERS)}")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty")
    return suffix


def _scan(path: Path, kind: str) -> pl.LazyFrame:
    import polars as pl

    if kind.startswith(".csv"):
        return pl.scan_csv(path, infer_schema=False, row_index_name=LINE, row_index_offset=2)
    if kind.startswith(".jsonl"):
        return pl.scan_ndjson(path, infer_schema_length=None, row_index_name=LINE, row_index_offset=1)
    return pl.scan_parquet(path, row_index_name=LINE, row_index_offset=1)


def _curves(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Run to metric to column, where a table is a chart exported from W&B: one column a run and metric."""
    matches = [_CURVE.match(name) for name in names[1:]]
    if not matches or not all(matches):
        return {}
    curves: dict[str, dict[str, str]] = {}
    for match in matches:
        if match is not None and match["extreme"] is None:
            curves.setdefault(match["run"], {})[match["metric"]] = match.string
    return curves


def _from_curves(name: str, rows: pl.LazyFrame, axis: str, curves: dict[str, dict[str, str]]) -> Sheet:
    """One row a step and run, with the columns run, the chart's horizontal axis, and the metrics."""
    import polars as pl

    metrics = sorted({metric for columns in curves.values() for metric in columns})
    parts = [
        rows.select(
            LINE,
            pl.lit(run).alias("run"),
            pl.col(axis).alias("step" if axis == "Step" else axis),
            *(pl.col(columns[metric]).alias(metric) if metric in columns else pl.lit(None).alias(metric)
              for metric in metrics),
        )
        for run, columns in curves.items()
    ]  # fmt: skip
    stacked = pl.concat(parts, how="vertical_relaxed")
    notice = f"{name}: read as a chart exported from W&B, with the curves of {len(curves)} runs"
    names = tuple(column for column in stacked.collect_schema().names() if column != LINE)
    return Sheet(name=name, rows=stacked, names=names, log=True, notices=(notice,))
