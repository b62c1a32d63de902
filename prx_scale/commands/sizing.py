"""Nodes and time limits that a study file leaves out, from the planner."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

from prx_scale.allocation import Sized, SlurmSettings, SlurmTable
from prx_scale.config import RunConfig
from prx_scale.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

MOST_NODES = 64
"""More are not tried: who needs them knows how many."""
MARGIN = 1.5
"""Time limit over the estimated time: an estimate without validation, checkpoints and waiting for data."""
START_MINUTES = 20
LONGEST_MINUTES = 24 * 60
"""Of one start: what takes longer saves its state at the limit and goes on."""


def sizes(
    runs: Sequence[RunConfig], settings: SlurmSettings, console: Console | None, keep: Callable[[], None]
) -> dict[str, Sized]:
    """What the planner would ask for, for the runs whose table leaves nodes or time out.

    Args:
        runs: that are due.
        settings: the study's [slurm] table.
        console: where it is told; None for silence.
        keep: is called ahead of each plan, which takes some seconds.

    Returns:
        By run id; runs that need nothing of it are left out.

    Raises:
        InputError: a run cannot be planned, or does not fit.
    """
    found: dict[str, Sized] = {}
    seen: dict[object, Sized] = {}
    for run in runs:
        table, _ = settings.of_depth(run.model.depth)
        if (table.nodes and table.time) or not (table.gpu and table.gpus_per_node) or find_spec("torch") is None:
            continue
        key = (run.model, run.data, run.training.batch, run.training.steps, run.stages, run.parallel, table)
        if key not in seen:
            keep()
            seen[key] = _size(run, table, settings.where)
            if console:
                console.print(
                    f"depth {run.model.depth}: planned {seen[key].nodes} nodes, {seen[key].minutes} minutes a start",
                    soft_wrap=True,
                )
        found[run.id] = seen[key]
    return found


def _size(run: RunConfig, table: SlurmTable, where: str) -> Sized:
    # Without a GPU in sight torch plans on any machine alike; it looks when it is first asked.
    if "torch" not in sys.modules:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    from prx_scale.commands.plan_study import works_of
    from prx_scale.planning import machine, plan

    if run.training.precision == "float8":  # it cannot be traced without a GPU that has it, and needs no more
        run = replace(run, training=replace(run.training, precision="bfloat16"))
    rates = machine(table.gpu, precision=run.training.precision, per_node=table.gpus_per_node)
    works, nodes = works_of(run, rates), table.nodes or 1
    while True:
        plans = [plan(work.run, nodes * table.gpus_per_node, work.machine, work.choices) for work in works]
        if all(made.fits for made in plans):
            minutes = math.ceil(sum(made.seconds for made in plans) * MARGIN / 60) + START_MINUTES
            return Sized(nodes=nodes, minutes=min(LONGEST_MINUTES, minutes))
        nodes *= 2
        if table.nodes or nodes > MOST_NODES:
            remedy = next(made.remedy for made in plans if not made.fits)
            raise InputError(
                f"{where}: {run.id} does not fit {nodes // 2} nodes of {table.gpus_per_node} {table.gpu}; "
                f"{remedy or 'see `prx-scale plan`'}"
            )
