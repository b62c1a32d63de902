"""L = K x^-g: a power law without a floor along one axis, x being parameters, data, compute or steps.

Units: L in the units of the loss, K in loss times x^g. Both are positive. It is ``power_floor`` with E = 0 and
never fits better than that; far predictions differ, because this law falls without end. Fit both and compare.
Source: Hestness et al. 2017 (arXiv 1712.00409); the form that Liang et al. 2024 (arXiv 2410.08184) give for
diffusion transformers.
"""

from __future__ import annotations

from scaling.laws.additive import AdditivePowerLaw, Term
from scaling.laws.power_floor import SYMBOL
from scaling.points import ONE_AXIS

POWER = tuple(
    AdditivePowerLaw(
        name=f"power:{axis}",
        formula=f"L = K {SYMBOL[axis]}^-g",
        source="Hestness et al. 2017, arXiv 1712.00409; Liang et al. 2024, arXiv 2410.08184",
        terms=(Term(coefficient="K", exponent="g", powers={axis: 1.0}),),
    )
    for axis in ONE_AXIS
)
