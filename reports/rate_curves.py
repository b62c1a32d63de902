"""Learning-rate sweeps inside a study: runs that differ in nothing but rate and seed, by size and parametrisation."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from dataclasses import dataclass
from math import log2

from prx_scale.runs.info import RunInfo, State
from reports.study_data import StudyData, setting
from scaling.optimum import LEAST_VALUES, Optimum, optimum

HEAD_DIM = 64
Base = tuple[int, int]
"""Base width and depth of muP; 0 is off."""
STANDARD: Base = (0, 0)


@dataclass(frozen=True, kw_only=True)
class RateRun:
    """A finished run of a sweep."""

    run: str
    lr: float
    seed: int
    loss: float


@dataclass(frozen=True, kw_only=True)
class RateCurve:
    """The final loss of one model along the learning rate."""

    depth: int
    width: int
    runs: tuple[RateRun, ...]
    best: Optimum


@dataclass(frozen=True, kw_only=True)
class RateSweep:
    """Curves of several sizes under one parametrisation, in ascending size."""

    base: Base
    variants: tuple[str, ...]
    curves: tuple[RateCurve, ...]

    @property
    def scheme(self) -> str:
        """The parametrisation in words."""
        width, depth = self.base
        names = [f"muP from width {width}"] if width else []
        names += [f"depth-muP from depth {depth}"] if depth else []
        return ", ".join(names) or "standard parametrisation"

    @property
    def shift(self) -> tuple[float, float | None] | None:
        """Octaves by which the best rate of the largest model is above that of the smallest, and its standard error.

        None where there is one size only, or where a best rate is at an end of its sweep.
        """
        first, last = self.curves[0].best, self.curves[-1].best
        if len(self.curves) < 2 or not (first.interior and last.interior):
            return None
        errors = (first.stderr_octaves, last.stderr_octaves)
        error = None if None in errors else sum(each**2 for each in errors if each is not None) ** 0.5
        return log2(last.value / first.value), error


def rate_sweeps(study: StudyData) -> list[RateSweep]:
    """Every sweep with at least three rates at one size; those without muP first.

    A model at the base width and depth is the same with muP as without, so that its runs count for both.

    Args:
        study: as its folder has it.
    """
    losses = study.final_losses()
    groups: dict[tuple[str, Base], list[RunInfo]] = {}
    for run in study.runs:
        if run.state is State.DONE and run.run in losses:
            groups.setdefault((_rest(run), _base(run)), []).append(run)
    sweeps: list[RateSweep] = []
    for (rest, base), runs in sorted(groups.items(), key=lambda item: (item[0][0], item[0][1] != STANDARD, item[0][1])):
        twins = [run for (other, its), more in groups.items() if other == rest and its != base for run in more]
        curves = _curves([*runs, *_shared(runs, twins, base)], losses)
        if curves:
            variants = tuple(sorted({run.variant for run in runs}))
            sweeps.append(RateSweep(base=base, variants=variants, curves=tuple(curves)))
    return sweeps


def _base(run: RunInfo) -> Base:
    """Base width and depth, or the standard parametrisation."""
    return setting(run, "model", "mup_base_width") or 0, setting(run, "model", "mup_base_depth") or 0


def _width(run: RunInfo) -> int:
    return setting(run, "model", "width") or HEAD_DIM * run.depth


def _rest(run: RunInfo) -> str:
    """All of a configuration that a sweep over rates and sizes leaves alone."""
    config = copy.deepcopy(dict(run.config))
    config.pop("variant", None)
    for table, keys in {
        "model": ("depth", "width", "mup_base_width", "mup_base_depth"),
        "training": ("lr", "seed"),
    }.items():
        for key in keys:
            config.get(table, {}).pop(key, None)
    return json.dumps(config, sort_keys=True)


def _at_base(run: RunInfo, base: Base) -> bool:
    """Whether muP from that base changes nothing for a run."""
    return base[0] in (0, _width(run)) and base[1] in (0, run.depth)


def _shared(runs: Iterable[RunInfo], twins: Iterable[RunInfo], base: Base) -> list[RunInfo]:
    """Runs of other parametrisations that are the same under this one, of sizes that it has no runs of."""
    own = {(run.depth, _width(run)) for run in runs}
    same = [run for run in twins if _at_base(run, _base(run)) and _at_base(run, base)]
    return [run for run in same if (run.depth, _width(run)) not in own]


def _curves(runs: Iterable[RunInfo], losses: dict[str, float]) -> list[RateCurve]:
    sizes: dict[tuple[int, int], list[RateRun]] = {}
    for run in runs:
        lr = setting(run, "training", "lr")
        if lr:
            found = RateRun(run=run.run, lr=float(lr), seed=run.seed, loss=losses[run.run])
            sizes.setdefault((run.depth, _width(run)), []).append(found)
    return [
        RateCurve(
            depth=depth,
            width=width,
            runs=tuple(sorted(found, key=lambda each: (each.lr, each.seed))),
            best=optimum([each.lr for each in found], [each.loss for each in found], [each.seed for each in found]),
        )
        for (depth, width), found in sorted(sizes.items())
        if len({each.lr for each in found}) >= LEAST_VALUES
    ]
