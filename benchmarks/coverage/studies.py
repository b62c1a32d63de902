"""Simulated studies with a known truth: a surface, a design, and noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from scaling import Points

N0, D0, K = 2e8, 4e9, 6.0  # where terms are given, and FLOPs per parameter and sample
SPREAD = 0.005  # standard deviation of log loss between runs of one size and amount of data
RUNS = 20  # new runs a study, all at one place
NAMES = ("E", "A", "B", "alpha", "beta", "a", "mean", "run")


@dataclass(frozen=True, kw_only=True)
class Truth:
    """L = E + tn (N/N0)^-alpha + td (D/D0)^-beta, bent where ``bend`` is not 0.

    ``bend`` is how much the exponent of N falls beyond N0, smoothly over a factor of two (Caballero et al. 2022).
    """

    floor: float
    tn: float
    td: float
    alpha: float
    beta: float
    bend: float = 0.0

    def loss(self, params: np.ndarray, data: np.ndarray) -> np.ndarray:
        n = params / N0
        bent = (1.0 + n**2.0) ** (self.bend / 2.0)
        return self.floor + self.tn * n**-self.alpha * bent + self.td * (data / D0) ** -self.beta

    def optimum(self, flops: float) -> tuple[float, float]:
        """Compute-optimal params and data by search along the line of equal compute."""
        params = np.geomspace(1e5, 1e13, 40001)
        best = params[np.argmin(self.loss(params, flops / (K * params)))]
        return float(best), float(flops / (K * best))

    def values(self) -> dict[str, float]:
        """What intervals should hold, but for the prediction."""
        a = self.beta / (self.alpha + self.beta)
        return {
            "E": self.floor,
            "A": self.tn * N0**self.alpha,
            "B": self.td * D0**self.beta,
            "alpha": self.alpha,
            "beta": self.beta,
            "a": a,
        }


TRUTHS = {
    "language": Truth(floor=1.82, tn=0.62, td=0.64, alpha=0.348, beta=0.366),
    "diffusion": Truth(floor=0.40, tn=0.03, td=0.03, alpha=0.40, beta=0.35),
    "overtrained": Truth(floor=1.72, tn=1.02, td=0.71, alpha=0.243, beta=0.273),
    "low floor": Truth(floor=0.10, tn=0.66, td=0.48, alpha=0.20, beta=0.20),
    "unequal": Truth(floor=1.80, tn=0.60, td=0.60, alpha=0.25, beta=0.45),
    "broken": Truth(floor=1.82, tn=0.62, td=0.64, alpha=0.45, beta=0.366, bend=0.25),
}


@dataclass(frozen=True, kw_only=True)
class Rows:
    """A design: params and data of every row, and the number of its run."""

    params: np.ndarray
    data: np.ndarray
    run: np.ndarray


def isoflop(truth: Truth, off: float = 1.0) -> Rows:
    """Seven budgets of seven sizes, from a fourth to four times the optimum, or ``off`` times that."""
    budgets = np.geomspace(6e17, 6e20, 7)
    best = np.array([truth.optimum(flops)[0] for flops in budgets])
    params = (best[:, None] * off * np.geomspace(0.25, 4.0, 7)).ravel()
    return Rows(params=params, data=np.repeat(budgets, 7) / (K * params), run=np.arange(49))


def depths(truth: Truth) -> Rows:
    """Depths 15 to 38 at width 64 times depth, one run each, with twelve checkpoints."""
    size = 24.0 * 64.0**2 * np.array([15.0, 18.0, 24.0, 30.0, 38.0]) ** 3
    data = np.linspace(1.0, 12.0, 12) / 12.0 * 5e8
    return Rows(params=np.repeat(size, 12), data=np.tile(data, 5), run=np.repeat(np.arange(5), 12))


def grid(truth: Truth) -> Rows:
    """Fourteen sizes over two decades, one run each, with eight checkpoints."""
    size, data = np.geomspace(3e7, 3e9, 14), np.geomspace(3e8, 3e10, 8)
    return Rows(params=np.repeat(size, 8), data=np.tile(data, 14), run=np.repeat(np.arange(14), 8))


def few(truth: Truth) -> Rows:
    """Eleven runs: four sizes at two or three amounts of data."""
    size = np.geomspace(3e7, 3e9, 4)
    cells = [(n, d) for n in size for d in (6e8, 6e9, 6e10)][:-1]
    params, data = np.array(cells).T
    return Rows(params=params, data=data, run=np.arange(len(cells)))


DESIGNS: dict[str, Callable[[Truth], Rows]] = {
    "isoFLOP": isoflop,
    "off-centre": lambda truth: isoflop(truth, 3.0),
    "few runs": few,
    "depths": depths,
    "grid": grid,
}


def normal(rows: Rows, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Independent normal noise of the rows and of new runs."""
    drawn = SPREAD * rng.standard_normal(len(rows.run) + RUNS)
    return drawn[:-RUNS], drawn[-RUNS:]


def heavy(rows: Rows, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Student's t with 3 degrees of freedom."""
    drawn = SPREAD / np.sqrt(3.0) * rng.standard_t(3, len(rows.run) + RUNS)
    return drawn[:-RUNS], drawn[-RUNS:]


def uneven(rows: Rows, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Normal noise that falls with compute to the power 1/6, so by a factor of 3.2 over three decades."""
    flops = rows.params * rows.data
    size = (flops / np.exp(np.log(flops).mean())) ** (-1.0 / 6.0)
    size = np.append(size, np.full(RUNS, size.min()))
    drawn = SPREAD * size * rng.standard_normal(len(size))
    return drawn[:-RUNS], drawn[-RUNS:]


def seeds(rows: Rows, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An offset of every run, and independent noise 0.4 times as large at every checkpoint."""
    offset = SPREAD * rng.standard_normal(rows.run.max() + 1 + RUNS)
    own = 0.4 * SPREAD * rng.standard_normal(len(rows.run) + RUNS)
    return offset[rows.run] + own[:-RUNS], offset[-RUNS:] + own[-RUNS:]


def correlated(rows: Rows, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Noise along a run that keeps 0.8 of itself from one checkpoint to the next."""
    fresh = SPREAD * rng.standard_normal(len(rows.run) + RUNS)
    noise = fresh[:-RUNS].copy()
    for i in range(1, len(noise)):
        if rows.run[i] == rows.run[i - 1]:
            noise[i] = 0.8 * noise[i - 1] + 0.6 * fresh[i]
    return noise, fresh[-RUNS:]


NOISES = {"normal": normal, "heavy": heavy, "uneven": uneven, "seeds": seeds, "correlated": correlated}


def draw(truth: Truth, rows: Rows, noise: str, seed: Sequence[int]) -> tuple[Points, np.ndarray]:
    """Points of one simulated study, and the luck of new runs, shape (RUNS,)."""
    scatter, luck = NOISES[noise](rows, np.random.default_rng(seed))
    points = Points(
        params=rows.params,
        data=rows.data,
        loss=truth.loss(rows.params, rows.data) * np.exp(scatter),
        flops=K * rows.params * rows.data,
        cluster=None if len(np.unique(rows.run)) == len(rows.run) else rows.run.astype(str),
    )
    return points, luck
