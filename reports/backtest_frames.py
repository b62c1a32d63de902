"""A backtest evaluated into frames for its charts: every prediction, and what runs along the extrapolation factor."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

from scaling.backtest_records import Backtest
from scaling.points import FloatArray

LEAST_WINDOW = 25
_WINDOWS = 8  # a running statistic sees an eighth of the predictions at once
_STEPS = 60
_LEAST = 10

Statistic = Callable[[FloatArray], float]


def prediction_frame(result: Backtest) -> pl.DataFrame:
    """Columns law, run, cut, factor, error (measured / predicted - 1), inside, width (upper / lower - 1)."""
    parts = [
        pl.DataFrame(
            {
                "law": [each.law] * len(each.factor),
                "run": each.run.tolist(),
                "cut": each.cut,
                "factor": each.factor,
                "error": np.expm1(each.error),
                "inside": each.inside,
                "width": np.expm1(each.log_width),
            }
        )
        for each in result.predictions
    ]
    return pl.concat(parts).with_columns(pl.col("inside", "width").fill_nan(None)).sort("factor")


def running_frame(frame: pl.DataFrame, column: str, statistic: Statistic) -> pl.DataFrame:
    """A statistic of a column over windows that slide along the extrapolation factor, law by law.

    Args:
        frame: as :func:`prediction_frame` gives it.
        column: what the statistic is taken of; rows without it are left out.
        statistic: such as the median.

    Returns:
        Columns law, factor (geometric mean of the window), value; no rows for a law with fewer than ten.
    """
    parts = [
        _running(law, rows["factor"].to_numpy(), rows[column].to_numpy(), statistic)
        for (law,), rows in frame.drop_nulls(column).group_by("law", maintain_order=True)
    ]
    return pl.concat([pl.DataFrame(schema={"law": pl.String, "factor": pl.Float64, "value": pl.Float64}), *parts])


def _running(law: object, factor: FloatArray, values: FloatArray, statistic: Statistic) -> pl.DataFrame:
    n = len(factor)
    window = min(max(LEAST_WINDOW, n // _WINDOWS), n)
    last = n - window
    starts = sorted({round(last * step / (_STEPS - 1)) for step in range(_STEPS)}) if n >= _LEAST else []
    return pl.DataFrame(
        {
            "law": [str(law) for _ in starts],
            "factor": [float(np.exp(np.log(factor[i : i + window]).mean())) for i in starts],
            "value": [statistic(values[i : i + window]) for i in starts],
        },
        schema={"law": pl.String, "factor": pl.Float64, "value": pl.Float64},
    )
