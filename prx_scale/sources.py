"""Where the points of a fit come from: tables of any trainer, or the runs of a study.

CSV, Parquet and JSON-lines files need a column of losses and two of parameters, data and compute; usual
names are recognised and reported. A study directory gives its validation rows: EMA weights, held-out
split, the warm part of every run and the held-out variants left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from prx_scale.errors import InputError, nearest
from prx_scale.rowfilter import Condition, keep_all, parse_condition

if TYPE_CHECKING:
    import polars as pl

    from prx_scale.study import FitTable
    from scaling import Points, Provenance

SYNONYMS: dict[str, tuple[str, ...]] = {
    "params": ("params", "n_params", "N", "parameters"),
    "data": ("samples", "tokens", "D", "data"),
    "loss": ("loss", "val_loss", "validation_loss", "val/loss"),
    "flops": ("flops", "C", "compute"),
    "steps": ("steps",),
    "unique": ("unique",),
    "cluster": ("run", "run_id", "cluster"),
    "weight": (),
}
READERS = (".csv", ".parquet", ".jsonl")
_FLOPS_PER_TOKEN_AND_PARAM = 6.0  # forward 2 and backward 4 multiply-adds' worth (Kaplan et al. 2020, sec. 2.1)
_LINE = "__line__"


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Points with everything a reader wants to know about them.

    Attributes:
        points: what goes into the fit.
        provenance: files, columns, counts.
        notices: what was assumed, in sentences.
        fit: the [fit] table of the study, when the source is one.
    """

    points: Points
    provenance: Provenance
    notices: tuple[str, ...]
    fit: FitTable | None


@dataclass(frozen=True, kw_only=True)
class _Part:
    """What one source contributed."""

    values: dict[str, list[float]]
    cluster: list[str] | None
    columns: dict[str, str]
    unit: str
    n_rows: int
    dropped: tuple[tuple[str, int], ...]
    notices: tuple[str, ...]
    fit: FitTable | None = None


def load(
    sources: Sequence[str | Path],
    columns: Mapping[str, str] | None = None,
    where: Sequence[str] = (),
    cluster: str | None = None,
) -> Loaded:
    """Read points from files and study directories.

    Args:
        sources: CSV, Parquet or JSON-lines files, or study directories.
        columns: our name (params, data, loss, flops, cluster, weight) to the source's column.
        where: conditions such as ``split=heldout``; all must hold.
        cluster: column whose rows are resampled together, or "row".

    Returns:
        The points of all sources together.

    Raises:
        InputError: a source, column, value or condition that cannot be used; names file, row and column.
    """
    if not sources:
        raise InputError("no source: give a CSV, Parquet or JSONL file, or a study directory")
    chosen = dict(columns or {})
    for key in chosen:
        if key not in SYNONYMS:
            raise InputError(
                f"--columns {key}={chosen[key]}: '{key}' is not a column of a fit; {nearest(key, SYNONYMS)}"
            )
    if cluster is not None:
        chosen["cluster"] = cluster
    conditions = [parse_condition(text) for text in where]
    parts = [_read_part(Path(source), chosen, conditions) for source in sources]
    return _join([str(source) for source in sources], parts)


def parse_columns(texts: Sequence[str]) -> dict[str, str]:
    """Read ``params=n_params,loss=val/loss``; several texts add up.

    Raises:
        InputError: a part is not KEY=COLUMN.
    """
    pairs: dict[str, str] = {}
    for part in ",".join(texts).split(",") if texts else []:
        key, sign, column = part.partition("=")
        if not sign or not key.strip() or not column.strip():
            raise InputError(f"--columns {part}: expected KEY=COLUMN, for example params=n_params")
        pairs[key.strip()] = column.strip()
    return pairs


def _read_part(path: Path, chosen: Mapping[str, str], conditions: Sequence[Condition]) -> _Part:
    if path.is_dir():
        return _read_study(path, chosen, conditions)
    frame = read_table(path)
    kept = keep_all(frame, conditions, str(path))
    dropped = ((f"not {' and '.join(map(str, conditions))}", len(frame) - len(kept)),) if conditions else ()
    return replace(_extract(kept, chosen, str(path)), n_rows=len(frame), dropped=dropped)


def read_table(path: Path) -> pl.DataFrame:
    """A file as a frame, with a column of line numbers (row numbers for Parquet) for messages.

    CSV values stay text: compute columns overflow 64-bit integers, and a bad value can then be quoted.

    Raises:
        InputError: no such file, an unknown extension, an empty or damaged file.
    """
    import polars as pl

    if not path.exists():
        raise InputError(f"{path}: no such file or directory")
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise InputError(f"{path}: cannot read '{suffix or 'a file without extension'}'; valid: {', '.join(READERS)}")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty")
    try:
        if suffix == ".csv":
            frame = pl.read_csv(path, infer_schema=False)
        elif suffix == ".jsonl":
            frame = pl.read_ndjson(path, infer_schema_length=None)
        else:
            frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"{path}: not a readable {suffix[1:]} file: {first}") from error
    if frame.is_empty():
        raise InputError(f"{path}: the file has a header and no rows")
    return frame.with_row_index(_LINE, offset=2 if suffix == ".csv" else 1)


def _read_study(path: Path, chosen: Mapping[str, str], conditions: Sequence[Condition]) -> _Part:
    import polars as pl

    from prx_scale import runs
    from prx_scale.study import FitTable
    from prx_scale.study import load as load_study

    table = load_study(path).fit if (path / "study.toml").exists() else FitTable()
    frame = runs.load(path, "validation").with_row_index(_LINE, offset=1)
    steps = pl.DataFrame(
        [{"run": info.run, "planned": info.steps} for info in runs.load_runs(path)],
        schema={"run": pl.String, "planned": pl.Int64},
    )
    total, dropped = len(frame), list[tuple[str, int]]()
    frame = frame.join(steps, on="run", how="left")
    asked = {condition.column for condition in conditions}
    stages = [
        ("variant", "held-out variant", ~pl.col("variant").is_in(list(table.holdout))),
        ("state", "run failed", pl.col("state") != "failed"),
        ("weights", "weights are not ema", pl.col("weights") == "ema"),
        ("split", "split is not heldout", pl.col("split") == "heldout"),
        (
            "step",
            f"before {table.from_fraction:.0%} of the run",
            pl.col("step") >= table.from_fraction * pl.col("planned"),
        ),
    ]
    for column, reason, condition in stages:
        if column in asked:  # an explicit condition on that column replaces the default
            continue
        kept = frame.filter(condition)
        if len(kept) < len(frame):
            dropped.append((reason, len(frame) - len(kept)))
        frame = kept
    kept = keep_all(frame, conditions, str(path))
    if conditions:
        dropped.append((f"not {' and '.join(map(str, conditions))}", len(frame) - len(kept)))
    if kept.is_empty():
        reasons = "; ".join(f"{count}: {reason}" for reason, count in dropped) or "no run has validated yet"
        raise InputError(f"{path}: no validation rows to fit ({reasons})")
    part = _extract(kept, {"data": "samples", **chosen}, str(path))
    return replace(part, n_rows=total, dropped=tuple(dropped), fit=table)


def _extract(frame: pl.DataFrame, chosen: Mapping[str, str], source: str) -> _Part:
    columns = {key: name for key in SYNONYMS if (name := _column(frame, key, chosen, source)) is not None}
    notices: list[str] = []
    axes = [key for key in ("params", "data", "flops", "steps") if key in columns]
    if "loss" not in columns or not axes:
        missing = [key for key in ("loss", *(() if axes else ("params", "data", "flops"))) if key not in columns]
        raise InputError(_missing_message(frame, missing, source))
    values = {key: _numbers(frame, name, key, source) for key, name in columns.items() if key != "cluster"}
    unit = "tokens" if "token" in columns.get("data", "").lower() else "samples"
    for absent, other in (("data", "params"), ("params", "data")):
        if absent not in columns and other in columns and "flops" in columns:
            pairs = zip(values["flops"], values[other], strict=True)
            values[absent] = [c / (_FLOPS_PER_TOKEN_AND_PARAM * x) for c, x in pairs]
            unit = "tokens"
            notices.append(f"{source}: no column for {absent}; used flops / (6 {other}), so data are tokens.")
    cluster = None
    if "cluster" in columns:
        cluster = [str(value) for value in frame[columns["cluster"]].to_list()]
    return _Part(
        values=values,
        cluster=cluster,
        columns=columns,
        unit=unit,
        n_rows=len(frame),
        dropped=(),
        notices=tuple(notices),
    )


def _column(frame: pl.DataFrame, key: str, chosen: Mapping[str, str], source: str) -> str | None:
    names = [name for name in frame.columns if name != _LINE]
    if key in chosen:
        wanted = chosen[key]
        if key == "cluster" and wanted == "row":
            return None
        if wanted not in names:
            option = "--cluster " if key == "cluster" else f"--columns {key}="
            raise InputError(f"{source}: no column '{wanted}' ({option}{wanted}); {nearest(wanted, names)}")
        return wanted
    lowered = {name.lower(): name for name in reversed(names)}
    for synonym in SYNONYMS[key]:
        if synonym in names:
            return synonym
        if len(synonym) > 1 and synonym.lower() in lowered:
            return lowered[synonym.lower()]
    return None


def _missing_message(frame: pl.DataFrame, missing: Sequence[str], source: str) -> str:
    names = [name for name in frame.columns if name != _LINE]
    parts = [f"no column for {key} (looked for {', '.join(SYNONYMS[key])})" for key in missing]
    hint = nearest(missing[0], names)
    return f"{source}: {'; '.join(parts)}. Name it with --columns {missing[0]}=COLUMN; {hint}"


def _numbers(frame: pl.DataFrame, name: str, key: str, source: str) -> list[float]:
    """A column as finite numbers, positive ones except for weights; the first bad value is an error."""
    import polars as pl

    column = frame[name]
    texts = column if column.dtype.is_numeric() else column.cast(pl.String).str.strip_chars()
    numbers = texts.cast(pl.Float64, strict=False)
    good = numbers.is_finite() & ((numbers >= 0) if key == "weight" else (numbers > 0))
    bad = (~good.fill_null(False)).arg_true()
    if len(bad):
        row = int(bad[0])
        value: Any = column[row]
        number = cast("float | None", numbers[row])
        if value is None or value == "":
            fault = "is empty"
        elif number is None:
            fault = f"is {value!r}, not a number"
        else:
            fault = f"is {value}, and {key} must be finite and {'not negative' if key == 'weight' else 'positive'}"
        others = f" ({len(bad)} rows like it)" if len(bad) > 1 else ""
        raise InputError(
            f"{source}, row {frame[_LINE][row]}: column '{name}' {fault}{others}; mend it or leave it out with --where"
        )
    return cast("list[float]", numbers.to_list())


def _join(names: Sequence[str], parts: Sequence[_Part]) -> Loaded:
    import numpy as np

    from prx_scale import __version__
    from scaling import Points, Provenance

    units = {part.unit for part in parts}
    if len(units) > 1:
        listed = ", ".join(f"{name} counts {part.unit}" for name, part in zip(names, parts, strict=True))
        raise InputError(f"sources count data differently ({listed}): fit them apart, or name one with --columns data=")
    keys = [key for key in SYNONYMS if all(key in part.values for part in parts)]
    arrays = {key: np.array([value for part in parts for value in part.values[key]]) for key in keys}
    clustered = all(part.cluster is not None for part in parts)
    labels = [
        f"{name}:{label}" if len(parts) > 1 else label
        for name, part in zip(names, parts, strict=True)
        for label in part.cluster or ()
    ]
    columns = {key: column for part in reversed(parts) for key, column in part.columns.items()}
    unit = next(iter(units))
    points = Points(**arrays, cluster=np.array(labels, dtype=np.str_) if clustered else None)
    provenance = Provenance(
        sources=tuple(names),
        n_rows=sum(part.n_rows for part in parts),
        n_used=points.n,
        dropped=tuple(item for part in parts for item in part.dropped),
        columns=columns,
        cluster=columns.get("cluster", "row") if clustered else "row",
        data_unit=unit,
        flops_per=_FLOPS_PER_TOKEN_AND_PARAM if unit == "tokens" else None,
        version=__version__,
    )
    notices = tuple(notice for part in parts for notice in part.notices)
    return Loaded(points=points, provenance=provenance, notices=notices, fit=parts[0].fit)
