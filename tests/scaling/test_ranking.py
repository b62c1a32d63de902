"""Non-dominated sorting against its definition, invariances of the ranking, and what the published tables allow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scaling import FitInputError
from scaling.ranking import fronts, rank
from tests.scaling.conftest import PUBLISHED, read_rows

DIRECTIONS = {"clip": "max", "fid": "min"}
small = arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(1, 3)), elements=st.integers(0, 4).map(float))


def by_definition(values):
    """1 + the longest chain of rows of which each dominates the next, ending at the row."""

    def dominates(a, b):
        return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))

    def depth(i):
        return 1 + max((depth(j) for j in range(len(values)) if dominates(values[j], values[i])), default=0)

    return [depth(i) for i in range(len(values))]


@settings(max_examples=100, deadline=None)
@given(small)
def test_fronts_are_those_of_the_definition(values):
    assert fronts(values).tolist() == by_definition(values)


def test_fronts_of_a_drawn_example():
    values = np.array([[1, 5], [2, 2], [5, 1], [2, 5], [3, 3], [6, 6], [2, 2]], dtype=float)
    assert fronts(values).tolist() == [1, 1, 1, 2, 2, 3, 1]
    assert fronts(np.empty((0, 2))).tolist() == []
    assert fronts(np.array([[3.0], [1.0], [2.0], [1.0]])).tolist() == [3, 1, 2, 1]


@st.composite
def tables(draw):
    """Rows of some variants in some settings, two metrics, ties likely, some rows missing."""
    n, k = draw(st.integers(2, 6)), draw(st.integers(1, 4))
    keep = draw(arrays(np.bool_, n * k, elements=st.booleans()))
    keep[0] = True
    rows = [(f"v{i}", f"s{j}") for i in range(n) for j in range(k)]
    values = draw(arrays(np.float64, (n * k, 2), elements=st.integers(0, 5).map(float)))
    return [row for row, there in zip(rows, keep, strict=True) if there], values[keep]


def ranked(rows, values, **changes):
    metrics = {"clip": values[:, 0], "fid": values[:, 1]}
    result = rank([v for v, _ in rows], [s for _, s in rows], metrics, DIRECTIONS, **{"resamples": 0, **changes})
    return {each.variant: (each.rank, each.settings, each.first) for each in result.standings}


@settings(max_examples=60, deadline=None)
@given(tables(), st.integers(0, 1000))
def test_ranks_do_not_depend_on_scales_order_names_of_settings_or_their_duplicates(table, seed):
    rows, values = table
    expected = ranked(rows, values)
    monotone = np.stack([np.exp(values[:, 0]) - 7, 3 * values[:, 1] ** 3 + 1], axis=1)
    assert ranked(rows, monotone) == expected
    order = np.random.default_rng(seed).permutation(len(rows))
    assert ranked([rows[i] for i in order], values[order]) == expected
    assert ranked([(v, f"other {s}") for v, s in rows], values) == expected
    twice = ranked(rows + [(v, f"{s} again") for v, s in rows], np.concatenate([values, values]))
    assert {name: each[0] for name, each in twice.items()} == {name: each[0] for name, each in expected.items()}


@settings(max_examples=40, deadline=None)
@given(tables())
def test_a_direction_is_a_sign(table):
    rows, values = table
    turned = np.stack([-values[:, 0], values[:, 1]], axis=1)
    result = rank(
        [v for v, _ in rows],
        [s for _, s in rows],
        {"clip": turned[:, 0], "fid": turned[:, 1]},
        {"clip": "min", "fid": "min"},
        resamples=0,
    )
    assert {each.variant: each.rank for each in result.standings} == {
        name: each[0] for name, each in ranked(rows, values).items()
    }


def test_a_missing_value_costs_the_setting_only():
    values = np.array([[0.3, 10.0], [0.2, 20.0], [0.3, np.nan], [0.2, 20.0]])
    result = rank(["a", "b", "a", "b"], ["x", "x", "y", "y"], {"clip": values[:, 0], "fid": values[:, 1]}, DIRECTIONS)
    assert result.dropped == (("a", "y", "fid"),) and result.incomplete == ("a",)
    assert {each.variant: each.fronts for each in result.standings} == {"a": {"x": 1}, "b": {"x": 2, "y": 1}}
    assert result.standings[0].rank == 1.0 and result.standings[1].rank == 1.5


def test_intervals_come_from_settings():
    rng = np.random.default_rng(0)
    variants, places = np.repeat(["good", "bad"], 20), np.tile([f"s{i:02d}" for i in range(20)], 2)
    score = np.where(variants == "good", 1.0, 0.0) + 0.8 * rng.standard_normal(40)
    result = rank(variants.tolist(), places.tolist(), {"m": score}, {"m": "max"}, level=0.9)
    best, worst = result.standings
    assert best.variant == "good" and best.interval[1] < worst.interval[0]
    assert best.interval[0] <= best.rank <= best.interval[1]
    alone = rank(["a", "b"], ["x", "x"], {"m": [1.0, 2.0]}, {"m": "max"})
    assert np.isnan(alone.standings[0].interval).all()


def sd3(table: str):
    path = PUBLISHED.parent / "sd3" / f"{table}.csv"
    if not path.exists():
        pytest.skip("the published tables are not beside this checkout")
    return read_rows(path)


def test_published_ranks_are_means_of_fronts_over_24_and_4_settings():
    """Table 1 of arXiv 2403.03206 prints two digits: only means of that many whole numbers round to them."""
    for row in sd3("table1_ranking"):
        for column, settings_ in (("rank_all", 24), ("rank_5_steps", 4), ("rank_50_steps", 4)):
            total = float(row[column]) * settings_
            assert abs(round(total) / settings_ - float(row[column])) <= 0.00501


def test_published_scores_rank_as_the_paper_concludes():
    """Table 2: ten formulations at 25 steps on two datasets; the paper goes on with rf/lognorm(0.00,1.00)."""
    rows = sd3("table2_variants")
    names = [row["variant"] for row in rows] * 2
    places = ["imagenet"] * len(rows) + ["cc12m"] * len(rows)
    metrics = {m: [float(row[f"{place}_{m}"]) for place in ("imagenet", "cc12m") for row in rows] for m in DIRECTIONS}
    result = rank(names, places, metrics, DIRECTIONS)
    position = {each.variant: each for each in result.standings}
    assert position["rf/lognorm(0.00,1.00)"].fronts["cc12m"] == 1
    assert position["rf/lognorm(0.00,1.00)"].rank < position["rf"].rank < position["v/linear"].rank + 0.01
    assert result.standings[-1].variant == "edm(-1.20,1.20)"


def test_bad_input_is_refused():
    with pytest.raises(FitInputError, match="variant 'a' is in setting 'x' twice"):
        rank(["a", "a"], ["x", "x"], {"m": [1.0, 2.0]}, {"m": "max"})
    with pytest.raises(FitInputError, match="direction of m is 'up'"):
        rank(["a"], ["x"], {"m": [1.0]}, {"m": "up"})
    with pytest.raises(FitInputError, match="2 variants and 1 settings"):
        rank(["a", "b"], ["x"], {"m": [1.0, 2.0]}, {"m": "max"})
    with pytest.raises(FitInputError, match="no variant has all metrics"):
        rank(["a"], ["x"], {"m": [float("nan")]}, {"m": "max"})
    with pytest.raises(FitInputError, match="no metric to rank by"):
        rank(["a"], ["x"], {}, {})
    with pytest.raises(FitInputError, match="not a number"):
        fronts(np.array([[np.nan, 1.0]]))
