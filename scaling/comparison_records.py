"""What a comparison of variants finds, as records with a JSON form."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from scaling.jsontypes import finite_json
from scaling.notices import Notice

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One hypothesis: the named parameters differ between variants, all others are shared.

    Attributes:
        vary: names of what differs; empty where variants share the whole law.
        n_parameters: free parameters of the joint law.
        rss: sum of squared residuals of log loss.
        likelihood_ratio: n log(rss of the shared law / rss), the likelihood-ratio statistic of Gaussian residuals.
        p_value: of the hypothesis that nothing differs, against this one, by the F test; nan for the shared law.
        aicc: Akaike's criterion with the correction for few rows, less that of the best candidate.
        bic: Schwarz's criterion, less that of the best candidate.
        converged: two starts reached the objective.
    """

    vary: tuple[str, ...]
    n_parameters: int
    rss: float
    likelihood_ratio: float
    p_value: float
    aicc: float
    bic: float
    converged: bool


@dataclass(frozen=True, kw_only=True)
class Effect:
    """How far a variant's parameter is from the baseline's.

    Attributes:
        variant: name of the variant.
        parameter: name of the parameter.
        kind: "ratio" for the floor and coefficients (variant over baseline), "difference" for exponents.
        value: the estimate.
        interval: percentile interval of the wild cluster bootstrap.
        clear: the interval holds neither ratio 1 nor difference 0.
    """

    variant: str
    parameter: str
    kind: Literal["ratio", "difference"]
    value: float
    interval: tuple[float, float]
    clear: bool


@dataclass(frozen=True, kw_only=True)
class Equivalent:
    """What a variant needs for the baseline's loss.

    Attributes:
        variant: name of the variant.
        axis: "flops" at the compute-optimal split, or the axis of a one-axis law.
        at: how much the baseline is given.
        loss: the baseline's loss there.
        ratio: what the variant needs for that loss over ``at``; inf where it does not get there.
        interval: of the ratio.
    """

    variant: str
    axis: str
    at: float
    loss: float
    ratio: float
    interval: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Which parameters of a law differ between variants.

    Attributes:
        law: name of the law.
        formula: plain text.
        baseline: the variant that the others are compared with.
        variants: names, the baseline first.
        counts: rows of each.
        n_points: rows.
        n_clusters: independent units.
        paired: places at which several variants have one run each; these were resampled together.
        level: level of the intervals.
        bootstrap: resamples.
        seed: their seed.
        centre: geometric mean of every axis, where coefficients are compared.
        candidates: all hypotheses, the one with the least BIC first.
        effects: parameters of the first candidate, by variant; those of the widest where the first has none.
        equivalents: compute for equal loss, of the same candidate.
        sentences: what a reader should take away.
        notices: warnings.
    """

    law: str
    formula: str
    baseline: str
    variants: tuple[str, ...]
    counts: tuple[int, ...]
    n_points: int
    n_clusters: int
    paired: int
    level: float
    bootstrap: int
    seed: int
    centre: dict[str, float]
    candidates: tuple[Candidate, ...]
    effects: tuple[Effect, ...]
    equivalents: tuple[Equivalent, ...]
    sentences: tuple[str, ...] = ()
    notices: tuple[Notice, ...] = ()

    @property
    def selected(self) -> Candidate:
        """The candidate with the least BIC."""
        return self.candidates[0]

    def to_json(self) -> dict[str, Any]:
        """The result as JSON types; nan and infinity become null."""
        return {"schema": SCHEMA, **finite_json(asdict(self))}
