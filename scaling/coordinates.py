"""What a coordinate check measured, and what it says: how activations go with the width of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Scheme = Literal["standard", "muP"]
BAND = 0.25
"""A slope within plus or minus this counts as flat: 19 per cent for each doubling of the width."""


@dataclass(frozen=True, kw_only=True)
class Coordinate:
    """An activation of a model of one width after some steps."""

    scheme: Scheme
    """The parametrisation."""
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
    """How an activation's change goes with the width: change ~ width^slope."""

    scheme: Scheme
    quantity: str
    slope: float
    smallest: float
    """Change at the smallest width, mean over seeds."""
    largest: float
    """Change at the largest width, mean over seeds."""

    @property
    def flat(self) -> bool:
        """The slope is within plus or minus `BAND`."""
        return abs(self.slope) <= BAND


def slopes(rows: Sequence[Coordinate], step: int | None = None) -> list[Slope]:
    """Least-squares slopes of log(change) over log(width), over all seeds, in the order measured.

    Quantities that have not moved at some width are left out.

    Args:
        rows: of a coordinate check at two widths or more.
        step: after which; by default the last.
    """
    last = max(row.step for row in rows) if step is None else step
    groups: dict[tuple[Scheme, str], list[Coordinate]] = {}
    for row in rows:
        if row.step == last:
            groups.setdefault((row.scheme, row.quantity), []).append(row)
    return [_slope(group) for group in groups.values() if all(row.change > 0 for row in group)]


def steepest(found: Sequence[Slope], scheme: Scheme) -> Slope | None:
    """The slope that is farthest from flat.

    Args:
        found: slopes of both schemes.
        scheme: of which.

    Returns:
        None where nothing moved.
    """
    return max((each for each in found if each.scheme == scheme), key=lambda each: abs(each.slope), default=None)


def _slope(group: Sequence[Coordinate]) -> Slope:
    widths = np.array([row.width for row in group], dtype=float)
    changes = np.array([row.change for row in group])
    slope, _ = np.polyfit(np.log(widths), np.log(changes), 1)
    return Slope(
        scheme=group[0].scheme,
        quantity=group[0].quantity,
        slope=float(slope),
        smallest=float(changes[widths == widths.min()].mean()),
        largest=float(changes[widths == widths.max()].mean()),
    )
