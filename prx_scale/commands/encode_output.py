"""What `prx-scale encode` prints: sizes and time first, a bar while it works, and what became of it."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from prx_scale.commands.progress import SECONDS_BETWEEN_LINES
from prx_scale.commands.text import counted, duration, number, plain_console
from prx_scale.data.encoding.estimate import sizes, totals
from prx_scale.data.encoding.job import Encoding, Job
from prx_scale.data.encoding.measuring import Measured
from prx_scale.data.encoding.processes import Failed
from prx_scale.data.encoding.running import Done, Todo
from prx_scale.data.store import layout
from prx_scale.data.store.records import ShardRecord
from prx_scale.errors import InputError

_LARGE = 100e9
"""Bytes of text states from which on it is said what would be smaller."""
_WIDE = 100
"""Columns from which on the bar has room beside the times."""
_ROOM = 1.02
"""Files of captions, tables and records come on top."""


def console(*, stderr: bool = False) -> Console:
    """Where it is printed.

    Args:
        stderr: to the standard error, as the standard output has something else.
    """
    return plain_console(stderr=stderr)


def amount(count: float) -> str:
    """Bytes in powers of a thousand: 65.5 kB, 12.3 TB.

    Args:
        count: of them.
    """
    for size, unit in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"


def introduce(job: Job, samples: int, out: Console) -> None:
    """How large the store becomes, by kind.

    Args:
        job: what is to be done.
        samples: that a filter did not leave out.
        out: where it is printed.
    """
    recipe = job.plan.draft
    of = "" if samples == recipe.data.samples else f" of {recipe.data.samples:,}"
    out.print(f"{job.source.spec}: {samples:,}{of} samples in {counted(len(job.source.shards), 'shard')}")
    found = sizes(recipe)
    table = Table(box=None, pad_edge=False)
    table.add_column("stored")
    for name in ("a sample", "all", "all in fp8"):
        table.add_column(name, justify="right")
    for each in found:
        at_most = "at most " if each.at_most else ""
        fp8 = amount(each.fp8 * samples)
        table.add_row(each.what, at_most + amount(each.now), at_most + amount(each.now * samples), at_most + fp8)
    every = totals(found)
    if len(found) > 1:
        fp8 = sum(each.fp8 for each in found) * samples
        table.add_row("together", amount(every["all"]), amount(every["all"] * samples), amount(fp8))
    out.print(table)
    _advise(job, {name: each * samples for name, each in every.items()}, out)


def _advise(job: Job, every: dict[str, int], out: Console) -> None:
    """What would be smaller, where text states are large."""
    recipe = job.plan.draft
    if not recipe.text:
        out.print("no text encoders: captions are kept as text, and encoded while training")
        return
    if every["text"] < _LARGE or recipe.pooled_only:
        return
    ways = [] if recipe.states == "fp8" else [f"--text-dtype fp8 makes {amount(every['text, fp8'])} of that"]
    if every["text, pooled"]:
        ways.append(f"--pooled-only {amount(every['text, pooled'])}, with the tokens encoded while training")
    ways.append("without --text-encoders it is nothing, and captions are encoded while training")
    out.print(
        f"text states are {amount(every['text'])} of {amount(every['all'])}: {'; '.join(ways)}",
        soft_wrap=not out.is_terminal,
    )


def time_line(measured: Measured, samples: int, processes: int) -> str:
    """How long it takes, and how much is written.

    Args:
        measured: of one process.
        samples: that are to be encoded.
        processes: that do it.
    """
    seconds = measured.seconds * samples / processes
    took = "less than a second" if seconds < 1 else f"about {days(seconds)}"
    each = f"{1000 * measured.seconds:.3g} ms a sample in each of {processes} processes"
    if processes == 1:
        each = f"{1000 * measured.seconds:.3g} ms a sample"
    return (
        f"{took} and {amount(measured.bytes * samples)} for {samples:,} samples: {each}, {amount(measured.bytes)} "
        f"each, by the first {measured.samples}"
    )


def days(seconds: float) -> str:
    """A duration; above two days in days.

    Args:
        seconds: at least one.
    """
    return duration(seconds) if seconds < 2 * 86400 else f"{seconds / 86400:.1f} days"


def free_bytes(folder: Path) -> int:
    """Room on the disk that a folder is, or will be, on.

    Args:
        folder: need not be there.
    """
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    return shutil.disk_usage(there).free


def dry_run(job: Job, samples: int, processes: int, out: Console) -> Measured:
    """Load the encoders, time a first batch, and say how long all of it would take.

    Args:
        job: what would be done.
        samples: that a filter did not leave out.
        processes: that would do it.
        out: where it is printed.

    Returns:
        What the first batch took.
    """
    measured = Encoding(job).measure(0)
    out.print(time_line(measured, samples, processes), soft_wrap=not out.is_terminal)
    recipe, free = job.plan.draft, amount(free_bytes(job.out))
    each = min(recipe.shard_size, recipe.data.samples)
    out.print(f"{counted(recipe.shards, 'shard')} of {each:,} samples; {free} are free at {job.out}")
    return measured


class EncodeWatcher:
    """Shows how encoding gets on."""

    def __init__(self, job: Job, processes: int, out: Console, *, force: bool) -> None:
        """Take what is to be shown.

        Args:
            job: what is to be done.
            processes: that do it.
            out: where it is shown.
            force: do not mind a full disk.
        """
        self._job, self._processes, self._out, self._force = job, processes, out, force
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24 if out.width >= _WIDE else 8),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
        )
        self._bar = Progress(*columns, console=out, disable=not out.is_terminal)
        self._task = self._bar.add_task("encoding", total=None, speed="loading the encoders")
        self._samples, self._total, self._start, self._said = 0, 0, time.monotonic(), time.monotonic()
        self._all_samples = 0
        self.made_shards = 0
        self.todo: Todo | None = None

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Draw no more."""
        self._bar.stop()

    def begins(self, todo: Todo, measured: Measured) -> None:
        """Say what is to be done, and refuse to fill the disk."""
        self.todo = todo
        part = "" if self._job.part.count == 1 else f" of part {self._job.part}"
        for wrong in todo.damaged:
            self._out.print(f"made again: {wrong}", soft_wrap=not self._out.is_terminal)
        there = todo.of - len(todo.shards)
        if there:
            self._out.print(f"{there:,} of {todo.of:,} shards{part} are there; goes on with the others")
        if todo.shards:
            self._out.print(time_line(measured, todo.samples, self._processes), soft_wrap=not self._out.is_terminal)
            self._check_room(todo, measured)
        # Samples that a filter left out are told as done too.
        self._total = sum(stop - first for first, stop in map(todo.recipe.range, todo.shards))
        self._start = time.monotonic()
        self._bar.reset(self._task, total=self._total, speed="")

    def step(self, samples: int) -> None:
        """Advance the bar."""
        self._samples += samples
        speed = f"{self._samples / max(time.monotonic() - self._start, 1e-9):,.1f} samples/s"
        self._bar.update(self._task, completed=self._samples, speed=speed)
        if not self._out.is_terminal and time.monotonic() - self._said > SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            self._out.print(f"{self._samples:,} of {self._total:,} samples, {speed}")

    def made(self, record: ShardRecord) -> None:
        """Count a shard."""
        self.made_shards += 1

    def lost(self, failed: Failed) -> None:
        """Say that a process has ended."""
        where = "" if failed.shard is None else f", at shard {failed.shard}"
        self._out.print(
            f"process {failed.process} {failed.why.strip()}{where}", soft_wrap=not self._out.is_terminal, markup=False
        )

    def _check_room(self, todo: Todo, measured: Measured) -> None:
        needed = measured.bytes * (todo.samples + todo.elsewhere) * _ROOM
        free = free_bytes(self._job.out)
        if needed > free and not self._force:
            raise InputError(
                f"{self._job.out}: needs {amount(needed)} more and {amount(free)} are free; choose another disk, a "
                "smaller --dtype or fewer encoders, or start anyway with --force"
            )


def stopped(job: Job, watcher: EncodeWatcher, out: Console) -> None:
    """Say what is there when a signal has ended the work.

    Args:
        job: what was to be done.
        watcher: knows how far it came.
        out: where it is printed.
    """
    todo = watcher.todo
    there = (
        "no shard" if todo is None else f"{todo.of - len(todo.shards) + watcher.made_shards:,} of {todo.of:,} shards"
    )
    out.print(f"stopped: {there} of {job.out} are written; the same command goes on", soft_wrap=not out.is_terminal)


def ended(job: Job, done: Done, out: Console) -> None:
    """Say what became of it.

    Args:
        job: what was to be done.
        done: how it ended.
        out: where it is printed.
    """
    if done.left:
        out.print(
            f"{counted(len(done.left), 'shard')} of {job.out} missing, the first of them {done.left[0]}; the same "
            "command goes on",
            soft_wrap=not out.is_terminal,
        )
    elif not done.finished:
        out.print(
            f"part {job.part} of {job.out} is done; the last part finishes the store", soft_wrap=not out.is_terminal
        )
    else:
        _summary(job, out)


def _summary(job: Job, out: Console) -> None:
    from prx_scale.data.store import Store

    store = Store.open(job.out, check_files=False)
    shards = counted(store.recipe.shards, "shard")
    out.print(f"{job.out}: {len(store):,} samples in {shards}, {amount(store.bytes)}")
    for image_size, counts in store.index["counts"].items():
        buckets = ", ".join(f"{count:,} of {name}" for name, count in counts.items() if count)
        out.print(f"  {image_size} pixels: {buckets or 'none'}", soft_wrap=not out.is_terminal)
    for kind, count in store.index["captions"].items():
        out.print(f"  captions: {count:,} {kind}")
    if left := {reason: count for reason, count in store.index["left_out"].items() if count}:
        why = ", ".join(f"{number(count)} {reason}" for reason, count in left.items())
        # What a filter or the image size leaves out is no failure, and is not listed.
        listed = f"; see {job.out / layout.SKIPPED}" if (job.out / layout.SKIPPED).stat().st_size else ""
        out.print(f"  left out: {why}{listed}", soft_wrap=not out.is_terminal)
