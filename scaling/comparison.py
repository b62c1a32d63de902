"""Does a technique change the law, and which part of it? Joint fits of several variants, compared.

Every candidate lets some parameters differ between variants and shares the rest. All are fitted by least squares on log
loss, the maximum likelihood of Gaussian residuals. Candidates are ranked by BIC; each is tested against the shared law
by the F statistic of the two sums of squares, which is the likelihood ratio n log(rss0 / rss1) referred to the
distribution that it has with few rows, where chi-square rejects too often. Test and criteria count rows as independent;
intervals of effects do not: they are from a wild bootstrap of whole clusters (Webb 2023), which keeps the design.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from scaling.bootstrap import wild_residuals
from scaling.comparison_notes import notices, sentences
from scaling.comparison_records import Candidate, Comparison, Effect, Equivalent
from scaling.distributions import fisher_tail
from scaling.errors import FitInputError
from scaling.estimates import interval_bounds
from scaling.fitting import check_options
from scaling.joint import Joint, joint
from scaling.laws import Law, get_law
from scaling.losses import LEAST_SQUARES
from scaling.points import FloatArray, Points, places
from scaling.problem import Optimum, Problem, pose, resolve, solve

_MANY = 5  # parameters above which pairs would be too many hypotheses
_SPAN = 3.0  # decades of compute to both sides in which an equal loss is looked for
_GRID = 3001

IntArray = npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class _Fitted:
    """A candidate with its fit."""

    candidate: Candidate
    problem: Problem
    optimum: Optimum
    law: Joint


def compare(
    points: Points,
    variants: Sequence[str] | npt.NDArray[np.str_],
    *,
    law: str = "chinchilla",
    baseline: str | None = None,
    vary: Sequence[str] = (),
    bootstrap: int = 1000,
    level: float = 0.8,
    seed: int = 0,
    flops_per: float | None = None,
) -> Comparison:
    """Fit variants jointly and say which parameters of the law differ.

    Args:
        points: measured losses of all variants, of one validation set.
        variants: name of every row's variant, shape (n,).
        law: name of the law that every variant follows.
        baseline: variant that the others are compared with; the one with most rows by default.
        vary: parameters that may differ; all of the law's by default.
        bootstrap: resamples of the clusters; 0 leaves intervals out.
        level: level of the intervals.
        seed: seed of the resamples.
        flops_per: k in C = k N D where the points carry no flops.

    Returns:
        Candidates, effects, equivalent compute, and sentences.

    Raises:
        FitInputError: fewer than two variants, an unknown baseline, law or parameter, or too few points.
    """
    check_options(bootstrap, level)
    base = get_law(law)
    names, codes = _variants(points, variants, baseline)
    order = points.order()
    points, codes = points.take(order), codes[order]
    flops_per = points.flops_per or flops_per
    shared = pose(base, points, LEAST_SQUARES, flops_per)
    allowed = joint(base, len(names), vary or base.parameters).vary
    _check_rows(base, codes, names, allowed)
    fitted = _fit_all(shared, codes, len(names), allowed)
    clusters, paired = _clusters(points, shared.x, codes)
    described = fitted[0] if fitted[0].candidate.vary else max(fitted, key=lambda each: each.candidate.n_parameters)
    draws = _draws(described, clusters, bootstrap, seed)
    result = Comparison(
        law=base.name,
        formula=base.formula,
        baseline=names[0],
        variants=tuple(names),
        counts=tuple(int(count) for count in np.bincount(codes)),
        n_points=points.n,
        n_clusters=len(np.unique(clusters)),
        paired=paired,
        level=level,
        bootstrap=bootstrap,
        seed=seed,
        centre={axis: float(np.exp(c)) for axis, c in zip(base.axes, shared.frame.centre, strict=True)},
        candidates=tuple(each.candidate for each in fitted),
        effects=tuple(_effects(described, draws, names, level)),
        equivalents=tuple(_equivalents(described, draws, points, codes, names, level, flops_per)),
    )
    result = replace(result, sentences=sentences(result))
    return replace(
        result, notices=notices(result, n_runs=np.unique(np.stack([points.cluster_codes, codes]), axis=1).shape[1])
    )


def _variants(
    points: Points, variants: Sequence[str] | npt.NDArray[np.str_], baseline: str | None
) -> tuple[list[str], IntArray]:
    """Names, the baseline first, and the number of every row's variant."""
    labels = np.asarray(variants).astype(np.str_)
    if labels.shape != (points.n,):
        raise FitInputError(f"variants has shape {labels.shape} and there are {points.n} points; they must match")
    names, counts = np.unique(labels, return_counts=True)
    if len(names) < 2:
        raise FitInputError(f"all points are of one variant ('{names[0]}'): a comparison needs at least two")
    if baseline is None:
        baseline = str(names[np.argmax(counts)])
    if baseline not in names:
        raise FitInputError(f"no variant is called '{baseline}': valid: {', '.join(map(str, names))}")
    ordered = [baseline, *(str(name) for name in names if name != baseline)]
    number = {name: i for i, name in enumerate(ordered)}
    return ordered, np.array([number[str(label)] for label in labels], dtype=np.intp)


def _check_rows(law: Law, codes: IntArray, names: Sequence[str], vary: Sequence[str]) -> None:
    needed = len(law.parameters) + (len(names) - 1) * len(vary) + 1
    if len(codes) < needed:
        raise FitInputError(
            f"{len(codes)} points cannot tell {len(vary)} parameters of {len(names)} variants apart: at least"
            f" {needed}, or let fewer differ with vary"
        )
    for variant, count in enumerate(np.bincount(codes, minlength=len(names))):
        if count < len(vary):
            raise FitInputError(
                f"variant '{names[variant]}' has {count} points for {len(vary)} parameters that may differ: add"
                " points, or let fewer differ with vary"
            )


def _fit_all(shared: Problem, codes: IntArray, n_variants: int, allowed: tuple[str, ...]) -> list[_Fitted]:
    """Every candidate, the one with the least BIC first."""
    sizes = range(len(allowed) + 1) if len(allowed) < 3 else (0, 1, 2, len(allowed))
    sizes = (0, 1, len(allowed)) if len(allowed) > _MANY else sizes
    choices = [choice for size in sizes for choice in itertools.combinations(allowed, size)]
    found: list[_Fitted] = []
    for choice in choices:
        law = joint(shared.law, n_variants, choice)
        problem = replace(shared, law=law, x=np.vstack([shared.x, codes]))
        optimum = solve(problem)
        rss = 2.0 * optimum.objective
        reference = found[0].candidate if found else None
        candidate = _candidate(choice, len(law.parameters), rss, len(codes), optimum.converged, reference)
        found.append(_Fitted(candidate=candidate, problem=problem, optimum=optimum, law=law))
    aicc, bic = (min(getattr(each.candidate, name) for each in found) for name in ("aicc", "bic"))
    relative = [
        replace(each, candidate=replace(each.candidate, aicc=each.candidate.aicc - aicc, bic=each.candidate.bic - bic))
        for each in found
    ]
    return sorted(relative, key=lambda each: each.candidate.bic)


def _candidate(
    vary: tuple[str, ...], p: int, rss: float, n: int, converged: bool, shared: Candidate | None
) -> Candidate:
    rss = max(rss, 1e-28 * n)  # rows that a law meets exactly would have no likelihood
    k = p + 1  # the variance of the residuals is estimated too
    ratio, p_value = 0.0, float("nan")
    if shared is not None:
        ratio = n * float(np.log(shared.rss / rss))
        freed, left = p - shared.n_parameters, n - p
        p_value = fisher_tail(max(shared.rss / rss - 1.0, 0.0) * left / freed, freed, left) if left > 0 else 1.0
    deviance = n * float(np.log(rss / n))
    correction = 2.0 * k * (k + 1) / (n - k - 1) if n > k + 1 else float("inf")
    return Candidate(
        vary=vary,
        n_parameters=p,
        rss=rss,
        likelihood_ratio=ratio,
        p_value=p_value,
        aicc=deviance + 2.0 * k + correction,
        bic=deviance + k * float(np.log(n)),
        converged=converged,
    )


def _clusters(points: Points, x: FloatArray, codes: IntArray) -> tuple[IntArray, int]:
    """What is resampled together: runs, those of different variants at one place as one; and how many are such."""
    runs = np.unique(points.cluster_codes * (int(codes.max()) + 1) + codes, return_inverse=True)[1]
    n_runs = int(runs.max()) + 1
    ends = np.full((len(x), n_runs), -np.inf)  # the place of a run is where it ends
    for axis, row in enumerate(x):
        np.maximum.at(ends[axis], runs, row)
    numbered = np.stack([places(np.exp(row)) for row in ends])
    place = np.unique(numbered, axis=1, return_inverse=True)[1].ravel()
    variant = np.zeros(n_runs, dtype=np.intp)
    variant[runs] = codes
    table = np.zeros((int(codes.max()) + 1, int(place.max()) + 1), dtype=np.intp)
    np.add.at(table, (variant, place), 1)
    paired = (table.max(axis=0) == 1) & (table.sum(axis=0) > 1)
    labels = np.where(paired[place], place, len(paired) + np.arange(n_runs))
    return np.unique(labels[runs], return_inverse=True)[1].astype(np.intp), int(paired.sum())


def _draws(fitted: _Fitted, clusters: IntArray, count: int, seed: int) -> FloatArray:
    """theta of every resample, shape (b, p)."""
    theta = fitted.optimum.theta
    if count == 0:
        return np.empty((0, len(theta)))
    n_clusters, rng = int(clusters.max()) + 1, np.random.default_rng(seed)
    y, w = wild_residuals(fitted.problem, fitted.optimum, None, clusters, n_clusters, count, rng)
    return resolve(fitted.problem, theta, y, w).theta


def _effects(fitted: _Fitted, draws: FloatArray, names: Sequence[str], level: float) -> list[Effect]:
    law, found = fitted.law, list[Effect]()
    logarithmic = {law.law.floor, *law.law.coefficients}
    for variant, name in enumerate(names[1:], start=1):
        change = law.of_variant(fitted.optimum.theta[None], variant) - law.of_variant(fitted.optimum.theta[None], 0)
        spread = law.of_variant(draws, variant) - law.of_variant(draws, 0)
        for i, parameter in enumerate(law.law.parameters):
            if parameter not in law.vary:
                continue
            low, high = _quantiles(spread[:, i], level)
            ratio = parameter in logarithmic
            value, interval = float(change[0, i]), (low, high)
            found.append(
                Effect(
                    variant=name,
                    parameter=parameter,
                    kind="ratio" if ratio else "difference",
                    value=float(np.exp(value)) if ratio else value,
                    interval=(float(np.exp(low)), float(np.exp(high))) if ratio else interval,
                    clear=low > 0 or high < 0,
                )
            )
    return found


def _quantiles(draws: FloatArray, level: float) -> tuple[float, float]:
    if not len(draws):
        return float("nan"), float("nan")
    low, high = np.quantile(draws, interval_bounds(level), method="nearest")  # draws may be infinite
    return float(low), float(high)


def _equivalents(
    fitted: _Fitted,
    draws: FloatArray,
    points: Points,
    codes: IntArray,
    names: Sequence[str],
    level: float,
    flops_per: float | None,
) -> list[Equivalent]:
    """What every variant needs for the baseline's loss, at the most that both were given."""
    law, frame = fitted.law.law, fitted.problem.frame
    axis = law.axes[0] if len(law.axes) == 1 else "flops"
    given = points.axis(axis, flops_per)
    if given is None or (len(law.axes) > 1 and not law.compute_optimal(np.ones((1, len(law.parameters))))):
        return []
    theta = np.concatenate([fitted.optimum.theta[None], draws])
    natural = [law.to_natural(fitted.law.of_variant(theta, v), frame) for v in range(len(names))]
    found: list[Equivalent] = []
    for variant, name in enumerate(names[1:], start=1):
        at = min(float(given[codes == 0].max()), float(given[codes == variant].max()))
        needed = _best_losses(law, natural[0], np.array([at]), flops_per)[:, 0]
        grid = at * np.logspace(-_SPAN, _SPAN, _GRID)
        ratios = _crossing(_best_losses(law, natural[variant], grid, flops_per), needed, grid / at)
        found.append(
            Equivalent(
                variant=name,
                axis=axis,
                at=at,
                loss=float(needed[0]),
                ratio=float(ratios[0]),
                interval=_quantiles(ratios[1:], level),
            )
        )
    return found


def _best_losses(law: Law, natural: FloatArray, budgets: FloatArray, flops_per: float | None) -> FloatArray:
    """Loss at budgets, shape (batch, m): along the axis of a one-axis law, else at the compute-optimal split."""
    if len(law.axes) == 1:
        return law.predict(natural, np.log(budgets)[None])
    best = law.frontier(natural, budgets, flops_per or 1.0)
    if best is None:
        raise FitInputError(f"law '{law.name}' has no compute-optimal split")
    return best[2]


def _crossing(losses: FloatArray, needed: FloatArray, ratios: FloatArray) -> FloatArray:
    """Where falling losses (b, m) on a grid of ratios (m,) meet what is needed (b,): 0 or inf beyond the grid."""
    logs: FloatArray = np.log(ratios)
    out = np.empty(len(losses))
    for i, (row, target) in enumerate(zip(losses, needed, strict=True)):
        crossing = float(np.interp(-float(target), -row, logs, left=-np.inf, right=np.inf))
        out[i] = np.exp(crossing)
    return out
