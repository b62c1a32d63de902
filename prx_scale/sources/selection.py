"""Which rows of a run are kept: not the same step twice, and of very long runs the last or some."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from prx_scale.errors import InputError

if TYPE_CHECKING:
    import polars as pl

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_PROGRESS = ("data", "flops", "steps")
_PLACE = ("params", "data", "flops", "steps", "unique")


def repeated(cluster: pl.Series, numbers: Mapping[str, FloatArray]) -> BoolArray:
    """Rows that a later row of the same run at the same step repeats, shape (n,).

    Args:
        cluster: run of every row.
        numbers: our columns; rows of a run are the same step where all of their axes are equal.
    """
    frame = _frame(cluster, {key: numbers[key] for key in _PLACE if key in numbers})
    return ~frame.select(_last_of(frame.columns)).to_series().to_numpy()


def thinned(cluster: pl.Series | None, numbers: Mapping[str, FloatArray], count: int) -> BoolArray:
    """Rows to keep so that a run has at most ``count``, evenly in the logarithm of its data, shape (n,).

    A run's range of log data is cut into ``count`` equal parts, of which each gives its last row: the last row of the
    run is always kept.

    Args:
        cluster: run of every row.
        numbers: our columns.
        count: rows a run; 1 keeps the last.

    Raises:
        InputError: rows have no run, or nothing that grows along one.
    """
    import polars as pl

    if count < 1:
        raise InputError(f"--thin {count}: keep at least 1 row of every run")
    key = next((key for key in _PROGRESS if key in numbers), None)
    if cluster is None or key is None:
        lack = "which rows are one run: name it with --cluster" if cluster is None else "how far a run was: name data="
        raise InputError(f"--thin and --last need to know {lack}")
    frame = _frame(cluster, {"x": np.log(numbers[key])}).with_row_index("row")
    low, high = pl.col("x").min().over("cluster"), pl.col("x").max().over("cluster")
    part = ((pl.col("x") - low) / (high - low) * count).fill_nan(0.0).ceil().clip(1, count)
    kept = frame.with_columns(part=part).sort("x", maintain_order=True)
    rows = kept.filter(_last_of(["cluster", "part"]))["row"].to_numpy()
    mask = np.zeros(len(frame), dtype=np.bool_)
    mask[rows] = True
    return mask


def _frame(cluster: pl.Series, columns: Mapping[str, FloatArray]) -> pl.DataFrame:
    import polars as pl

    return pl.DataFrame({"cluster": cluster, **columns})


def _last_of(names: list[str]) -> pl.Expr:
    import polars as pl

    return pl.struct(names).is_last_distinct()
