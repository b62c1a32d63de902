"""Train a few real steps in this process and measure its memory; run under torchrun for several processes.

Two measures of the same steps: bytes that torch's CPU allocator handed out, added up from the profiler's records of
every allocation and release since the process began; and, by kind, torch's memory tracker on real tensors.
"""

from __future__ import annotations

import json
import os
import sys
from itertools import accumulate
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.plan.cases import CASES
from parallel.estimators import trace_passes
from parallel.titan import process_group_environment
from prx_scale.config import RunConfig
from prx_scale.training.recording import Recorder
from prx_scale.training.titan_config import trainer_config
from prx_scale.training.trainer import DiffusionTrainer

STEPS = 2
"""The first makes the optimiser's state; the second is like all others."""


def peak_bytes(record: profile) -> int:
    """The most bytes that the CPU allocator had handed out.

    Args:
        record: of everything since before the first tensor.
    """
    assert record.profiler is not None and record.profiler.kineto_results is not None
    events = [each for each in record.profiler.kineto_results.events() if each.name() == "[memory]"]
    ordered = sorted(events, key=lambda each: each.start_ns())
    return max(accumulate(each.nbytes() for each in ordered))


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
    allocated = peak_bytes(record)
    trainer.optimizers.zero_grad()
    inputs, x0 = next(batches)
    raw = (x0, *inputs.values())

    def forward_backward(start: object) -> None:
        trainer.forward_backward_step(
            input_dict=inputs, labels=x0, global_valid_tokens=torch.tensor(float(x0.numel() * world))
        )

    passes, _ = trace_passes(trainer.model_parts[0], raw, forward_backward)
    return {"allocated": allocated, "tracked": vars(passes.peak)}


def main() -> None:
    """Measure the case whose name and folder are on the command line; rank 0 writes the result."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    case = next(each for each in CASES if each.name == name)
    torch.set_num_threads(1)
    with process_group_environment():
        result = measured(case.run, int(os.environ["WORLD_SIZE"]), folder)
        if os.environ["RANK"] == "0":
            (folder / "measured.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
