"""Whether every resample was fitted to its own optimum: each is fitted again from random starts by two optimisers."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from scaling import Points
from scaling.laws import get_law
from scaling.losses import HUBER
from scaling.problem import Problem, pose, resolve, solve
from scaling.solver import minimise

STARTS = 20
SPREAD = np.array([1.0, 1.0, 1.0, 0.2, 0.2])  # of random starts around the optimum: three log coefficients, exponents


@dataclass(frozen=True, kw_only=True)
class Verified:
    """Resamples that were fitted again.

    Attributes:
        resamples: how many.
        starts: random starts of each.
        beaten: resamples of which some start ended more than 1e-9 (relative) lower.
        worst: greatest relative amount by which a start ended lower; negative where none did.
    """

    resamples: int
    starts: int
    beaten: int
    worst: float


def resamples(points: Path, count: int, seed: int = 0) -> Verified:
    """Refit resamples of the rows from random starts by scipy's L-BFGS-B, and its ends again by damped Newton.

    Args:
        points: file with the columns params, tokens, loss.
        count: resamples to check.
        seed: seed of the resamples and starts.
    """
    with points.open(newline="") as file:
        rows = list(csv.DictReader(file))
    params, data, loss = (np.array([float(row[key]) for row in rows]) for key in ("params", "tokens", "loss"))
    problem = pose(get_law("chinchilla"), Points(params=params, data=data, loss=loss).canonical(), HUBER, None)
    rng, best = np.random.default_rng(seed), solve(problem)
    w = rng.multinomial(len(loss), np.full(len(loss), 1 / len(loss)), size=count).astype(float)
    found = resolve(problem, best.theta, problem.y, w)
    lower = np.array([_lowest(problem, best.theta, each, rng) for each in w])
    gap = found.objective / lower - 1
    return Verified(resamples=count, starts=STARTS, beaten=int(np.sum(gap > 1e-9)), worst=float(gap.max()))


def _lowest(problem: Problem, around: np.ndarray, w: np.ndarray, rng: np.random.Generator) -> float:
    starts = np.clip(around + SPREAD * rng.standard_normal((STARTS, len(around))), *problem.law.bounds)
    bounds = list(zip(*problem.law.bounds, strict=True))

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        local = problem.law.linearise(theta[None], problem.x)
        residual = problem.y - local.value[0]
        return float(w @ HUBER.of(residual)), -local.jacobian[0] @ (w * HUBER.slope(residual))

    ends = np.array([minimize(objective, s, jac=True, method="L-BFGS-B", bounds=bounds).x for s in starts])
    polished = minimise(problem.law, ends, problem.x, problem.y, w, loss=problem.loss)
    return float(polished.objective.min())
