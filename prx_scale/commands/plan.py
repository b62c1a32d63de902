"""`prx-scale plan`: what training takes, before there is a GPU."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from prx_scale.commands import exits
from prx_scale.errors import InputError

if TYPE_CHECKING:
    from prx_scale.commands.plan_study import Work
    from prx_scale.planning import Machine, Plan


@dataclass(frozen=True, kw_only=True)
class PlanVerb:
    """Plan a training run without a GPU: parameters, FLOPs, memory, time and cost, for one layout or the best of all.

    Memory comes from torch's memory tracker over the code that trains, on tensors without data; time is an estimate
    from counted operations and the rates of the hardware table.

    Example: prx-scale plan --depth 38 --resolution 256 --gpus 128 --gpu h100 --batch 4096 --steps 500000

    Example: prx-scale plan --depth 38 --resolution 1024 --gpus 128 --tp 2 --ac selective --price 2.5

    Example: prx-scale plan study.toml --gpus 8 --gpu a100-80
    """

    study: tyro.conf.Positional[Path | None] = None
    """A study file, whose runs are planned with their own [parallel] tables; or --depth."""
    depth: int = 0
    """Joint blocks of the published model."""
    width: int = 0
    """Hidden size, a multiple of 64; 0 is 64 x depth."""
    resolution: str = "256"
    """Pixels along a side, or height x width: 256, 768x1344."""
    text_tokens: int = 0
    """0 is the published 154."""
    batch: int = 4096
    """Images a step, over all GPUs."""
    steps: int = 500_000
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """Of the matrix products; weights and optimiser state are float32."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    ema: bool = True
    """An average of the weights is kept, as the trainer does; --no-ema leaves it out."""
    compile: bool = False
    """Blocks are compiled: operators between products count as one kernel."""
    gpus: int = 8
    gpu: str = "h100"
    """h100, h200, b200, a100-40, a100-80, l40s or mi300x."""
    gpus_per_node: int = 0
    """0 is what the table has."""
    tp: int | None = None
    """Tensor parallel degree; must divide the heads. Left out, all within a machine are compared."""
    cp: int | None = None
    """Context parallel degree; left out, 1."""
    dp_replicate: int | None = None
    """Copies of the weights (HSDP); left out, one over all GPUs and one in each machine are compared."""
    ac: Literal["none", "selective", "full"] | None = None
    """Activation checkpointing; left out, all are compared."""
    micro_batch: int | None = None
    """Images that a GPU holds at once; left out, the fastest that fits."""
    memory_headroom: float | None = None
    """Memory left free for the CUDA context, NCCL and fragments: GiB, or a share below 1. Left out, 6 GiB."""
    peak_tflops: float = 0.0
    """Peak of a GPU, 10^12 FLOPs a second; 0 is what the table has."""
    efficiency: float = 0.0
    """Share of the peak that large matrix products reach; 0 is 0.7."""
    interconnect_gbs: float = 0.0
    """Network of one GPU, 10^9 bytes a second; 0 is what the table has."""
    price: float = 0.0
    """Of a GPU for an hour."""
    top: int = 10
    """Layouts shown."""
    json: str | None = None
    """Write every number with its basis to this file; - writes it, and nothing else, to standard output."""

    def run(self) -> int:
        """Plan and print; 0 where a layout fits, 1 where none does.

        Raises:
            InputError: sizes, layouts or batches that cannot be.
        """
        from prx_scale.commands.plan_output import print_sizes, sizes_json

        runs = self._works()
        works = [work for parts in runs for work in parts]
        if self.json != "-":
            for work in works:
                print_sizes(work.run, self.gpus, work.stage)
        if _torch_is_missing():
            self._write([sizes_json(work.run) for work in works], [])
        plans = [[self._plan(work) for work in parts] for parts in runs]
        self._say(runs, plans)
        return exits.DONE if all(plan.fits for parts in plans for plan in parts) else exits.FAILED

    def _say(self, runs: list[tuple[Work, ...]], plans: list[list[Plan]]) -> None:
        from prx_scale.commands.plan_output import print_plan, print_whole
        from prx_scale.commands.plan_study import whole
        from prx_scale.planning import to_json

        documents = [
            {**to_json(plan, self.price), "stage": work.stage or None}
            for works, parts in zip(runs, plans, strict=True)
            for work, plan in zip(works, parts, strict=True)
        ]
        self._write(documents, [whole(parts).to_json(self.price) for parts in plans])
        if self.json == "-":
            return
        for works, parts in zip(runs, plans, strict=True):
            for work, plan in zip(works, parts, strict=True):
                print_plan(plan, price=self.price, top=self.top, stage=work.stage)
            if len(parts) > 1:
                print_whole(whole(parts), price=self.price)

    def _works(self) -> list[tuple[Work, ...]]:
        from prx_scale.commands.plan_study import works_of_study

        if (self.study is None) == (self.depth == 0):
            raise InputError("plan: give --depth, or a study file; one of them")
        return [(self._one(),)] if self.study is None else works_of_study(self.study, self._machine, averages=self.ema)

    def _machine(self, precision: str) -> Machine:
        from prx_scale.planning import machine

        if self.price < 0:
            raise InputError(f"--price: {self.price:g} is negative")
        return machine(
            self.gpu,
            precision=precision,
            peak_tflops=self.peak_tflops,
            efficiency=self.efficiency,
            interconnect_gbs=self.interconnect_gbs,
            per_node=self.gpus_per_node,
            headroom=self.memory_headroom,
        )

    def _one(self) -> Work:
        from prx_scale.commands.plan_study import Work
        from prx_scale.planning import Choices, sd3_run
        from prx_scale.runtables import Parallel, Training

        for option, value in (("--batch", self.batch), ("--steps", self.steps), ("--top", self.top)):
            if value < 1:
                raise InputError(f"{option}: {value} is too small; at least 1")
        run = sd3_run(
            depth=self.depth,
            width=self.width,
            pixels=parse_resolution(self.resolution),
            text_tokens=self.text_tokens,
            training=Training(
                steps=self.steps, batch=self.batch, precision=self.precision, optimizer=self.optimizer, warmup=0
            ),
            parallel=Parallel(compile=self.compile),
            averages=self.ema,
        )
        choices = Choices(
            tp=self.tp,
            cp=self.cp,
            dp_replicate=self.dp_replicate,
            checkpointing=self.ac,
            micro_batch=self.micro_batch,
        )
        return Work(run=run, machine=self._machine(self.precision), choices=choices)

    def _plan(self, work: Work) -> Plan:
        # Without a GPU in sight torch plans on any machine alike; it looks when it is first asked.
        if "torch" not in sys.modules:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        from prx_scale.planning import plan

        try:
            with _progress() as say:
                return plan(work.run, self.gpus, work.machine, work.choices, say)
        except InputError as error:
            if self.study is None:
                raise
            raise InputError(f"{self.study}: {str(error).replace('--batch:', '[training] batch:')}") from error

    def _write(self, documents: Sequence[Mapping[str, object]], wholes: Sequence[Mapping[str, object]]) -> None:
        from prx_scale.commands.point_options import write_json

        write_json(documents[0] if self.study is None else {"plans": documents, "runs": wholes}, self.json)
        if self.json not in (None, "-"):
            print(f"wrote {self.json}")


def parse_resolution(text: str) -> tuple[int, int]:
    """Read height and width in pixels: 256, or 768x1344.

    Args:
        text: of the option.

    Raises:
        InputError: neither.
    """
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise InputError(f"--resolution: '{text}' is neither pixels along a side, as 256, nor height x width: 768x1344")
    return int(sides[0]), int(sides[-1])


def _torch_is_missing() -> bool:
    from importlib.util import find_spec

    return find_spec("torch") is None


@contextmanager
def _progress() -> Generator[Callable[[str, int, int], None]]:
    """A bar on the standard error while it lasts; nothing where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("tracing"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def say(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        yield say
