"""What the charts of a study share: the colour of depth, and series thinned to what can be seen."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import polars as pl


def depth_scale(depths: Sequence[int]) -> alt.Scale:
    """One colour per depth, in order; the same domain in every chart gives the same colours in every chart."""
    return alt.Scale(domain=[str(depth) for depth in depths])


def depth_colour(depths: Sequence[int], symbol: str = "stroke") -> alt.Color:
    """Colour encoding of the column ``depth``, which has to be text (see :func:`as_text`)."""
    legend = alt.Legend(title="Depth", symbolType=symbol, columns=min(len(depths), 6))
    return alt.Color("depth:O", scale=depth_scale(depths), sort=None, legend=legend)


def as_text(frame: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """The frame with whole-number columns turned into text, as ordinal scales want them."""
    return frame.with_columns(pl.col(column).cast(pl.String) for column in columns)


def thin(frame: pl.DataFrame, by: Sequence[str], most: int = 150) -> pl.DataFrame:
    """At most about ``most`` rows of every series, evenly spaced, its last row always among them.

    Args:
        frame: rows in order within each series.
        by: columns that name a series.
        most: rows to keep of each.
    """
    position, length = pl.int_range(pl.len()).over(by), pl.len().over(by)
    stride = (length / most).ceil().cast(pl.Int64).clip(1)
    return frame.filter(((position % stride) == 0) | (position == length - 1))
