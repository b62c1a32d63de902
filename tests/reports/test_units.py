"""Numbers are written for readers: prefixes, powers of ten, durations."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import units


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (12, "12"), (999.6, "1.00 k"), (130_000, "130 k"), (1_234_567, "1.23 M"), (8e9, "8.00 B"), (None, "–")],
)
def test_short(value: float | None, text: str) -> None:
    assert units.short(value).replace(units.NBSP, " ") == text


@pytest.mark.parametrize(
    ("value", "text"), [(3.21e15, "3.21 × 10¹⁵"), (-2e-7, "−2.00 × 10⁻⁷"), (math.nan, "–"), (0.0, "0")]
)
def test_power(value: float, text: str) -> None:
    assert units.power(value).replace(units.NBSP, " ") == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(8.44, "8.4 s"), (59.97, "1 min 00 s"), (245, "4 min 05 s"), (11_520, "3 h 12 min"), (200_000, "2 d 7 h")],
)
def test_duration(seconds: float, text: str) -> None:
    assert units.duration(seconds).replace(units.NBSP, " ") == text


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_every_float_can_be_written(value: float) -> None:
    for write in (units.significant, units.short, units.power, units.percent, units.loss):
        assert write(value)


@given(st.floats(min_value=1e-3, max_value=1e5))
def test_significant_keeps_the_value(value: float) -> None:
    assert float(units.significant(value, 5)) == pytest.approx(value, rel=1e-4)


def test_words() -> None:
    assert units.listing(["1", "2", "4"]) == "1, 2 and 4"
    assert (units.plural(1, "run"), units.plural(2, "run")) == ("1 run", "2 runs")
    assert units.moment("2026-01-02T03:04:05+00:00") == "2026-01-02 03:04 UTC"
    assert units.moment("yesterday") == "yesterday"
