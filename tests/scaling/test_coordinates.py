"""Slopes of a coordinate check."""

from __future__ import annotations

import pytest

from scaling.coordinates import Coordinate, Scheme, slopes, steepest


def rows(scheme: Scheme, quantity: str, power: float) -> list[Coordinate]:
    return [
        Coordinate(
            scheme=scheme, width=w, seed=s, step=k, quantity=quantity, size=1.0, change=k * (1 + s) * w**power / 100
        )
        for w in (64, 128, 256)
        for s in (0, 1)
        for k in (0, 1, 2)
    ]


def test_slopes_are_powers_of_the_width_at_the_last_step() -> None:
    measured = [*rows("standard", "output", 0.5), *rows("muP", "output", -0.05), *rows("standard", "text", 1.5)]
    found = {(each.scheme, each.quantity): each for each in slopes(measured)}
    assert found["standard", "output"].slope == pytest.approx(0.5)
    assert not found["standard", "output"].flat
    assert found["muP", "output"].slope == pytest.approx(-0.05)
    assert found["muP", "output"].flat
    assert found["standard", "output"].smallest == pytest.approx(2 * 1.5 * 8 / 100)
    worst = steepest(slopes(measured), "standard")
    assert worst is not None and worst.quantity == "text"


def test_what_did_not_move_has_no_slope() -> None:
    assert slopes(rows("muP", "output", 1.0), step=0) == []
    assert steepest([], "muP") is None
