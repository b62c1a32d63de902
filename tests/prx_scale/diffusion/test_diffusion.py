"""Path, timestep densities, draws and sampler against closed forms and published values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats
from scipy.special import logit

from prx_scale.diffusion.draws import Purpose, draw
from prx_scale.diffusion.paths import interpolate, velocity
from prx_scale.diffusion.samplers import euler, guided
from prx_scale.diffusion.timesteps import density, shifted, timesteps
from prx_scale.runtables import Objective


@given(t=st.floats(0, 1), seed=st.integers(0, 1000))
def test_velocity_gives_back_data_and_noise(t: float, seed: int) -> None:
    """x0 = z - t v and eps = z + (1 - t) v, so v is the slope of the straight path through z."""
    generator = torch.Generator().manual_seed(seed)
    x0, noise = torch.randn(2, 4, 3, 3, dtype=torch.float64, generator=generator).unbind(0)
    z, v = interpolate(x0, noise, torch.full((4,), t, dtype=torch.float64)), velocity(x0, noise)
    torch.testing.assert_close(z - t * v, x0)
    torch.testing.assert_close(z + (1 - t) * v, noise)


def test_path_runs_from_data_to_noise() -> None:
    x0, noise = torch.randn(2, 3, 5).unbind(0)
    assert torch.equal(interpolate(x0, noise, torch.zeros(3)), x0)
    assert torch.equal(interpolate(x0, noise, torch.ones(3)), noise)


@pytest.mark.parametrize(
    ("t", "location", "scale", "expected"),
    [(0.5, 0, 1, 1.595769), (0.1, 0, 1, 0.396575), (0.25, -0.5, 1, 1.778677), (0.75, 1, 0.6, 3.498581)],
)
def test_logit_normal_density(t: float, location: float, scale: float, expected: float) -> None:
    objective = Objective(location=location, scale=scale)
    assert density(objective, np.array([t]))[0] == pytest.approx(expected, abs=1e-6)
    assert integrate.quad(lambda x: density(objective, np.array([x]))[0], 0, 1)[0] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    "objective", [Objective(), Objective(location=-0.5, scale=0.6), Objective(timesteps="uniform")]
)
def test_timesteps_follow_their_density(objective: Objective) -> None:
    t = timesteps(objective, np.random.default_rng(0).standard_normal(50_000))
    grid = np.linspace(1e-6, 1 - 1e-6, 4001)
    cdf = np.interp(np.sort(t), grid, integrate.cumulative_trapezoid(density(objective, grid), grid, initial=0))
    assert stats.kstest(cdf, "uniform").pvalue > 1e-3


def test_logit_normal_quantiles() -> None:
    """Closed form: 1 / (1 + exp(-z_p)) with z_.05 = -1.644854, z_.25 = -0.674490."""
    quantiles = timesteps(Objective(), stats.norm.ppf([0.05, 0.25, 0.75, 0.95]))
    assert quantiles == pytest.approx([0.161806, 0.337492, 0.662508, 0.838194], abs=1e-6)


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=6), st.integers(0, 2**20))
def test_draws_belong_to_their_index(indices: list[int], seed: int) -> None:
    together = draw(seed, Purpose.TRAINING, np.array(indices), (2, 3))
    for row, index in enumerate(indices):
        alone = draw(seed, Purpose.TRAINING, np.array([index]), (2, 3))
        assert np.array_equal(together.noise[row], alone.noise[0])
        assert (together.normal[row], together.uniform[row]) == (alone.normal[0], alone.uniform[0])


def test_draws_differ_by_seed_purpose_and_index() -> None:
    named = [(0, Purpose.TRAINING, 0), (1, Purpose.TRAINING, 0), (0, Purpose.VALIDATION, 0), (0, Purpose.TRAINING, 1)]
    noises = [draw(seed, purpose, np.array([index]), (8,)).noise for seed, purpose, index in named]
    assert len({noise.tobytes() for noise in noises}) == len(named)


def test_draws_are_standard_normal() -> None:
    draws = draw(0, Purpose.TRAINING, np.arange(2000), (10,))
    assert stats.kstest(draws.noise.ravel(), "norm").pvalue > 1e-3
    assert stats.kstest(draws.normal, "norm").pvalue > 1e-3
    assert stats.kstest(draws.uniform, "uniform").pvalue > 1e-3


def test_euler_is_exact_on_a_straight_path() -> None:
    x0, noise = torch.randn(2, 3, 4, dtype=torch.float64).unbind(0)
    for steps in (1, 3, 20):
        torch.testing.assert_close(euler(lambda z, t: noise - x0, noise, steps), x0)


def test_euler_converges_to_the_closed_form() -> None:
    noise = torch.ones(1, 1, dtype=torch.float64)
    errors = [abs(euler(lambda z, t: z, noise, steps).item() - np.exp(-1)) for steps in (50, 100)]
    assert errors[1] == pytest.approx(errors[0] / 2, rel=0.05)


def test_guidance_extrapolates_between_the_two_velocities() -> None:
    z, t = torch.zeros(1), torch.zeros(1)
    for guidance, expected in ((0.0, 1.0), (1.0, 3.0), (4.0, 9.0)):
        assert guided(lambda z, t: z + 3, lambda z, t: z + 1, guidance)(z, t).item() == expected


@pytest.mark.parametrize(("t", "expected"), [(0.1, 0.25), (0.25, 0.5), (0.5, 0.75), (0.9, 0.9642857142857143)])
def test_shift_of_three_as_published(t: float, expected: float) -> None:
    assert shifted(np.array(t), 3.0) == pytest.approx(expected)


@given(st.floats(0.001, 0.999), st.floats(0.05, 20), st.floats(0.05, 20))
def test_shifts_add_their_logarithms(t: float, first: float, second: float) -> None:
    both = shifted(shifted(np.array(t), first), second)
    assert both == pytest.approx(shifted(np.array(t), first * second), rel=1e-9)
    assert logit(shifted(np.array(t), first)) == pytest.approx(logit(t) + math.log(first), abs=1e-6)


def test_euler_takes_the_shifted_grid() -> None:
    seen: list[float] = []

    def velocity(z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen.append(t[0].item())
        return torch.zeros_like(z)

    euler(velocity, torch.zeros(1, 1), 4, shift=3.0)
    assert seen == pytest.approx([1, 0.9, 0.75, 0.5])
