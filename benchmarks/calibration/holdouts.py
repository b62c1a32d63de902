"""Coverage and width of prediction intervals on held-out rows of real tables, and where the law is right.

    OMP_NUM_THREADS=1 python benchmarks/calibration/holdouts.py [--seeds 40] [more.csv ...]

For every table and every cut in compute (those of ``prx-scale backtest``, at most 30), rows below the cut are fitted
and rows 1.5 to 30 times beyond it predicted, with 80 % intervals of three kinds: parameters only, the law's own, and
calibrated. The one fitted constant of the calibration, the median of kappa, is chosen for every table on the tables
of the other families: that value which makes their mean coverage 80 %, families counting alike. Tables given as
files (columns params, tokens, flops, loss) are predicted with the shipped constants and take no part in fitting them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tables import DESIGNS, Table, read, simulate, tables

from scaling import FitResult, fit
from scaling.backtest import backtest
from scaling.calibration import Prior
from scaling.laws import get_law

LAW = "chinchilla"
LEVEL = 0.8
BINS = ((1.5, 3.0), (3.0, 10.0), (10.0, 30.0))
MEDIANS = np.geomspace(0.08, 0.9, 13)
KINDS = ("parameters", "law only", "calibrated")


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A fit below a cut and the rows to predict, 1.5 to 30 times beyond."""

    result: FitResult
    reach: np.ndarray
    params: np.ndarray
    data: np.ndarray
    loss: np.ndarray

    def bounds(self, kind: str, level: float = LEVEL, prior: Prior | None = None) -> np.ndarray:
        """Log of the lower and upper bound of every row, shape (2, m)."""
        result = self.result
        if kind == "parameters":
            x = np.log(np.stack([self.params, self.data]))
            tail = (1 - level) / 2
            return np.log(np.quantile(get_law(LAW).predict(result.draws, x), [tail, 1 - tail], axis=0))
        if prior is not None and result.calibration is not None:
            result = replace(result, calibration=replace(result.calibration, prior=prior))
        calibrated = kind == "calibrated"
        return np.log(np.stack(result.predict_interval(self.params, self.data, level, calibrated=calibrated)))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Reach, whether inside, width and interval score of predictions, each of shape (m,), in log loss."""

    reach: np.ndarray
    inside: np.ndarray
    width: np.ndarray
    score: np.ndarray

    def where(self, low: float, high: float) -> Outcome:
        mask = (self.reach >= low) & (self.reach < high)
        return Outcome(**{name: values[mask] for name, values in vars(self).items()})

    def cells(self) -> str:
        """Coverage, median width and mean interval score."""
        if not len(self.reach):
            return "-"
        return f"{self.inside.mean():.0%}, {100 * np.median(self.width):.1f}, {100 * self.score.mean():.1f}"


def outcome(cuts: Sequence[Cut], kind: str, level: float = LEVEL, prior: Prior | None = None) -> Outcome:
    """Score all predictions of a table (interval score: Gneiting and Raftery 2007, eq. 43, on log loss)."""
    low, high = np.concatenate([cut.bounds(kind, level, prior) for cut in cuts], axis=1)
    y = np.log(np.concatenate([cut.loss for cut in cuts]))
    missed = np.maximum(low - y, 0) + np.maximum(y - high, 0)
    return Outcome(
        reach=np.concatenate([cut.reach for cut in cuts]),
        inside=missed == 0,
        width=high - low,
        score=high - low + 2 / (1 - level) * missed,
    )


def hold_out(table: Table) -> list[Cut]:
    """Fit below every cut."""
    points = table.points
    assert points.params is not None and points.data is not None and points.flops is not None
    found: list[Cut] = []
    for cut in backtest(points, [LAW], bootstrap=0).cuts:
        below = points.flops < cut.flops
        reach = points.flops / points.flops[below].max()
        test = ~below & (reach >= BINS[0][0]) & (reach < BINS[-1][1])
        if test.any():
            columns = {"params": points.params[test], "data": points.data[test], "loss": points.loss[test]}
            result = fit(points.take(below), law=LAW, bootstrap=200, level=LEVEL)
            found.append(Cut(result=result, reach=reach[test], **columns))
    return found


def best_median(held: Sequence[tuple[Table, list[Cut]]]) -> float:
    """The median of kappa at which mean coverage is the level, families counting alike."""
    families = sorted({table.family for table, _ in held})
    coverage: list[float] = []
    for median in MEDIANS:
        prior = Prior(median=float(median))
        of = [(table.family, outcome(cuts, "calibrated", prior=prior).inside.mean()) for table, cuts in held]
        coverage.append(float(np.mean([np.mean([c for name, c in of if name == family]) for family in families])))
    return float(np.exp(np.interp(LEVEL, np.maximum.accumulate(coverage), np.log(MEDIANS))))


def print_real(held: Sequence[tuple[Table, list[Cut]]]) -> None:
    """A row for every table and kind of interval, and pooled ones."""
    core = [(table, cuts) for table, cuts in held if table.core]
    print(f"coverage, median width and interval score (both in % of the loss) of {LEVEL:.0%} intervals, by reach\n")
    print("| table | kappa | interval | " + " | ".join(f"{a:g}x to {b:g}x" for a, b in BINS) + " | all | n |")
    print("|---" * (5 + len(BINS)) + "|---|")
    pooled: dict[tuple[bool, str], list[Outcome]] = {}
    for table, cuts in held:
        others = [(t, c) for t, c in core if t.family != table.family]
        prior = Prior(median=best_median(others)) if others and table.family != "unseen" else Prior()
        for kind in KINDS:
            each = outcome(cuts, kind, prior=prior)
            pooled.setdefault((table.core, kind), []).append(each)
            cells = [each.where(*bounds).cells() for bounds in BINS]
            kappa = f"{prior.median:.2f}" if kind == "calibrated" else ""
            print(f"| {table.name} | {kappa} | {kind} | {' | '.join(cells)} | {each.cells()} | {len(each.reach)} |")
    for (is_core, kind), parts in pooled.items():
        cells = [_mean([part.where(*bounds) for part in parts]) for bounds in (*BINS, (0.0, np.inf))]
        count = sum(len(part.reach) for part in parts)
        name = "mean of the core tables" if is_core else "mean of the others"
        print(f"| {name} | | {kind} | {' | '.join(cells)} | {count} |")
    if core:
        print(f"\nmedian of kappa on all core tables: {best_median(core):.3f}")


def _mean(parts: Sequence[Outcome]) -> str:
    parts = [part for part in parts if len(part.reach)]
    numbers = [(p.inside.mean(), 100 * np.median(p.width), 100 * p.score.mean()) for p in parts]
    coverage, width, score = np.mean(numbers, axis=0)
    return f"{coverage:.0%}, {width:.1f}, {score:.1f}"


def print_simulated(seeds: int) -> None:
    """Coverage and width where the law is right."""
    print(
        f"\nwell-specified, {seeds} tables each: coverage of 80 % and of 95 % intervals and median width (%) at 10x\n"
    )
    print("| design | noise | law only | calibrated | mean probability of kappa = 0 |")
    print("|---|---|---|---|---|")
    for design in DESIGNS:
        for noise in (0.003, 0.01):
            cuts: list[Cut] = []
            for seed in range(seeds):
                run = simulate(design, noise, seed)
                result = fit(run.points, law=LAW, bootstrap=300)
                place = {name: getattr(run, name)[1:2] for name in ("reach", "params", "data", "loss")}
                cuts.append(Cut(result=result, **place))
            cells: list[str] = []
            for kind in KINDS[1:]:
                near, wide = outcome(cuts, kind), outcome(cuts, kind, 0.95)
                cells.append(f"{near.inside.mean():.0%}, {wide.inside.mean():.0%}, {100 * np.median(near.width):.1f}")
            right = np.mean([cut.result.calibration.right for cut in cuts if cut.result.calibration is not None])
            print(f"| {design} | {noise:.1%} | {' | '.join(cells)} | {right:.2f} |")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--seeds", type=int, default=40)
    options = parser.parse_args()
    given = [Table(name=path.stem, family="unseen", core=False, points=read(path)) for path in options.files]
    print_real([(table, hold_out(table)) for table in [*tables(), *given]])
    if options.seeds:
        print_simulated(options.seeds)


if __name__ == "__main__":
    main()
