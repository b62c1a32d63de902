"""The chart of a coordinate check: how far activations move against the width."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import polars as pl

from scaling.plots import axes
from scaling.plots.axes import AnyChart

KINDS = ("inputs", "modulation", "logits", "image", "text", "output")
"""What an activation is, by the last word of its name; one colour each."""


def changes(frame: pl.DataFrame, widths: Sequence[int], domain: Sequence[float]) -> AnyChart:
    """Change of each activation against the width, both axes logarithmic; mean over seeds as a line.

    Args:
        frame: columns kind (of `KINDS`), quantity, width, seed, change.
        widths: all widths, the ticks of the axis.
        domain: changes that the axis has to hold, so that two charts can share it.
    """
    axis = alt.Axis(values=[*widths], format="d", grid=False)
    x = alt.X(
        "width:Q", title="Width", axis=axis, scale=alt.Scale(type="log", domain=axes.log_domain(widths), nice=False)
    )
    y = axes.log_y("change", "Change of the activation (RMS)", domain)
    legend = alt.Legend(title="Activation", symbolType="stroke", columns=2)
    colour = alt.Color("kind:N", scale=alt.Scale(domain=[*KINDS]), sort=None, legend=legend)
    means = frame.group_by("kind", "quantity", "width", maintain_order=True).agg(pl.col("change").log().mean().exp())
    lines = alt.Chart(means).mark_line().encode(x=x, y=y, color=colour, detail="quantity:N")
    tooltip = ["quantity:N", "width:Q", "seed:O", alt.Tooltip("change:Q", format=".3~g")]
    dots = alt.Chart(frame).mark_point(filled=True, size=30).encode(x=x, y=y, color=colour, tooltip=tooltip)
    return axes.layered(lines, dots)
