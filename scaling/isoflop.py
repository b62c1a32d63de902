"""isoFLOP profiles: per budget a polynomial of loss in log size, its minimum, and a line through the minima.

Approach 2 of Hoffmann et al. 2022 (arXiv 2203.15556): at every budget several sizes are trained, a parabola of L in
log N gives N*, one of L in log D gives D*, and log N* and log D* are regressed on log C. Along a line of equal compute
the valley of L = E + A N^-alpha + B D^-beta is skewed unless alpha = beta, so that a parabola moves the minimum even
without noise (Czech et al. 2026, arXiv 2603.22339); a cubic follows the skew and asks for one size more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scaling.bootstrap import places
from scaling.budgets import TOLERANCE, Budgets, group
from scaling.errors import FitInputError
from scaling.fitting import check_options
from scaling.frontier import Found, Frontier, Optimum, assemble
from scaling.notices import Notice
from scaling.points import FloatArray, Points

RESAMPLINGS = {
    "wild": "residuals of every budget, multiplied by six-point weights that a run's rows share; sizes fixed",
    "rows": "rows drawn with replacement within their budget",
}
SCALES = ("linear", "log")
_WEBB = np.sqrt([1.5, 1.0, 0.5, 1.5, 1.0, 0.5]) * np.array([1.0, 1.0, 1.0, -1.0, -1.0, -1.0])
_LEAST_FREEDOM = 0.05  # 1 - leverage below which a residual says nothing


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The rows of one budget, ready for a polynomial.

    Attributes:
        flops: the budget.
        rows: their positions among all points.
        params: sizes, shape (m,).
        data: amounts of data, shape (m,).
        y: loss, or its logarithm, shape (m,).
        w: row weights, shape (m,).
    """

    flops: float
    rows: np.ndarray[tuple[int], np.dtype[np.intp]]
    params: FloatArray
    data: FloatArray
    y: FloatArray
    w: FloatArray


def isoflop(
    points: Points,
    degree: int = 2,
    scale: str = "linear",
    budgets: Sequence[float] | None = None,
    tolerance: float = TOLERANCE,
    merge: float = 0.0,
    bracketed_only: bool = False,
    bootstrap: int = 1000,
    resampling: str = "wild",
    level: float = 0.8,
    seed: int = 0,
    flops_per: float | None = None,
) -> Frontier:
    """The compute-optimal frontier from isoFLOP profiles.

    Args:
        points: rows at several sizes for each of several budgets. Exact duplicates count once.
        degree: 2, the published parabola, or 3.
        scale: "linear" fits L, as published; "log" fits log L.
        budgets: nominal budgets in FLOPs, see :func:`scaling.budgets.group`; looked for where None.
        tolerance: relative distance to its budget that a row may have.
        merge: sizes of a budget closer than this (relative) become one row, their mean: for digitised tables, which
            hold near-duplicates; 0 keeps every row.
        bracketed_only: leave budgets out whose minimum lies outside their sizes.
        bootstrap: resamples behind the intervals; 0 leaves them out.
        resampling: "wild" or "rows", see ``RESAMPLINGS``.
        level: level of the intervals.
        seed: of the resamples.
        flops_per: k in C = k N D where the points carry no flops.

    Returns:
        The frontier; budgets that cannot be used are in it with a flag.

    Raises:
        FitInputError: an option is out of range, there is no compute, or fewer than two budgets can be used.
    """
    _check(degree, scale, resampling, bootstrap, level, merge)
    points = _distinct(points.canonical())
    compute = points.compute(flops_per)
    if compute is None:
        raise FitInputError("budgets are amounts of compute: give the points a flops column")
    grouped = group(compute, budgets, tolerance)
    profiles = [_profile(points, grouped, number, scale, merge) for number in range(len(grouped.flops))]
    profiles = [profile for profile in profiles if len(profile.y)]
    rng = np.random.default_rng(seed)
    weights = _weights(points, bootstrap, rng)
    solved = [_solve(profile, degree, resampling, weights, rng) for profile in profiles]
    best = np.stack([each[0] for each in solved], axis=1)
    draws = np.stack([each[1] for each in solved], axis=2)
    if scale == "linear":
        best[2], draws[:, 2] = _log(best[2]), _log(draws[:, 2])
    optima = tuple(_describe(profile, best[:, i], degree, bracketed_only) for i, profile in enumerate(profiles))
    for i, optimum in enumerate(optima):
        if not optimum.used:
            draws[:, :, i] = np.nan
    shape = {2: "parabola", 3: "cubic"}[degree]
    what = {"linear": "L", "log": "log L"}[scale]
    return assemble(
        Found(
            flops=np.array([profile.flops for profile in profiles]),
            best=best,
            draws=draws,
            optima=optima,
            n_points=sum(optimum.n_rows for optimum in optima),
        ),
        method="isoflop",
        description=f"{shape} of {what} in log N and in log D at every budget; budgets {grouped.found}",
        resampling=RESAMPLINGS[resampling] if bootstrap else "no resampling",
        level=level,
        notices=tuple(_notices(optima, degree, int((grouped.codes < 0).sum()))),
    )


def _check(degree: int, scale: str, resampling: str, bootstrap: int, level: float, merge: float) -> None:
    check_options(bootstrap, level)
    if degree not in (2, 3):
        raise FitInputError(f"degree is {degree}: an isoFLOP profile is a parabola (2) or a cubic (3)")
    if scale not in SCALES:
        raise FitInputError(f"no scale is called '{scale}': valid: {', '.join(SCALES)}")
    if resampling not in RESAMPLINGS:
        raise FitInputError(f"no resampling is called '{resampling}': valid: {', '.join(RESAMPLINGS)}")
    if not 0.0 <= merge < 0.5:
        raise FitInputError(f"merge is {merge}: sizes closer than this become one; between 0 and 0.5, usually 0.01")


def _log(values: FloatArray) -> FloatArray:
    return np.log(np.where(values > 0, values, np.nan))


def _distinct(points: Points) -> Points:
    """Without rows that repeat another in size, data and loss."""
    table = np.stack([points.need("params"), points.need("data"), points.loss], axis=1)
    return points.take(np.sort(np.unique(table, axis=0, return_index=True)[1]))


def _profile(points: Points, budgets: Budgets, number: int, scale: str, merge: float) -> Profile:
    rows = np.flatnonzero((budgets.codes == number) & (points.weights > 0))
    chosen = points.take(rows)
    y = chosen.loss if scale == "linear" else np.log(chosen.loss)
    profile = Profile(
        flops=float(budgets.flops[number]),
        rows=rows,
        params=chosen.need("params"),
        data=chosen.need("data"),
        y=y,
        w=chosen.weights,
    )
    return _merged(profile, merge) if merge and len(rows) else profile


def _merged(profile: Profile, merge: float) -> Profile:
    """Sizes closer than ``merge`` as one row with their mean; the row stands for the first of them."""
    order = np.argsort(profile.params, kind="stable")
    label = np.concatenate([[0], np.cumsum(np.diff(np.log(profile.params[order])) > merge)])
    count = np.bincount(label)

    def mean(values: FloatArray) -> FloatArray:
        return np.bincount(label, weights=values[order]) / count

    return Profile(
        flops=profile.flops,
        rows=profile.rows[order][np.concatenate([[0], np.cumsum(count)[:-1]])],
        params=np.exp(mean(np.log(profile.params))),
        data=np.exp(mean(np.log(profile.data))),
        y=mean(profile.y),
        w=mean(profile.w),
    )


def _weights(points: Points, resamples: int, rng: np.random.Generator) -> FloatArray:
    """Six-point weights (Webb 2023) of every row, one for all rows of a run, shape (resamples, n)."""
    return rng.choice(_WEBB, size=(resamples, points.n_clusters))[:, points.cluster_codes]


def _solve(
    profile: Profile, degree: int, resampling: str, flips: FloatArray, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Log N*, log D* and the fitted loss, shape (3,), and the same of every resample, shape (b, 3)."""
    m, b = len(profile.y), len(flips)
    if len(np.unique(profile.params)) <= degree:
        return np.full(3, np.nan), np.full((b, 3), np.nan)
    counts = rng.multinomial(m, np.full(m, 1.0 / m), size=b) if resampling == "rows" else np.ones((b, m))
    best, draws = np.empty(3), np.empty((b, 3))
    for axis, values in ((1, profile.data), (0, profile.params)):
        basis = _Basis(np.log(values), degree)
        fitted, leverage = basis.smooth(profile.y, profile.w)
        y = np.broadcast_to(profile.y, (b, m))
        if resampling == "wild":
            residual = (profile.y - fitted) / np.sqrt(np.maximum(1.0 - leverage, _LEAST_FREEDOM))
            y = fitted + flips[:, profile.rows] * residual
        best[axis], best[2] = (part[0] for part in basis.minimum(profile.y[None], profile.w[None]))
        draws[:, axis], draws[:, 2] = basis.minimum(y, counts * profile.w)
    lost = ~np.isfinite(draws).all(axis=1)
    draws[lost] = np.nan
    return (best if np.isfinite(best).all() else np.full(3, np.nan)), draws


class _Basis:
    """Powers of a scaled logarithm: t = (x - middle) / half range, which keeps the normal equations well behaved."""

    def __init__(self, x: FloatArray, degree: int) -> None:
        self.middle = float(x.mean())
        self.half = max(float(np.abs(x - self.middle).max()), 1e-12)
        self.powers = np.stack([((x - self.middle) / self.half) ** k for k in range(degree + 1)])

    def smooth(self, y: FloatArray, w: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Fitted values and leverages of the rows, each (m,)."""
        gram = (self.powers * w) @ self.powers.T
        inside = np.linalg.solve(gram, self.powers * w)
        return self.powers.T @ (inside @ y), np.einsum("km,km->m", self.powers, inside)

    def minimum(self, y: FloatArray, w: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Place and value of the minimum, each (b,), for y and w of shape (b, m); nan where there is none."""
        gram = (self.powers * w[:, None, :]) @ self.powers.T
        singular = np.linalg.cond(gram) > 1e10
        gram[singular] = np.eye(len(self.powers))
        coefficients = np.linalg.solve(gram, ((w * y) @ self.powers.T)[:, :, None])[:, :, 0]
        c1, c2 = coefficients[:, 1], coefficients[:, 2]
        c3 = coefficients[:, 3] if coefficients.shape[1] == 4 else np.zeros_like(c1)
        # The root of c1 + 2 c2 t + 3 c3 t^2 with positive second derivative, in the form that c3 = 0 does not harm.
        root = c2 * c2 - 3.0 * c1 * c3
        below = c2 + np.sqrt(np.maximum(root, 0.0))
        none = singular | (root <= 0.0) | (below <= 0.0)
        t = np.where(none, np.nan, -c1 / np.where(none, 1.0, below))
        value = np.sum(coefficients * np.stack([t**k for k in range(coefficients.shape[1])], axis=1), axis=1)
        return self.middle + self.half * t, value


def _describe(profile: Profile, best: FloatArray, degree: int, bracketed_only: bool) -> Optimum:
    sizes = int(places(profile.params).max()) + 1
    low, high = float(profile.params.min()), float(profile.params.max())
    flags: list[str] = []
    if sizes < degree + 2:
        flags.append("few-sizes")
    if not np.isfinite(best).all():
        flags.append("no-minimum")
    elif not np.log(low) <= best[0] <= np.log(high):
        flags.append("outside")
    unusable = {"few-sizes", "no-minimum"} | ({"outside"} if bracketed_only else set[str]())
    nan = (float("nan"), float("nan"))
    params, data, loss = (float(value) for value in np.exp(best))
    return Optimum(
        flops=profile.flops,
        n_rows=len(profile.y),
        n_sizes=sizes,
        params=params,
        data=data,
        loss=loss,
        params_interval=nan,
        data_interval=nan,
        loss_interval=nan,
        sizes=(low, high),
        used=not unusable & set(flags),
        flags=tuple(flags),
    )


def _notices(optima: tuple[Optimum, ...], degree: int, homeless: int) -> list[Notice]:
    def at(flag: str) -> str:
        return ", ".join(f"{optimum.flops:.3g}" for optimum in optima if flag in optimum.flags)

    texts = {
        "few-sizes": f"Fewer than {degree + 2} sizes at budget(s) {at('few-sizes')}: left out.",
        "no-minimum": f"No minimum (curvature not positive) at budget(s) {at('no-minimum')}: left out.",
        "outside": f"The minimum lies outside the sizes that were trained at budget(s) {at('outside')}: extrapolated."
        " Train sizes beyond it.",
    }
    notices = [Notice(code=code, message=text) for code, text in texts.items() if at(code)]
    if homeless:
        text = f"{homeless} rows lie near no budget and were left out."
        notices.append(Notice(code="no-budget", message=text))
    return notices
