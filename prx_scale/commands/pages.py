"""Writing the page of a fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scaling import FitResult, Points

_MOST_DRAWN = 5_000  # more points than that are neither seen apart nor scrolled smoothly


def write_fit_page(path: Path, result: FitResult, points: Points) -> None:
    """Write a self-contained page of a fit; of very many points it draws some, and says so.

    Args:
        path: the file; its folder is made.
        result: the fit, of all points.
        points: what was fitted.
    """
    import numpy as np

    from prx_scale.runs.files import write_atomically
    from reports.fit_page import render_fit_page
    from scaling import Notice

    if points.n > _MOST_DRAWN:
        message = f"This page draws {_MOST_DRAWN} of the {points.n} points, evenly spread; the fit took them all."
        result = replace(result, warnings=(*result.warnings, Notice(code="some-points-drawn", message=message)))
        points = points.canonical().take(np.linspace(0, points.n - 1, _MOST_DRAWN).round().astype(np.intp))
    write_atomically(path, render_fit_page(result, points))
