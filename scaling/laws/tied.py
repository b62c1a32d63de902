"""L = E + A N^-alpha + B D^-alpha: the chinchilla law with one exponent for parameters and data.

Units: N trainable parameters, D samples or tokens seen, L and E in the units of the loss, A in loss times
params^alpha, B in loss times data^alpha. All four are positive. For few runs, where two exponents are not
determined. The compute-optimal split is then N* ~ C^(1/2) and D* ~ C^(1/2) by assumption: these exponents are
no finding and have no error. Source: the reduced form of Gadre et al. 2024 (arXiv 2403.08540).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling import allocation
from scaling.laws.additive import AdditivePowerLaw, Term
from scaling.points import FloatArray


@dataclass(frozen=True, kw_only=True)
class Tied(AdditivePowerLaw):
    """The additive law with a shared exponent, and its closed-form compute-optimal allocation."""

    def compute_optimal(self, natural: FloatArray) -> dict[str, FloatArray]:
        """One half for both N* and D*, each (batch,)."""
        return allocation.even_split(len(natural))

    def frontier(
        self, natural: FloatArray, flops: FloatArray, flops_per: float
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Compute-optimal params, data and loss, each (batch, m), for C = flops_per N D."""
        floor, a, b, alpha = np.asarray(natural, dtype=np.float64).T[:, :, None]
        return allocation.optimum(floor=floor, a=a, b=b, alpha=alpha, beta=alpha, flops=flops, flops_per=flops_per)


TIED = Tied(
    name="tied",
    formula="L = E + A N^-alpha + B D^-alpha",
    source="Gadre et al. 2024, arXiv 2403.08540",
    terms=(
        Term(coefficient="E"),
        Term(coefficient="A", exponent="alpha", powers={"params": 1.0}),
        Term(coefficient="B", exponent="alpha", powers={"data": 1.0}),
    ),
)
