"""L = E + K x^-g: loss along one axis, x being parameters, data, compute or steps.

Units: L and E in the units of the loss, K in loss times x^g. All three are positive. For a sweep of one
quantity, or for the frontier in compute. Source: Henighan et al. 2020 (arXiv 2010.14701).
"""

from __future__ import annotations

from scaling.laws.additive import AdditivePowerLaw, Term
from scaling.points import ONE_AXIS

SYMBOL = {"params": "N", "data": "D", "flops": "C", "steps": "S"}

POWER_FLOOR = tuple(
    AdditivePowerLaw(
        name=f"power_floor:{axis}",
        formula=f"L = E + K {SYMBOL[axis]}^-g",
        source="Henighan et al. 2020, arXiv 2010.14701",
        terms=(Term(coefficient="E"), Term(coefficient="K", exponent="g", powers={axis: 1.0})),
    )
    for axis in ONE_AXIS
)
