"""Cuts and weights: what is read, what is refused and with what hint, and what they do."""

from __future__ import annotations

import math

import numpy as np
import pytest

from prx_scale.data.filters.cuts import Kind, check_cut, parse_cut, passes, shown, threshold
from prx_scale.data.filters.weights import (
    Boost,
    Inverse,
    boosted,
    check_weight,
    effective,
    normalised,
    parse_weight,
    rarity,
)
from prx_scale.errors import InputError

COLUMNS: dict[str, Kind] = {"aesthetic": "number", "min_side": "number", "label": "text", "duplicate_of": "text"}
NAN = math.nan


@pytest.mark.parametrize(
    ("text", "column", "sign", "number", "quantile", "or_none"),
    [
        ("aesthetic>=5", "aesthetic", ">=", 5.0, None, False),
        (" min_side > 1e3 ", "min_side", ">", 1000.0, None, False),
        ("clip_similarity>=q0.2", "clip_similarity", ">=", None, 0.2, False),
        ("p.watermark<-0.5 or none", "p.watermark", "<", -0.5, None, True),
        ("a<=q1 or none", "a", "<=", None, 1.0, True),
        ("cluster!=3", "cluster", "!=", 3.0, None, False),
        ("duplicate_of==", "duplicate_of", "==", None, None, False),
        ("label !=", "label", "!=", None, None, False),
    ],
)
def test_conditions_are_read(
    text: str, column: str, sign: str, number: float | None, quantile: float | None, or_none: bool
) -> None:
    cut = parse_cut(text)
    assert (cut.column, cut.sign, cut.number, cut.quantile, cut.or_none) == (column, sign, number, quantile, or_none)
    assert cut.text == text.strip()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a condition; right is SCORE"),
        ("aesthetic", "as in aesthetic>=5"),
        ("aesthetic=5", "not a condition"),
        (">=5", "not a condition"),
        ("aesthetic>=", "no value after >="),
        ("aesthetic>=five", "'five' is neither a number nor a quantile"),
        ("aesthetic>=nan", "'nan' is neither"),
        ("aesthetic>=inf", "'inf' is neither"),
        ("aesthetic>=q1.5", "q1.5 is not a quantile; q0 to q1"),
        ("aesthetic>=q0.2.1", "is not a quantile"),
        ("aesthetic=>5", "not a condition"),
        ("label== or none", "no value after =="),
        ("aesthetic>=5 or nothing", "'5 or nothing' is neither"),
    ],
)
def test_what_is_no_condition_is_refused(text: str, words: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_cut(text)
    assert words in str(refused.value) and "--cut" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("aestetic>=5", "no score 'aestetic'; did you mean 'aesthetic'?"),
        ("label>=5", "label is text; right is 'label=='"),
        ("aesthetic==", "aesthetic is a number; right is for example aesthetic>=q0.2"),
    ],
)
def test_conditions_that_scores_cannot_answer_are_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match="--cut") as refused:
        check_cut(parse_cut(text), COLUMNS)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a>=2", [False, True, True, False]),
        ("a>2", [False, False, True, False]),
        ("a<=2", [True, True, False, False]),
        ("a<2", [True, False, False, False]),
        ("a==2", [False, True, False, False]),
        ("a!=2", [True, False, True, False]),
        ("a>=2 or none", [False, True, True, True]),
        ("a!=2 or none", [True, False, True, True]),
        ("a>=q0.5", [False, True, True, False]),
        ("a>q1", [False, False, False, False]),
    ],
)
def test_a_missing_score_passes_only_where_it_is_said(text: str, kept: list[bool]) -> None:
    values, cut = np.array([1.0, 2.0, 3.0, NAN]), parse_cut(text)
    assert passes(cut, values, threshold(cut, values)).tolist() == kept


def test_a_quantile_keeps_its_share() -> None:
    values = np.random.default_rng(0).normal(size=10_000)
    cut = parse_cut("a>=q0.2")
    number = threshold(cut, values)
    assert passes(cut, values, number).mean() == pytest.approx(0.8, abs=1e-3)
    assert shown(cut, number) == f"a >= {number:.4g}"
    assert math.isnan(threshold(cut, np.full(3, NAN)))
    assert not passes(cut, np.full(3, NAN), NAN).any()


def test_weights_are_read() -> None:
    boost, rare = parse_weight("aesthetic>=q0.9:2"), parse_weight("inverse:cluster^0.5")
    assert isinstance(boost, Boost) and isinstance(rare, Inverse)
    assert (boost.column, boost.cut.quantile, boost.factor) == ("aesthetic", 0.9, 2.0)
    assert (rare.column, rare.power) == ("cluster", 0.5)
    assert parse_weight("inverse:label") == Inverse(text="inverse:label", column="label")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("aesthetic>=5", "no factor above 0 after a colon"),
        ("aesthetic>=5:0", "no factor above 0"),
        ("aesthetic>=5:inf", "no factor above 0"),
        ("aesthetic:2", "not a condition"),
        ("inverse:cluster^-1", "'-1' is not a power above 0"),
        ("inverse:cluster^", "'' is not a power"),
        ("inverse:", "no factor above 0"),
    ],
)
def test_what_is_no_weight_is_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_weight(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("inverse:labl", "did you mean 'label'"),
        ("inverse:duplicate_of", "is no group"),
        ("label!=:2", "inverse:label weights by it"),
        ("min_sid>=5:2", "did you mean 'min_side'"),
    ],
)
def test_weights_that_scores_cannot_answer_are_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_weight(parse_weight(text), COLUMNS)


def test_the_top_of_what_is_kept_weighs_more() -> None:
    values = np.arange(100.0)
    keep = values >= 50
    boost = parse_weight("a>=q0.9:3")
    assert isinstance(boost, Boost)
    factors, number = boosted(boost, values, keep)
    assert number == pytest.approx(94.1)
    weights = normalised(factors, keep)
    assert weights[keep].mean() == pytest.approx(1) and not weights[~keep].any()
    assert weights[99] / weights[60] == pytest.approx(3)
    assert effective(weights) == pytest.approx((5 * 3 + 45) ** 2 / (5 * 9 + 45))


def test_rare_values_weigh_more_and_missing_ones_are_left_alone() -> None:
    codes, keep = np.array([0] * 8 + [1] * 2 + [-1] * 2 + [1]), np.array([True] * 12 + [False])
    rare = Inverse(text="", column="c", power=1.0)
    factors = rarity(rare, codes, keep)
    assert factors[:8].sum() == pytest.approx(factors[8:10].sum())  # each value has the same share of what is seen
    assert factors[8] / factors[0] == pytest.approx(4)
    assert factors[:10].mean() == pytest.approx(1) and factors[10:12].tolist() == [1, 1]
    assert rarity(Inverse(text="", column="c", power=0.5), codes, keep)[8] / factors[8] < 1


def test_nothing_kept_weighs_nothing() -> None:
    assert normalised(np.ones(3), np.zeros(3, dtype=np.bool_)).tolist() == [0, 0, 0]
    assert effective(np.zeros(3, dtype=np.float32)) == 0
