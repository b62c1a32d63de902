"""How often the interval of an extrapolated training curve holds the measured loss, and how far the prediction is off.

Every run of every study is predicted at its last step from its first half (and 70 %), by itself, with the shape of
runs of its size, and with the interval that backtests widen. Simulated studies have the law's shape, or one that
the law cannot follow. Usage:

    python benchmarks/curve/coverage.py STUDY_DIR... [--simulate 40]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from prx_scale import runs
from scaling.curves import MIN_POINTS, Curve, Extrapolation, extrapolate, predict

METHODS: dict[str, Callable[[Curve, float, Sequence[Curve]], Extrapolation]] = {
    "alone": lambda part, to, others: extrapolate(part, to),
    "all shapes shared": lambda part, to, others: extrapolate(part, to, others),
    "same size shared": lambda part, to, others: extrapolate(part, to, [o for o in others if o.params == part.params]),
    "with backtests": lambda part, to, others: predict(part, to, others)[0],
}


def study(path: str, first: float = 50.0) -> list[Curve]:
    """Validation curves (averaged weights) of the runs that got as far as the longest."""
    frame = runs.load(path, "validation").filter((pl.col.weights == "ema") & (pl.col.split == "heldout"))
    curves = [
        Curve(run=str(name), step=g["step"].to_numpy(), loss=g["loss"].to_numpy(), params=float(g["params"][0]))
        for (name,), g in frame.group_by(["run"], maintain_order=True)
    ]
    longest = max(float(curve.step[-1]) for curve in curves)
    return [curve.between(first, longest) for curve in curves if curve.step[-1] == longest]


def simulated(rng: np.random.Generator, right: bool) -> list[Curve]:
    """Three sizes, two seeds; AR(1) noise; the right law, or one with a second, later drop in log steps."""
    step, curves = np.arange(1.0, 21.0) * 50, list[Curve]()
    for size in range(3):
        g, s0, floor = rng.uniform(0.3, 1.2), rng.uniform(0, 200), rng.uniform(0.3, 1.0)
        middle = rng.uniform(np.log(200), np.log(800))
        for seed in range(2):
            noise = np.zeros(len(step))
            for i in range(len(step)):
                noise[i] = (0.6 * noise[i - 1] if i else 0.0) + 0.01 * rng.standard_normal()
            mean = floor + rng.uniform(0.9, 1.1) * ((step + s0) / (50 + s0)) ** -g
            if not right:
                mean = mean - 0.25 * floor / (1 + np.exp(-4 * (np.log(step) - middle)))
            curves.append(Curve(run=f"{size}-{seed}", step=step, loss=mean * np.exp(noise), params=float(size + 1)))
    return curves


def score(studies: list[list[Curve]], fraction: float) -> Iterator[str]:
    """A line a method: error, bias, coverage and width."""
    for name, method in METHODS.items():
        errors, inside, widths = list[float](), list[bool](), list[float]()
        for curves in studies:
            for curve in curves:
                to = float(curve.step[-1])
                part = curve.between(0.0, fraction * to)
                if len(part.step) < MIN_POINTS:
                    continue
                others = [replace(other) for other in curves if other is not curve]
                found, measured = method(part, to, others), float(curve.loss[-1])
                errors.append(np.log(measured / found.loss))
                inside.append(found.interval[0] <= measured <= found.interval[1])
                widths.append(np.log(found.interval[1] / found.interval[0]))
        bias, size = np.mean(errors), np.mean(np.abs(errors))
        yield (
            f"  {name:18} n {len(errors):4}  mean abs {size:.3f}  signed {bias:+.3f}  in 80% {np.mean(inside):.0%}"
            f"  median width {np.median(widths):.3f}"
        )


def main() -> None:
    """Print a table for the measured studies and for the simulated ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*")
    parser.add_argument("--simulate", type=int, default=40, help="simulated studies of each kind")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    groups = {
        "measured": [study(path) for path in given.studies],
        "simulated, the law holds": [simulated(rng, True) for _ in range(given.simulate)],
        "simulated, it does not": [simulated(rng, False) for _ in range(given.simulate)],
    }
    for name, studies in groups.items():
        for fraction in (0.5, 0.7) if studies else ():
            print(f"{name}, from the first {fraction:.0%}; errors in log loss", flush=True)
            for line in score(studies, fraction):
                print(line, flush=True)


if __name__ == "__main__":
    main()
