"""What a coordinate check measured, and what it says; needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Parametrisations = Literal["standard", "muP"]
BAND = 0.25
"""A slope within plus or minus this counts as flat: 19 per cent for each doubling of the width."""


@dataclass(frozen=True, kw_only=True)
class Coordinate:
    """An activation of a model of one width after a step."""

    parametrisation: Parametrisations
    width: int
    seed: int
    step: int
    """Optimiser steps taken; 0 is the initial weights."""
    quantity: str
    size: float
    """Root mean square over probes, tokens and coordinates."""
    change: float
    """Root mean square of the difference to step 0."""


@dataclass(frozen=True, kw_only=True)
class Slope:
    """How an activation's change after the last step goes with width: change ~ width^slope."""

    parametrisation: Parametrisations
    quantity: str
    slope: float
    smallest: float
    """Change at the smallest width, mean over seeds."""
    largest: float
    """Change at the largest width."""

    @property
    def flat(self) -> bool:
        """The slope is within plus or minus `BAND`."""
        return abs(self.slope) <= BAND


def slopes(rows: Sequence[Coordinate], step: int | None = None) -> list[Slope]:
    """Least-squares slopes of log(change) over log(width), over all seeds, in the order measured.

    Quantities that have not moved at some width are left out.

    Args:
        rows: of a coordinate check.
        step: after which; by default the last.
    """
    last = max(row.step for row in rows) if step is None else step
    groups: dict[tuple[Parametrisations, str], list[Coordinate]] = {}
    for row in rows:
        if row.step == last:
            groups.setdefault((row.parametrisation, row.quantity), []).append(row)
    return [_slope(group) for group in groups.values() if all(row.change > 0 for row in group)]


def _slope(group: Sequence[Coordinate]) -> Slope:
    widths = np.array([row.width for row in group], dtype=float)
    changes = np.array([row.change for row in group])
    slope = np.polyfit(np.log(widths), np.log(changes), 1)[0]
    return Slope(
        parametrisation=group[0].parametrisation,
        quantity=group[0].quantity,
        slope=float(slope),
        smallest=float(changes[widths == widths.min()].mean()),
        largest=float(changes[widths == widths.max()].mean()),
    )
