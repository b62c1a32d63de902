"""What a dry run of a sweep on SLURM prints: every job with all that it asks for."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from prx_scale.commands import exits
from prx_scale.commands.text import duration
from prx_scale.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from slurm.executor import Batch, Place
    from slurm.launching import Launch


def print_launch(launch: Launch, place: Place, max_restarts: int, console: Console) -> None:
    """Print every job: resources, command, environment and files, and the GPU-hours of all.

    Args:
        launch: what would be submitted.
        place: where the jobs would live.
        max_restarts: of one run.
        console: where to.
    """
    from slurm.executor import script

    if not launch.jobs:
        console.print("nothing to submit")
        return
    for batch, waits in _batches(launch):
        console.print()
        console.print(_heading(batch), soft_wrap=True, markup=False)
        runs = [work.run for work in batch.works if work.run]
        if runs:
            console.print("  runs: " + ", ".join(runs), soft_wrap=True, markup=False)
        console.print(f"  after: {waits}", soft_wrap=True, markup=False)
        console.print(f"  does: {batch.works[0].call}", soft_wrap=True, markup=False)
        shown = batch if batch.kind == "train" else replace(batch, works=batch.works[:1])
        for line in script(shown, place).splitlines():
            console.print(f"    {line}".rstrip(), soft_wrap=True, markup=False)
    console.print()
    _print_totals(launch, max_restarts, console)


def _batches(launch: Launch) -> Iterator[tuple[Batch, str]]:
    """Every batch with what it waits for, in words: ids are known only once jobs are submitted."""
    for batch in launch.training:
        yield batch, "nothing"
    if launch.evaluations:
        yield launch.evaluation_batch, "its run, however that ends (afterany); one job a run, the first is shown"
    if launch.report:
        yield launch.report, "all of these, however they end (afterany)"
    if launch.relaunch:
        yield launch.relaunch, "all of these, however they end (afterany); then submits " + ", ".join(launch.later)


def _heading(batch: Batch) -> str:
    allocation, count = batch.allocation, len(batch.works)
    what = f"array of {count}" if batch.kind == "train" and count > 1 else f"{count} job{'s' if count > 1 else ''}"
    gpus = f" and {allocation.gpus_per_node} GPUs" if allocation.gpus_per_node else ""
    nodes = f"{allocation.nodes} node{'s' if allocation.nodes > 1 else ''}"
    limit = duration(allocation.minutes * 60)
    return f"{batch.name}: {what}, each {nodes} with {allocation.ntasks_per_node} tasks{gpus}, limit {limit}"


def _print_totals(launch: Launch, max_restarts: int, console: Console) -> None:
    trained = sum(batch.allocation.gpu_hours * len(batch.works) for batch in launch.training)
    scored = launch.evaluation_allocation.gpu_hours * len(launch.evaluations)
    once = f"training {trained:,.1f}, evaluation {scored:,.1f}"
    console.print(f"{launch.jobs} jobs; GPU-hours at most, of one start of each: {once}", soft_wrap=True)
    most = trained * (1 + max_restarts) + scored
    console.print(
        f"GPU-hours at most in all, with {max_restarts} restarts of every run to its full limit: {most:,.1f}",
        soft_wrap=True,
    )


def scheduler_opinions(launch: Launch, place: Place, console: Console) -> int:
    """Ask SLURM about every job, submitting none.

    Args:
        launch: what would be submitted.
        place: where the jobs would live.
        console: where the answers go.

    Returns:
        0 where it would take all, 2 where it refuses some.
    """
    from slurm.controller import test_only
    from slurm.executor import script

    refused = False
    with tempfile.TemporaryDirectory() as folder:
        for number, (batch, _) in enumerate(_batches(launch)):
            shown = batch if batch.kind == "train" else replace(batch, works=batch.works[:1])
            path = Path(folder) / f"{number}.sh"
            path.write_text(script(shown, place), encoding="utf-8")
            try:
                answer = _first(test_only(path).splitlines())
            except InputError as error:
                refused, answer = True, f"refused: {error}"
            console.print(f"SLURM on {batch.name}: {answer}", soft_wrap=True, markup=False)
    return exits.BAD_INPUT if refused else exits.DONE


def _first(lines: Sequence[str]) -> str:
    return lines[0] if lines else "accepted"
