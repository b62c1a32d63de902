"""Train a few real steps in this process and measure its memory; run under torchrun for several processes.

Two measures of the same steps: bytes that torch's CPU allocator handed out, added up from the profiler's records of
every allocation and release since the process began; and, by kind, torch's memory tracker on real tensors.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile

from benchmarks.plan.cases import CASES
from parallel.estimators.tracing import trace_passes
from parallel.titan import process_group_environment
from prx_scale.config import RunConfig
from prx_scale.models import functional
from prx_scale.training.recording import Recorder
from prx_scale.training.titan_config import trainer_config
from prx_scale.training.trainer import DiffusionTrainer

STEPS = 2
"""The first makes the optimiser's state; the second is like all others."""


def peak_bytes(record: profile) -> tuple[int, int]:
    """The most bytes that the CPU allocator had handed out, without and with what gloo takes for itself.

    Gloo copies what it sends; NCCL does not.

    Args:
        record: of everything since before the first tensor.
    """
    assert record.profiler is not None and record.profiler.kineto_results is not None
    events = sorted(_allocations(record.profiler.kineto_results.experimental_event_tree()))
    owned: set[int] = set()
    ours = everything = 0
    peaks = (0, 0)
    for _, pointer, size, collective in events:
        if collective and size > 0:
            owned.add(pointer)
        everything += size
        if pointer not in owned:
            ours += size
        elif size < 0:
            owned.discard(pointer)
        peaks = (max(peaks[0], ours), max(peaks[1], everything))
    return peaks


def _allocations(roots: list[Any]) -> Iterator[tuple[int, int, int, bool]]:
    """(time, pointer, bytes, whether a collective took them for itself) of every allocation and release."""
    waiting = [(each, False) for each in roots]
    while waiting:
        event, collective = waiting.pop()
        collective = collective or event.name.startswith("c10d::")
        waiting += [(child, collective) for child in event.children]
        if event.tag == _EventType.Allocation:
            yield event.start_time_ns, event.extra_fields.ptr, event.extra_fields.alloc_size, collective


def measured(run: RunConfig, world: int, folder: Path) -> dict[str, object]:
    """Peak of a few training steps.

    Args:
        run: the run.
        world: processes.
        folder: for what the trainer writes.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        trainer = DiffusionTrainer(trainer_config(run, folder, world), Recorder(run, None, None))
        batches = trainer.batch_generator(trainer.dataloader)
        for step in range(1, STEPS + 1):
            trainer.step = step
            trainer.train_step(batches)
    allocated, with_gloo = peak_bytes(record)
    trainer.optimizers.zero_grad()
    inputs, x0 = next(batches)
    raw = (x0, *inputs.values())

    def forward_backward(start: object) -> None:
        trainer.forward_backward_step(
            input_dict=inputs, labels=x0, global_valid_tokens=torch.tensor(float(x0.numel() * world))
        )

    passes, _ = trace_passes(trainer.model_parts[0], raw, forward_backward)
    return {"allocated": allocated, "with_gloo": with_gloo, "tracked": vars(passes.peak)}


def as_on_an_accelerator() -> None:
    """Compute blocks by their plain formulas, as a GPU does and a plan assumes, not by the CPU's own kernels."""
    functional._ordinary = lambda *tensors: False


def main() -> None:
    """Measure the case whose name and folder are on the command line; rank 0 writes the result."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    case = next(each for each in CASES if each.name == name)
    torch.set_num_threads(1)
    as_on_an_accelerator()
    with process_group_environment():
        result = measured(case.run, int(os.environ["WORLD_SIZE"]), folder)
        if os.environ["RANK"] == "0":
            (folder / "measured.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
