"""Whether the law is right: what is left of the losses follows compute, or an axis."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scaling.diagnostics.examined import NAMES, Examined
from scaling.lackoffit import bend
from scaling.notices import Notice

LACK_OF_FIT = 0.01  # share of right laws that are called into question


def trend(fit: Examined) -> Iterator[Notice]:
    """Residuals drift with compute."""
    if fit.compute is None or fit.points.n < 10 or np.ptp(np.log(fit.compute)) == 0:
        return
    decades = np.log10(fit.compute)
    # A line fitted by cluster means would waste within-run trend, so clusters only set the error's size.
    centred = decades - decades.mean()
    slope = float(centred @ fit.result.residuals / (centred @ centred))
    scores = np.bincount(fit.points.cluster_codes, weights=centred * (fit.result.residuals - slope * centred))
    stderr = float(np.sqrt(scores @ scores) / (centred @ centred))
    if stderr > 0 and abs(slope) > 3.0 * stderr:
        way = "more" if slope > 0 else "less"
        yield Notice(
            code="residual-trend",
            message=f"Residuals drift with compute: measured loss is {abs(slope):.2%} {way} per decade than the"
            " law says, so predictions of larger runs lean the other way. Try another law.",
        )


def lack_of_fit(fit: Examined) -> Iterator[Notice]:
    """Residuals bend along an axis of the law."""
    found = bend(fit.problem, fit.points, fit.optimum)
    if found is None or found[0] >= LACK_OF_FIT:
        return
    axes = " and ".join(NAMES[axis] for axis in fit.problem.law.axes)
    yield Notice(
        code="lack-of-fit",
        message=f"{found[1]:.0%} of the residual variance is a bend along {axes} that noise leaves with"
        f" probability {max(found[0], 1e-6):.1g} at most: the law is not quite right, and intervals"
        " do not say by how much. Try another law, or a narrower range of runs.",
    )
