"""Progress in the terminal: bars where there is one, now and then a line where there is none."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from prx_scale.commands.text import plain_console
from prx_scale.config import RunConfig
from prx_scale.runs.files import read_rows
from prx_scale.runs.rows import TrainRow, ValidationRow
from slurm.status import last_row

SECONDS_BETWEEN_LINES = 15.0


def bars(console: Console) -> Progress:
    """Bars of runs: name, steps, loss, speed, time.

    Args:
        console: where they are drawn.
    """
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TextColumn("{task.fields[speed]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
        disable=not console.is_terminal,
    )


class RunWatcher:
    """Shows one run that is trained in this process."""

    def __init__(self, run: RunConfig, progress: Progress, console: Console) -> None:
        self.run, self.progress, self.console = run, progress, console
        self.task = progress.add_task(run.id, total=run.training.steps, loss="", speed="")
        self._said = 0.0

    def train_row(self, row: TrainRow) -> None:
        """Advance the bar."""
        loss, speed = f"loss {row.loss:.4f}", f"{row.samples_per_second:,.0f} images/s"
        self.progress.update(self.task, completed=row.step, loss=loss, speed=speed)
        if not self.console.is_terminal and time.monotonic() - self._said > SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            self.console.print(f"{self.run.id} step {row.step}/{self.run.training.steps} {loss} {speed}")

    def validation_row(self, row: ValidationRow) -> None:
        """Say the validation loss."""
        self.console.print(f"{self.run.id} step {row.step} validation loss ({row.weights}) {row.loss:.4f}")


@contextmanager
def one_run(run: RunConfig) -> Generator[RunWatcher]:
    """A bar for a run that is trained in this process.

    Args:
        run: the run.
    """
    console = plain_console()
    with bars(console) as progress:
        yield RunWatcher(run, progress, console)


@dataclass
class _Shown:
    task: TaskID
    step: int = -1
    words: str = ""


class StudyWatcher:
    """Shows runs that are trained in other processes, from their records."""

    def __init__(self, runs: Sequence[RunConfig], study_folder: Path, progress: Progress, console: Console) -> None:
        self.runs, self.folder, self.progress, self.console = runs, study_folder, progress, console
        self._shown: dict[str, _Shown] = {}
        self._said = time.monotonic()
        for run in runs:
            task = progress.add_task(run.id, total=run.training.steps, loss="", speed="waiting", start=False)
            self._shown[run.id] = _Shown(task=task)

    def tick(self) -> None:
        """Bring the bars up to date."""
        for run in self.runs:
            row = last_row(self.folder / "runs" / run.id / "train.jsonl")
            shown = self._shown[run.id]
            if row is None or row["step"] == shown.step:
                continue
            if shown.step < 0:
                self.progress.start_task(shown.task)
            shown.step = row["step"]
            loss, speed = f"loss {row['loss']:.4f}", f"{row['samples_per_second']:,.0f} images/s"
            shown.words = f"{loss} {speed}"
            self.progress.update(shown.task, completed=row["step"], loss=loss, speed=speed)
        if not self.console.is_terminal and time.monotonic() - self._said > SECONDS_BETWEEN_LINES:
            self._say()

    def _say(self) -> None:
        """One line: how many runs are done, and where those under way are."""
        self._said = time.monotonic()
        done = sum(self._shown[run.id].step >= run.training.steps for run in self.runs)
        parts = [f"{done} of {len(self.runs)} done"]
        for run in self.runs:
            shown = self._shown[run.id]
            if 0 <= shown.step < run.training.steps:
                parts.append(f"{run.id} {shown.step}/{run.training.steps} {shown.words}")
        self.console.print("; ".join(parts), soft_wrap=True)


@contextmanager
def many_runs(runs: Sequence[RunConfig], study_folder: Path, console: Console) -> Generator[StudyWatcher]:
    """Bars for runs that are trained in other processes.

    Args:
        runs: the runs.
        study_folder: where their records are.
        console: where the bars are drawn.
    """
    with bars(console) as progress:
        yield StudyWatcher(runs, study_folder, progress, console)


@contextmanager
def evaluations(runs: Sequence[RunConfig], study_folder: Path, console: Console) -> Generator[Callable[[], None]]:
    """A bar for checkpoints that are scored in other processes.

    Args:
        runs: whose checkpoints are scored.
        study_folder: where their records are.
        console: where the bar is drawn.

    Yields:
        Brings the bar up to date.
    """
    records = [study_folder / "runs" / run.id / "evaluation.jsonl" for run in runs]
    with bars(console) as progress:
        total = sum(len(run.evaluated_steps) for run in runs)
        task = progress.add_task("checkpoints", total=total, loss="", speed="sampled and scored")

        def tick() -> None:
            scored = sum(len({row["step"] for row in read_rows(record)}) for record in records)
            progress.update(task, completed=scored)

        yield tick
