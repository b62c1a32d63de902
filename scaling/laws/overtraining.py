"""L = E + (u M^h + v M^-h) C^-h with M = D / N: loss at a fixed amount of data per parameter.

Units: N trainable parameters, D samples or tokens seen, C training FLOPs, M data per parameter; L and E in the
units of the loss, u and v in loss times FLOPs^h times M^-h and M^h. All four are positive. At fixed M it is a power
law in C with a floor, with the same exponent for every M. For C = k N D it is ``tied`` with alpha = 2h,
A = u k^-h and B = v k^-h; where C is measured and not exactly k N D, the two differ. The compute-optimal M is
(v / u)^(1 / (2h)) at every C, so N* ~ C^(1/2) and D* ~ C^(1/2) by assumption.
Source: Gadre et al. 2024 (arXiv 2403.08540).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling import allocation
from scaling.laws.additive import AdditivePowerLaw, Term
from scaling.points import FloatArray


@dataclass(frozen=True, kw_only=True)
class Overtraining(AdditivePowerLaw):
    """Loss in compute and data per parameter, with its closed-form compute-optimal allocation."""

    def compute_optimal(self, natural: FloatArray) -> dict[str, FloatArray]:
        """One half for both N* and D*, each (batch,)."""
        return allocation.even_split(len(natural))

    def frontier(
        self, natural: FloatArray, flops: FloatArray, flops_per: float
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Compute-optimal params, data and loss, each (batch, m), for C = flops_per N D."""
        floor, u, v, h = np.asarray(natural, dtype=np.float64).T[:, :, None]
        budget = np.asarray(flops, dtype=np.float64)
        log_ratio = (np.log(v) - np.log(u)) / (2.0 * h)
        log_product = np.log(budget / flops_per)
        params, data = np.exp(0.5 * (log_product - log_ratio)), np.exp(0.5 * (log_product + log_ratio))
        return params, data, floor + 2.0 * np.exp(0.5 * (np.log(u) + np.log(v)) - h * np.log(budget))


OVERTRAINING = Overtraining(
    name="overtraining",
    formula="L = E + (u M^h + v M^-h) C^-h, M = D/N",
    source="Gadre et al. 2024, arXiv 2403.08540",
    terms=(
        Term(coefficient="E"),
        Term(coefficient="u", exponent="h", powers={"params": 1.0, "data": -1.0, "flops": 1.0}),
        Term(coefficient="v", exponent="h", powers={"params": -1.0, "data": 1.0, "flops": 1.0}),
    ),
)
