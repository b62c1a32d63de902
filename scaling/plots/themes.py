"""Two Vega themes, light and dark, that the page hands to vegaEmbed when it draws.

Charts name roles, never neutral colours: a mark with ``style="frontier"`` takes its colour from here, so that one
specification serves both themes. Depth is an ordered hue from viridis, with the end that vanishes into the
background cut off. Categories use the Okabe-Ito palette, told apart with the common colour-vision deficiencies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"


@dataclass(frozen=True, kw_only=True)
class Palette:
    """The colours that differ between the themes."""

    ink: str
    muted: str
    rule: str
    grid: str
    extent: tuple[float, float]
    """Part of viridis that stands out from the background."""
    categories: tuple[str, ...]


LIGHT = Palette(
    ink="#1c2024",
    muted="#5b6470",
    rule="#9aa3ad",
    grid="#e6e9ed",
    extent=(0.0, 0.86),
    categories=("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9"),
)
DARK = Palette(
    ink="#e8eaed",
    muted="#a3abb5",
    rule="#6b7480",
    grid="#2b3038",
    extent=(0.3, 1.0),
    categories=("#56b4e9", "#e69f00", "#2fc39a", "#e3a1c6", "#f0e442", "#9ecae1"),
)


def vega_config(palette: Palette) -> dict[str, Any]:
    """The Vega-Lite ``config`` of one theme."""
    scheme = {"scheme": "viridis", "extent": list(palette.extent)}
    return {
        "background": "transparent",
        "font": FONT,
        "view": {"stroke": None},
        "axis": _axis(palette),
        "legend": _legend(palette),
        "range": {"ordinal": scheme, "ramp": scheme, "heatmap": scheme, "category": list(palette.categories)},
        "mark": {"color": palette.categories[0], "tooltip": None},
        "line": {"strokeWidth": 1.8, "strokeCap": "round"},
        "style": _styles(palette),
    }


def _axis(palette: Palette) -> dict[str, Any]:
    return {
        "labelColor": palette.muted,
        "titleColor": palette.ink,
        "domainColor": palette.rule,
        "tickColor": palette.rule,
        "gridColor": palette.grid,
        "labelFontSize": 12,
        "titleFontSize": 12.5,
        "titleFontWeight": 500,
        "titlePadding": 10,
        "labelOverlap": "greedy",
        "labelSeparation": 8,
        "tickSize": 4,
    }


def _legend(palette: Palette) -> dict[str, Any]:
    return {
        "labelColor": palette.ink,
        "titleColor": palette.muted,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": 500,
        "orient": "top",
        "direction": "horizontal",
        "offset": 10,
        "symbolStrokeWidth": 2.4,
        "symbolOpacity": 1,
        "titleOrient": "left",
        "titlePadding": 10,
        "symbolSize": 110,
        "symbolBaseStrokeColor": palette.ink,
        "symbolBaseFillColor": palette.ink,
        "gradientLength": 160,
        "gradientOpacity": 1,
        "layout": {"top": {"direction": "vertical", "anchor": "start", "margin": 8}},
    }


def _styles(palette: Palette) -> dict[str, Any]:
    return {
        "frontier": {"color": palette.ink, "strokeWidth": 1.8, "strokeDash": [7, 4]},
        "reference": {"color": palette.rule, "strokeWidth": 1.2, "strokeDash": [3, 3]},
    }


def themes() -> dict[str, dict[str, Any]]:
    """Both themes under the names that the page's script asks for."""
    return {"light": vega_config(LIGHT), "dark": vega_config(DARK)}
