"""The validation rows of a study: EMA weights, held-out split, the warm part of every run."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from prx_scale.sources.sheet import LINE, Sheet

_SAME = {"params": "params", "loss": "loss", "flops": "flops"}


def open_study(path: Path, asked: Collection[str]) -> Sheet:
    """Read a study folder.

    Args:
        path: the folder.
        asked: columns that the user has conditions on, which replace the defaults on those columns.

    Raises:
        InputError: a damaged study file or run record.
    """
    import polars as pl

    from prx_scale import runs
    from prx_scale.study import FitTable
    from prx_scale.study import load as load_study

    table = load_study(path).fit if (path / "study.toml").exists() else FitTable()
    frame = runs.load(path, "validation").with_row_index(LINE, offset=1)
    steps = pl.DataFrame(
        [{"run": info.run, "planned": info.steps} for info in runs.load_runs(path)],
        schema={"run": pl.String, "planned": pl.Int64},
    )
    total, dropped = len(frame), list[tuple[str, int]]()
    frame = frame.join(steps, on="run", how="left")
    stages = [
        ("variant", "held-out variant", ~pl.col("variant").is_in(list(table.holdout))),
        ("state", "run failed", pl.col("state") != "failed"),
        ("weights", "weights are not ema", pl.col("weights") == "ema"),
        ("split", "split is not heldout", pl.col("split") == "heldout"),
        (
            "step",
            f"before {table.from_fraction:.0%} of the run",
            pl.col("step") >= table.from_fraction * pl.col("planned"),
        ),
    ]
    for column, reason, condition in stages:
        kept = frame if column in asked else frame.filter(condition)
        if len(kept) < len(frame):
            dropped.append((reason, len(frame) - len(kept)))
        frame = kept
    return Sheet(
        name=str(path),
        rows=frame.lazy(),
        names=tuple(name for name in frame.columns if name != LINE),
        defaults={**_SAME, "data": "samples", "steps": "step", "cluster": "run"},
        n_rows=total,
        dropped=tuple(dropped),
        fit=table,
    )  # fmt: skip
