"""How often intervals hold the truth, on simulated studies; writes the table of docs/coverage.md.

    OMP_NUM_THREADS=1 python -m benchmarks.coverage.measure [--studies 100] [--resamples 200] [--write docs/coverage.md]

Every cell is a surface, a design and a noise. Of each simulated study the law is fitted as ``prx-scale fit`` does, and
its intervals are asked for the parameters, the exponent a, the curve at ten times the largest compute
(compute-optimal), and one new run there. Everything follows from the seeds. About seven minutes on one core.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.coverage.studies import DESIGNS, NAMES, TRUTHS, K, Truth, draw
from scaling import Points
from scaling.bootstrap import resample
from scaling.diagnostics.residuals import LACK_OF_FIT
from scaling.intervals.kinds import DEFAULT, Bounds
from scaling.intervals.quantity import mean_at, quantities
from scaling.lackoffit import bend
from scaling.laws import get_law
from scaling.losses import DELTA, make
from scaling.problem import pose, solve

LEVELS = (0.8, 0.95)
GOAL = 0.03  # nominal coverage is met within this
REACH = 10.0
MARK = "<!-- measured -->"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What is simulated, and the intervals that are asked."""

    truth: str
    design: str
    noise: str
    kind: str = DEFAULT
    loss: str = "huber"
    share: float = 1.0  # of the studies: slow kinds get fewer


RIGHT = (
    Cell(truth="language", design="isoFLOP", noise="normal"),
    Cell(truth="language", design="isoFLOP", noise="heavy"),
    Cell(truth="language", design="isoFLOP", noise="uneven"),
    Cell(truth="diffusion", design="isoFLOP", noise="normal"),
    Cell(truth="low floor", design="isoFLOP", noise="normal"),
    Cell(truth="overtrained", design="isoFLOP", noise="normal"),
    Cell(truth="unequal", design="off-centre", noise="normal"),
    Cell(truth="diffusion", design="off-centre", noise="heavy"),
    Cell(truth="language", design="few runs", noise="normal"),
    Cell(truth="diffusion", design="few runs", noise="heavy"),
    Cell(truth="low floor", design="few runs", noise="normal"),
    Cell(truth="language", design="grid", noise="seeds"),
    Cell(truth="language", design="grid", noise="correlated"),
    Cell(truth="diffusion", design="grid", noise="seeds"),
    Cell(truth="language", design="depths", noise="seeds", share=0.5),
    Cell(truth="diffusion", design="depths", noise="seeds", share=0.5),
    Cell(truth="overtrained", design="depths", noise="correlated", share=0.5),
)
_COMPARED = (
    Cell(truth="language", design="isoFLOP", noise="normal"),
    Cell(truth="language", design="few runs", noise="normal"),
)
KINDS = (
    ("huber", "percentile", 0.4),
    ("huber", "bca", 0.4),
    ("huber", "delta", 0.4),
    ("least-squares", "residual", 0.4),
    ("least-squares", "percentile", 0.4),
    ("least-squares", "delta", 0.4),
    ("least-squares", "profile", 0.25),
)
OTHER_KINDS = tuple(
    Cell(truth=each.truth, design=each.design, noise=each.noise, kind=kind, loss=loss, share=share)
    for each in _COMPARED
    for loss, kind, share in KINDS
)
WRONG = (
    Cell(truth="broken", design="isoFLOP", noise="normal"),
    Cell(truth="broken", design="few runs", noise="normal"),
    Cell(truth="broken", design="grid", noise="seeds"),
)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Coverage of one cell, shape (levels, quantities), and the share of studies with the notice "lack-of-fit"."""

    cell: Cell
    studies: int
    coverage: np.ndarray
    warned: float


def measure(cell: Cell, studies: int, resamples: int) -> Measured:
    """Simulate, fit and count."""
    truth = TRUTHS[cell.truth]
    rows = DESIGNS[cell.design](truth)
    target = truth.optimum(REACH * float((K * rows.params * rows.data).max()))
    count = max(int(studies * cell.share), 1)
    hits, warned = np.zeros((len(LEVELS), len(NAMES))), 0
    for seed in range(count):
        points, luck = draw(truth, rows, cell.noise, [seed, *f"{cell.truth} {cell.design} {cell.noise}".encode()])
        inside, probability = _study(cell, truth, points, target, luck, resamples, seed)
        hits += inside
        warned += probability < LACK_OF_FIT
    return Measured(cell=cell, studies=count, coverage=hits / count, warned=warned / count)


def _study(
    cell: Cell, truth: Truth, points: Points, target: tuple[float, float], luck: np.ndarray, resamples: int, seed: int
) -> tuple[np.ndarray, float]:
    """Whether each interval holds the truth, shape (levels, quantities), and the probability of the bend."""
    points = points.canonical()
    problem = pose(get_law("chinchilla"), points, make(cell.loss, DELTA, 1.0), None)
    optimum = solve(problem)
    scheme = "clusters" if cell.kind in ("percentile", "bca") else "residuals"
    draws = resample(problem, points, optimum, count=resamples, seed=seed, scheme=scheme)
    asked = quantities(problem) | {"mean": mean_at(problem, np.log(np.array(target)))}
    asked["a"] = asked["params_exponent"]
    loss = float(truth.loss(np.array(target[0]), np.array(target[1])))
    true = truth.values() | {"mean": loss}
    new = np.exp(asked["mean"].of(draws.theta) + draws.luck)
    out = np.zeros((len(LEVELS), len(NAMES)))
    for i, level in enumerate(LEVELS):
        bounds = Bounds(kind=cell.kind, problem=problem, points=points, optimum=optimum, draws=draws.theta, level=level)
        for j, name in enumerate(NAMES[:-1]):
            low, high = bounds.interval(asked[name])
            out[i, j] = low <= true[name] <= high
        low, high = np.quantile(new, [0.5 - level / 2, 0.5 + level / 2])
        runs = loss * np.exp(luck)
        out[i, -1] = np.mean((low <= runs) & (runs <= high))
    found = bend(problem, points, optimum)
    return out, 1.0 if found is None else found[0]


def table(measured: list[Measured], *, kinds: bool = False, warned: bool = False) -> str:
    """Markdown; cells further than the goal from nominal are bold."""
    first = ["surface", "design", "noise", *(["loss", "intervals"] if kinds else []), "studies"]
    heading = [*first, *NAMES, *(["lack-of-fit"] if warned else [])]
    lines = ["| " + " | ".join(heading) + " |", "|---" * len(heading) + "|"]
    for each in measured:
        cell = each.cell
        row = [cell.truth, cell.design, cell.noise, *([cell.loss, cell.kind] if kinds else []), str(each.studies)]
        row += [" ".join(_share(each.coverage[i, j], LEVELS[i]) for i in range(2)) for j in range(len(NAMES))]
        row += [f"{each.warned:.1%}"] if warned else []
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def _share(coverage: float, level: float) -> str:
    text = f"{100 * coverage:.0f}"
    return f"**{text}**" if abs(coverage - level) > GOAL + 1e-9 else text


def summary(measured: list[Measured]) -> str:
    """Mean coverage over cells by quantity, and how many cells meet the goal."""
    every = np.array([each.coverage for each in measured])
    lines = ["| nominal |" + "|".join(f" {name} " for name in NAMES) + "|", "|---" * (len(NAMES) + 1) + "|"]
    for i, level in enumerate(LEVELS):
        close = np.abs(every[:, i] - level) <= GOAL + 1e-9
        low = every[:, i] < level - GOAL - 1e-9
        lines.append(
            f"| {level:.0%}: mean |" + "|".join(f" {100 * value:.1f} " for value in every[:, i].mean(axis=0)) + "|"
        )
        lines.append("| within 3 points |" + "|".join(f" {n} of {len(every)} " for n in close.sum(axis=0)) + "|")
        lines.append("| too low |" + "|".join(f" {n} " for n in low.sum(axis=0)) + "|")
    return "\n".join(lines)


def main() -> None:
    """Measure, print as it goes, and replace the tables of a document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=100)
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    done: dict[str, list[Measured]] = {}
    cells = [("right", cell) for cell in RIGHT] + [("wrong", cell) for cell in WRONG]
    for name, cell in cells + [("kinds", cell) for cell in OTHER_KINDS]:
        began = time.process_time()
        done.setdefault(name, []).append(measure(cell, options.studies, options.resamples))
        line = table(done[name][-1:], kinds=True, warned=True).splitlines()[-1]
        print(f"{line} {time.process_time() - began:.0f} s", flush=True)
        if options.write is not None:
            write(options.write, report(done, options.resamples))


def report(done: dict[str, list[Measured]], resamples: int) -> str:
    """All tables that are there."""
    parts = [f"{resamples} resamples a study."]
    if right := done.get("right"):
        parts += ["### Over all cells where the law is right", summary(right)]
        parts += ["### By cell, the law right", table(right, warned=True)]
    if wrong := done.get("wrong"):
        parts += ["### By cell, the law wrong", table(wrong, warned=True)]
    if kinds := done.get("kinds"):
        parts += ["### Other kinds of interval, and least squares", table(kinds, kinds=True)]
    return "\n\n".join(parts)


def write(path: Path, body: str) -> None:
    """Replace what stands between the marks."""
    before, _, rest = path.read_text().partition(MARK)
    path.write_text(f"{before}{MARK}\n\n{body}\n\n{MARK}{rest.partition(MARK)[2]}")


if __name__ == "__main__":
    main()
