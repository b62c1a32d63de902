"""The best value of a swept hyperparameter."""

from __future__ import annotations

import numpy as np
import pytest

from scaling.errors import FitInputError
from scaling.optimum import optimum

RATES = [2.0**power for power in range(-10, -3)]


def losses(best: float, rates: list[float], noise: float = 0.0, seed: int = 0) -> list[float]:
    scatter = np.random.default_rng(seed).normal(0, noise, len(rates))
    return [0.1 + 0.01 * np.log2(rate / best) ** 2 + each for rate, each in zip(rates, scatter, strict=True)]


def test_the_vertex_of_a_parabola_is_found_between_the_values() -> None:
    best = 2.0**-6.7
    found = optimum(RATES, losses(best, RATES), [0] * 7)
    assert found.value == pytest.approx(best)
    assert found.loss == pytest.approx(0.1)
    assert found.interior and found.stderr_octaves is None


def test_what_is_far_from_the_best_does_not_pull() -> None:
    bent = losses(2.0**-7, RATES)
    bent[0] += 5.0
    bent[-1] += 5.0
    assert optimum(RATES, bent, [0] * 7).value == pytest.approx(2.0**-7)


def test_seeds_give_an_error_of_about_the_right_size() -> None:
    seeds = range(8)
    shifts, errors = [], []
    for repetition in range(40):
        values = [rate for _ in seeds for rate in RATES]
        measured = [x for s in seeds for x in losses(2.0**-7, RATES, 0.005, 100 * repetition + s)]
        found = optimum(values, measured, [s for s in seeds for _ in RATES])
        shifts.append(np.log2(found.value) + 7)
        errors.append(found.stderr_octaves)
    assert np.std(shifts) == pytest.approx(np.mean(errors), rel=0.5)


def test_a_best_value_at_the_end_is_said_to_be_one() -> None:
    found = optimum(RATES, losses(2.0**-2, RATES), [0] * 7)
    assert (found.value, found.interior, found.stderr_octaves) == (RATES[-1], False, None)


def test_two_values_are_too_few() -> None:
    with pytest.raises(FitInputError, match="at least 3 different values, found 2"):
        optimum([1.0, 1.0, 2.0], [1.0, 1.1, 0.9], [0, 1, 0])
