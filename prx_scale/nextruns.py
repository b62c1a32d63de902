"""Runs that could be launched next: real depths and steps of a study, or a grid over sizes and lengths; and the study
file's tables for those that are chosen.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from prx_scale import study, tables
from prx_scale.depthplan import DEEPEST, Family, depth_costs
from prx_scale.errors import InputError

if TYPE_CHECKING:
    from scaling import Points
    from scaling.cost import Cost
    from scaling.design import Candidates, NextRun
    from scaling.points import FloatArray

_WIDER = 16.0
_ODDER = 2.0  # beyond the fitted amounts of data per parameter a law is a guess, and a run says little about others
_PER_AXIS = 14
_MOST_OF_AN_AXIS = 10  # fitted sizes or lengths that are all candidates; of more, this many evenly spread


def ends(points: Points) -> tuple[FloatArray, FloatArray]:
    """Size and length of every fitted run: N and the greatest D of its rows, each shape (runs,)."""
    import numpy as np

    codes, data = points.cluster_codes, points.need("data")
    last = np.lexsort([data, codes])
    last = last[np.append(np.diff(codes[last]) > 0, True)]
    return points.need("params")[last], data[last]


def grid_candidates(points: Points, cost: Cost, budget: float) -> Candidates:
    """Sizes and lengths by a grid around those fitted, and those fitted, as far as the budget bears one.

    Args:
        points: the fitted rows.
        cost: FLOPs of one sample.
        budget: FLOPs.
    """
    import numpy as np

    params, data = ends(points)
    sizes, lengths = _axis(params), _axis(data)
    n, d = np.repeat(sizes, len(lengths)), np.tile(lengths, len(sizes))
    return _candidates(n, d, cost.per_sample(n) * d, (params, data), [""] * len(n), budget)


def depth_candidates(points: Points, family: Family, depths: Sequence[int], budget: float, unit: str) -> Candidates:
    """Depths and whole numbers of steps around those fitted, as far as the budget bears one.

    Args:
        points: the fitted rows.
        family: of the depths; its batch turns steps into samples.
        depths: which; none for those between half the least and 16 times the greatest size fitted.
        budget: FLOPs.
        unit: what the points count as data.

    Raises:
        InputError: no depth and length is affordable.
    """
    import numpy as np

    params, data = ends(points)
    chosen = depth_costs(family, depths or range(1, DEEPEST + 1), unit)
    if not depths:
        chosen = [each for each in chosen if params.min() / 2 <= each.params <= params.max() * _WIDER]
    rows: list[tuple[float, float, float, str]] = []
    for each in chosen:
        per_step = family.batch * each.data_per_sample
        steps = np.unique(np.maximum(np.round(_axis(data) / per_step), family.least_steps))
        for count in steps:
            flops = float(count) * family.batch * each.flops_per_sample
            rows.append((float(each.params), float(count) * per_step, flops, f"depth {each.depth}, {count:.0f} steps"))
    if not rows:
        raise InputError("no depth lies near the fitted sizes: name some with --depths")
    n, d, flops = (np.array([row[i] for row in rows]) for i in range(3))
    return _candidates(n, d, flops, (params, data), [row[3] for row in rows], budget)


def _axis(values: FloatArray) -> FloatArray:
    """The fitted values and a grid from half the least to sixteen times the greatest, shape (k,)."""
    import numpy as np

    known = np.unique(values)
    if len(known) > _MOST_OF_AN_AXIS:
        known = known[np.linspace(0, len(known) - 1, _MOST_OF_AN_AXIS).round().astype(int)]
    grid: FloatArray = np.geomspace(known[0] / 2.0, known[-1] * _WIDER, _PER_AXIS, dtype=np.float64)
    apart = np.abs(np.log(grid[:, None] / known)).min(axis=1) > 0.05
    return np.sort(np.concatenate([known, _rounded(grid[apart])]))


def _rounded(values: FloatArray) -> FloatArray:
    """Two significant digits: nobody launches 12,347 steps."""
    import numpy as np

    scale = np.power(10.0, np.floor(np.log10(values)) - 1.0)
    return np.asarray(np.round(values / scale) * scale, dtype=np.float64)


def _candidates(
    n: FloatArray,
    d: FloatArray,
    flops: FloatArray,
    fitted: tuple[FloatArray, FloatArray],
    labels: list[str],
    budget: float,
) -> Candidates:
    import numpy as np

    from scaling.design import Candidates

    ratio = fitted[1] / fitted[0]
    usual = (d / n >= ratio.min() / _ODDER) & (d / n <= ratio.max() * _ODDER)
    keep = usual & (flops <= budget)
    if not keep.any():
        least = flops[usual].min()
        raise InputError(f"--budget {budget:.3g}: the cheapest run near those fitted costs {least:.3g} FLOPs")
    n, d = n[keep], d[keep]
    near = np.abs(np.log(n[:, None] / fitted[0])) + np.abs(np.log(d[:, None] / fitted[1]))
    return Candidates(
        params=n,
        data=d,
        flops=flops[keep],
        fitted=near.min(axis=1) < 0.01,
        labels=tuple(label for label, kept in zip(labels, keep, strict=True) if kept),
    )


def study_fragment(path: Path, runs: Sequence[NextRun]) -> str:
    """[[variant]] tables that add runs to a study: append them to its file and sweep it.

    Every key that the study sweeps gets one value, so that each table is one run; a seed is taken that no run of that
    depth and length has.

    Args:
        path: the study file or folder.
        runs: whose labels are "depth D, S steps".

    Raises:
        InputError: the file is no study.
    """
    loaded = study.load(path)
    content = tomllib.loads(loaded.file.read_text(encoding="utf-8"))
    single = _single_values(content, loaded.runs[0])
    taken = {(run.model.depth, run.training.steps, run.training.seed) for run in loaded.runs}
    names = {run.variant for run in loaded.runs}
    parts: list[str] = []
    for run in runs:
        depth, steps = (int(word) for word in run.label.replace(",", "").split() if word.isdigit())
        seed = next(s for s in range(len(taken) + 1) if (depth, steps, s) not in taken)
        taken.add((depth, steps, seed))
        name = next(n for i in range(len(names) + 1) if (n := f"next{i + 1}") not in names)
        names.add(name)
        values = {**single, ("model", "depth"): depth, ("training", "steps"): steps, ("training", "seed"): seed}
        parts.append(_variant(name, values))
    return "\n".join(parts)


def _single_values(content: dict[str, Any], run: Any) -> dict[tuple[str, str], Any]:
    """The first value of every key that the study sweeps."""
    found: dict[tuple[str, str], Any] = {}
    for name in study.SWEPT_TABLES:
        kinds = tables.field_types(study.RUN_TABLES[name])
        for key, value in cast("dict[str, Any]", content.get(name, {})).items():
            if isinstance(value, list) and getattr(kinds[key], "__origin__", None) is not tuple:
                found[name, key] = getattr(getattr(run, name), key)
    return found


def _variant(name: str, values: dict[tuple[str, str], Any]) -> str:
    import json

    lines = ["[[variant]]", f'name = "{name}"']
    for (table, key), value in values.items():
        # JSON's numbers, texts and truth values are TOML's as well.
        lines.append(f"{table}.{key} = {json.dumps(value)}")
    return "\n".join(lines) + "\n"
