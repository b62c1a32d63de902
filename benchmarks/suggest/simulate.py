"""Does following `prx-scale suggest` predict a target better than other uses of the same compute?

A surface is known, sixteen runs of four sizes and four lengths are drawn from it with noise, a law is fitted, and a
budget is spent in four ways: not at all, as suggested, on one run as large as can be, and on the fitted runs with other
seeds. The law is fitted again to old and new runs, and its prediction of the target held against the known surface.

    python benchmarks/suggest/simulate.py --simulations 100
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prx_scale.nextruns import grid_candidates
from scaling import Points, fit
from scaling.cost import Cost
from scaling.design import largest_run, repeats, suggest
from scaling.laws.chinchilla import CHINCHILLA
from scaling.losses import HUBER
from scaling.problem import pose, solve

WAYS = ("nothing", "suggested", "one large run", "repeats")


@dataclass(frozen=True, kw_only=True)
class World:
    """A surface and a study on it.

    Attributes:
        name: for the table.
        truth: E, A, B, alpha, beta of the surface.
        noise: standard deviation of log loss between seeds.
        params: sizes of the first runs.
        data: lengths of the first runs.
        target: N and D of the run to be predicted.
        share: budget over the compute of the first runs.
    """

    name: str
    truth: tuple[float, float, float, float, float]
    noise: float
    params: tuple[float, ...]
    data: tuple[float, ...]
    target: tuple[float, float]
    share: float

    def loss(self, params: np.ndarray, data: np.ndarray) -> np.ndarray:
        """Loss without noise."""
        floor, a, b, alpha, beta = self.truth
        return floor + a * params**-alpha + b * data**-beta

    def run(self, params: np.ndarray, data: np.ndarray, rng: np.random.Generator) -> Points:
        """Runs with noise."""
        loss = self.loss(params, data) * np.exp(self.noise * rng.standard_normal(params.shape))
        return Points(params=params, data=data, loss=loss, flops=6 * params * data)


LANGUAGE = (1.8172, 477.83, 2143.4, 0.34731, 0.36717)
DIFFUSION = (0.55, 90.0, 40.0, 0.45, 0.40)
WORLDS = tuple(
    World(name=f"{name}, noise {noise:.1%}", truth=truth, noise=noise, params=n, data=d, target=target, share=1.0)
    for name, truth, n, d, target in (
        ("language", LANGUAGE, (5e7, 1e8, 2e8, 4e8), (1e9, 2e9, 4e9, 8e9), (3e9, 6e10)),
        ("diffusion", DIFFUSION, (2e7, 5e7, 1.2e8, 2.5e8), (5e6, 2e7, 4e7, 8e7), (2e9, 5e8)),
    )
    for noise in (0.002, 0.01)
)


def simulate(world: World, seed: int, resamples: int) -> dict[str, float]:
    """Log error at the target after each way of spending the budget, and the width before and after as predicted."""
    rng = np.random.default_rng(seed)
    n, d = (axis.ravel() for axis in np.meshgrid(world.params, world.data))
    points = world.run(n, d, rng)
    budget = world.share * float((6 * n * d).sum())
    first = fit(points, bootstrap=resamples, seed=seed)
    candidates = grid_candidates(points, Cost.proportional(6.0), budget)
    target = (*world.target, 6 * world.target[0] * world.target[1])
    found = suggest(first, candidates, target, budget, sizes=world.params)
    sets = {
        "nothing": (),
        "suggested": tuple(run.candidate for run in found.runs),
        "one large run": largest_run(candidates, budget, world.target[1] / world.target[0]),
        "repeats": repeats(candidates, budget),
    }
    exact = float(np.log(world.loss(*np.array(world.target)[:, None]))[0])
    out = {"width before": found.width_before, "width after": found.width_after, "spent": found.spent / budget}
    for name, chosen in sets.items():
        more = world.run(candidates.params[list(chosen)], candidates.data[list(chosen)], rng) if chosen else None
        out[name] = _predicted(_together(points, more), world.target) - exact
    return out


def _predicted(points: Points, target: tuple[float, float]) -> float:
    """Log loss at the target; the optimum alone, without the checks of a whole fit."""
    problem = pose(CHINCHILLA, points, HUBER, None)
    natural = CHINCHILLA.to_natural(solve(problem).theta[None], problem.frame)
    return float(np.log(CHINCHILLA.predict(natural, np.log(np.array(target)[:, None])))[0, 0])


def _together(points: Points, more: Points | None) -> Points:
    if more is None:
        return points
    columns = {
        name: np.concatenate([points.need(name), more.need(name)]) for name in ("params", "data", "loss", "flops")
    }
    return Points(**columns)


def main() -> None:
    """Run all worlds and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=100)
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    for world in WORLDS:
        start = time.perf_counter()
        runs = [simulate(world, seed, options.resamples) for seed in range(options.simulations)]
        errors = {way: np.array([run[way] for run in runs]) for way in WAYS}
        row: dict[str, object] = {"world": world.name, "simulations": len(runs)}
        for way in WAYS:
            row[f"rmse {way}"] = float(np.sqrt(np.mean(errors[way] ** 2)))
            row[f"median {way}"] = float(np.median(np.abs(errors[way])))
        closer = np.abs(errors["suggested"])
        row["beats large"] = float(np.mean(closer < np.abs(errors["one large run"])))
        row["beats repeats"] = float(np.mean(closer < np.abs(errors["repeats"])))
        row["spent"] = float(np.mean([run["spent"] for run in runs]))
        rows.append(row)
        numbers = "  ".join(f"{way}: {row[f'rmse {way}']:.4f} / {row[f'median {way}']:.4f}" for way in WAYS)
        beats = f"closer than one large run in {row['beats large']:.0%}, than repeats in {row['beats repeats']:.0%}"
        print(f"{world.name}: rmse / median |log error|: {numbers}; {beats}; {time.perf_counter() - start:.0f} s")
        sys.stdout.flush()
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
