"""What a check may look at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from scaling.bootstrap import Draws
from scaling.points import AXES, FloatArray, Points
from scaling.problem import Optimum, Problem
from scaling.results import FitResult

NAMES = {**{axis: axis for axis in AXES}, "flops": "compute"}


@dataclass(frozen=True, kw_only=True)
class Examined:
    """A fit with everything that a check may look at."""

    problem: Problem
    points: Points
    optimum: Optimum
    draws: Draws
    result: FitResult

    @cached_property
    def compute(self) -> FloatArray | None:
        """Training FLOPs of every row, shape (n,)."""
        return self.points.compute(self.result.provenance.flops_per)
