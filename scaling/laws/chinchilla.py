"""L = E + A N^-alpha + B D^-beta: loss as a floor, a price for few parameters and a price for little data.

Units: N trainable parameters, D samples or tokens seen, L and E in the units of the loss, A in loss times
params^alpha, B in loss times data^beta. All five are positive. Source: Hoffmann et al. 2022
(arXiv 2203.15556), approach 3, and so are the compute-optimal sizes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling import allocation
from scaling.laws.additive import AdditivePowerLaw, Term
from scaling.points import FloatArray


@dataclass(frozen=True, kw_only=True)
class Chinchilla(AdditivePowerLaw):
    """The additive law of parameters and data, with its closed-form compute-optimal allocation."""

    def compute_optimal(self, natural: FloatArray) -> dict[str, FloatArray]:
        """a = beta / (alpha + beta) for N* ~ C^a and b = 1 - a for D* ~ C^b, each (batch,)."""
        params_exponent = allocation.params_exponent(natural[:, 3], natural[:, 4])
        return {"params_exponent": params_exponent, "data_exponent": 1.0 - params_exponent}

    def frontier(
        self, natural: FloatArray, flops: FloatArray, flops_per: float
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Compute-optimal params, data and loss, each (batch, m), for C = flops_per N D."""
        floor, a, b, alpha, beta = np.asarray(natural, dtype=np.float64).T[:, :, None]
        return allocation.optimum(floor=floor, a=a, b=b, alpha=alpha, beta=beta, flops=flops, flops_per=flops_per)


CHINCHILLA = Chinchilla(
    name="chinchilla",
    formula="L = E + A N^-alpha + B D^-beta",
    source="Hoffmann et al. 2022, arXiv 2203.15556, approach 3",
    terms=(
        Term(coefficient="E"),
        Term(coefficient="A", exponent="alpha", powers={"params": 1.0}),
        Term(coefficient="B", exponent="beta", powers={"data": 1.0}),
    ),
)
