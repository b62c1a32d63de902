"""What a comparison of variants comes to, in sentences with numbers, and what to distrust about it."""

from __future__ import annotations

import math

from scaling.comparison_records import Candidate, Comparison, Effect, Equivalent
from scaling.notices import Notice

_CLOSE = 2.0  # difference of BIC below which two candidates cannot be told apart (Kass and Raftery 1995)
_FEW_CLUSTERS = 10
_AXES = {"flops": "FLOPs", "data": "data", "params": "params", "steps": "steps"}


def sentences(result: Comparison) -> tuple[str, ...]:
    """One on what differs, then for every variant its effects and its compute for equal loss."""
    lines = [_verdict(result)]
    for variant in result.variants[1:]:
        effects = [effect for effect in result.effects if effect.variant == variant]
        if result.selected.vary:
            lines.append(_effects_sentence(result, variant, effects))
        lines += [_equivalent_sentence(each, result) for each in result.equivalents if each.variant == variant]
    return tuple(lines)


def listing(names: tuple[str, ...] | list[str], joint: str = "and") -> str:
    """Names as in a sentence: ``A``, ``A and E``, ``A, B and E``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {joint} {names[-1]}"


def _verdict(result: Comparison) -> str:
    chosen, close = result.selected, rivals(result)
    if not chosen.vary:
        least = min((each.p_value for each in result.candidates if each.vary), default=1.0)
        text = (
            f"No parameter of the law differs between {listing(result.variants)} as far as these"
            f" {result.n_points} points can tell: sharing all of them has the least BIC (smallest p of a difference"
            f" {least:.2g}, not corrected for {len(result.candidates) - 1} tests)."
        )
    else:
        text = (
            f"Letting {listing(chosen.vary)} differ between {listing(result.variants)} and sharing the rest explains"
            f" the points best ({_p(chosen.p_value)} against no difference)."
        )
    if close:
        others = "; ".join(_described(each) for each in close)
        text += f" They do not tell this from: {others}."
    return text


def rivals(result: Comparison) -> list[Candidate]:
    """Candidates that are about as good as the selected one and are no mere extension of it."""
    chosen = set(result.selected.vary)
    return [each for each in result.candidates[1:] if each.bic < _CLOSE and not (chosen and chosen < set(each.vary))]


def _described(candidate: Candidate) -> str:
    what = f"{listing(candidate.vary)} differing" if candidate.vary else "no difference"
    return f"{what} (BIC +{candidate.bic:.1f})"


def _p(value: float) -> str:
    return "p < 0.0001" if value < 1e-4 else f"p = {value:.2g}"


def _effects_sentence(result: Comparison, variant: str, effects: list[Effect]) -> str:
    clear = [_effect_words(effect, result) for effect in effects if effect.clear]
    unclear = [effect.parameter for effect in effects if not effect.clear and not math.isnan(effect.interval[0])]
    parts = [f"{variant} {listing(clear)}"] if clear else []
    if not parts and not unclear:
        parts = [f"{variant} {listing([_effect_words(effect, result) for effect in effects])}"]
    if unclear:
        them = listing(unclear)
        verb = "is" if len(unclear) == 1 else "are"
        parts.append(f"{them if clear else f'{variant}: {them}'} {verb} not distinguishable from {result.baseline}")
    shared = [name for name in _allowed(result) if name not in result.selected.vary]
    if shared:
        parts.append(f"nothing speaks for a different {listing(shared, 'or')}")
    return "; ".join(parts) + "."


def _allowed(result: Comparison) -> tuple[str, ...]:
    return max((each.vary for each in result.candidates), key=len)


def _effect_words(effect: Effect, result: Comparison) -> str:
    low, high = effect.interval
    if effect.kind == "difference":
        verb = "raises" if effect.value > 0 else "lowers"
        span = "" if math.isnan(low) else f" ({result.level:.0%} interval {low:+.4f} to {high:+.4f})"
        return f"{verb} {effect.parameter} by {abs(effect.value):.4f}{span}"
    verb = "raises" if effect.value > 1 else "lowers"
    low, high = sorted(
        abs(bound - 1.0) if (bound > 1) == (effect.value > 1) else -abs(bound - 1.0) for bound in (low, high)
    )
    span = "" if math.isnan(low) else f" ({result.level:.0%} interval {low:.1%} to {high:.1%})"
    return f"{verb} {effect.parameter} by {abs(effect.value - 1.0):.1%}{span}"


def _equivalent_sentence(each: Equivalent, result: Comparison) -> str:
    what = "compute" if each.axis == "flops" else _AXES[each.axis]
    where = f"{result.baseline}'s loss of {each.loss:.4f} at {each.at:.3g} {_AXES[each.axis]}"
    if math.isinf(each.ratio):
        return f"{each.variant} does not reach {where} with a thousand times the {what}."
    low, high = each.interval
    upper = "beyond 1000" if math.isinf(high) else f"{high:.3g}"
    span = "" if math.isnan(low) else f" ({result.level:.0%} interval {low:.3g} to {upper})"
    return f"{each.variant} needs {each.ratio:.3g} times the {what}{span} for {where}."


def notices(result: Comparison, *, n_runs: int) -> tuple[Notice, ...]:
    """Warnings.

    Args:
        result: the comparison.
        n_runs: independent runs of all variants.
    """
    found: list[Notice] = []
    if n_runs < result.n_points:
        message = (
            f"p and BIC take the {result.n_points} rows as independent, and they come from {n_runs} runs:"
            " they overstate what is known. The intervals resample whole runs; trust those."
        )
        found.append(Notice(code="rows-not-independent", message=message))
    if result.n_clusters < _FEW_CLUSTERS and result.bootstrap:
        message = f"Only {result.n_clusters} independent units: intervals from so few are rough and usually too narrow."
        found.append(Notice(code="few-clusters", message=message))
    failed = [_described(each) for each in result.candidates if not each.converged]
    if failed:
        message = f"Starts disagree for {'; '.join(failed)}: these may fit better than they seem to."
        found.append(Notice(code="starts-disagree", message=message))
    return tuple(found)
