"""What a dry run says of the stages of its runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from prx_scale.config import RunConfig
    from prx_scale.stages import StageSettings

HEADINGS = ("stage", "steps", "epochs", "image size", "batch", "data", "replay")


def tell_stages(runs: Sequence[RunConfig], console: Console) -> None:
    """Print what the runs of a study go through, once for those with the same stages.

    Args:
        runs: of a study; nothing is printed for those without stages.
        console: to tell on.
    """
    from rich.table import Table

    found: dict[tuple[tuple[str, ...], ...], list[str]] = {}
    for run in runs:
        if run.stages:
            found.setdefault(stage_rows(run), []).append(run.id)
    for rows, names in found.items():
        table = Table(box=None, pad_edge=False)
        for heading in HEADINGS:
            table.add_column(heading, justify="left" if heading in ("stage", "data", "replay") else "right")
        for row in rows:
            table.add_row(*row)
        console.print(f"\nstages of {', '.join(names)}", soft_wrap=True, markup=False)
        console.print(table)


def stage_rows(run: RunConfig) -> tuple[tuple[str, ...], ...]:
    """A row of words for each stage of a run, under `HEADINGS`.

    Args:
        run: with stages.
    """
    from prx_scale.stages import resolve

    stages = resolve(run)
    return tuple(
        (
            stage.name,
            str(stage.steps),
            f"{written.epochs:g}" if written.epochs else "",
            str(stage.image_size),
            str(stage.batch),
            _data(run, stage),
            "" if stage.replay is None else f"{stage.replay_share:.0%} {stages[stage.replay].name}",
        )
        for stage, written in zip(stages, run.stages, strict=True)
    )


def _data(run: RunConfig, stage: StageSettings) -> str:
    if not stage.data:
        return Path(run.data.path).name if run.data.path else run.data.dataset
    total = sum(source.weight for source in stage.data)
    names = [Path(source.path).name for source in stage.data]
    if len(names) == 1:
        return names[0]
    return ", ".join(f"{source.weight / total:.0%} {name}" for source, name in zip(stage.data, names, strict=True))
