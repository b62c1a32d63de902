"""What a backtest says, in sentences that a user can act on."""

from __future__ import annotations

from scaling.backtest_records import MAX_REACH, Backtest, Bin, Standing
from scaling.notices import Notice

_EXACT = 1e-6  # mean abs log error below which a law meets the points, and signs are rounding
_CONSTANT = 0.9  # share of the cuts with one sign above which the sign counts as constant
_NARROW = 0.1  # coverage that far below its level is too little


def notices(result: Backtest) -> tuple[Notice, ...]:
    """Rank of the laws, constant signs, and intervals that were too narrow.

    Args:
        result: the backtest; its own notices are not looked at.
    """
    notes = [_rank_notice(result)]
    notes += [_sign_notice(each, result.n_cuts) for each in result.standings]
    notes += [_coverage_notice(each, result.level) for each in result.bins]
    if result.n_cuts < 3:
        made = "one cut was" if result.n_cuts == 1 else f"{result.n_cuts} cuts were"
        text = f"Only {made} made: that is an anecdote, not a test. Give runs that end at more amounts of compute."
        notes.append(Notice(code="few-cuts", message=text))
    return tuple(note for note in notes if note is not None)


def _rank_notice(result: Backtest) -> Notice | None:
    if len(result.standings) < 2:
        return None
    best, second = result.standings[:2]
    text = (
        f"{best.law} extrapolates best: mean absolute log error {best.weighted_abs:.4f} (far predictions weigh more)"
        f" up to {MAX_REACH:g} times the compute fitted, against {second.weighted_abs:.4f} for {second.law}."
    )
    if best.law.startswith("power_floor:"):
        text += " A law in one variable sees no difference between runs that spend it differently."
    return Notice(code="best-law", message=text)


def _sign_notice(standing: Standing, n_cuts: int) -> Notice | None:
    same = max(standing.n_high, standing.n_low)
    if n_cuts < 3 or same < _CONSTANT * n_cuts or standing.score.mean_abs < _EXACT:
        return None
    word = "high" if standing.n_high == same else "low"
    text = (
        f"{standing.law} predicts too {word} at {same} of {n_cuts} cuts"
        f" (mean signed log error {standing.score.mean_signed:+.4f}): a constant sign is misspecification, not noise."
        " Its extrapolations are off to that side; try another law, or leave out runs that are not in its regime."
    )
    return Notice(code="constant-sign", message=text)


def _coverage_notice(each: Bin, level: float) -> Notice | None:
    if not each.score.coverage < level - _NARROW:
        return None
    text = (
        f"{each.law}: at {each.low:g} to {each.high:g} times the compute fitted, {each.score.coverage:.0%} of"
        f" {each.score.n} predictions ({each.n_rows} rows) lie in their {level:.0%} interval: intervals that far out"
        " are too narrow on these points."
    )
    return Notice(code="narrow-intervals", message=text)
