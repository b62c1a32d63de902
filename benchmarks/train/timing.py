"""Times of several things in turns, so that whatever else the machine does hits all alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds of each turn: process time on the CPU, and wall time."""

    cpu: np.ndarray
    wall: np.ndarray


def alternate(
    tasks: Mapping[str, Callable[[], object]], *, turns: int, seconds: float, device: torch.device, warmup: int = 2
) -> dict[str, Times]:
    """Run every task once a turn, the order changing from turn to turn.

    Args:
        tasks: what to time, by name.
        turns: at most so many.
        seconds: no further turn starts after so long, once there were three.
        device: is waited for before a clock is read.
        warmup: turns before, not timed.
    """
    names, taken = list(tasks), {name: ([], []) for name in tasks}
    for _ in range(warmup):
        for task in tasks.values():
            task()
    gc.collect()
    began = time.perf_counter()
    for turn in range(turns):
        if turn >= 3 and time.perf_counter() - began > seconds:
            break
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            cpu, wall = _timed(tasks[name], device)
            taken[name][0].append(cpu)
            taken[name][1].append(wall)
    return {name: Times(cpu=np.array(cpu), wall=np.array(wall)) for name, (cpu, wall) in taken.items()}


def _timed(task: Callable[[], object], device: torch.device) -> tuple[float, float]:
    synchronise(device)
    cpu, wall = time.process_time(), time.perf_counter()
    task()
    synchronise(device)
    return time.process_time() - cpu, time.perf_counter() - wall


def synchronise(device: torch.device) -> None:
    """Wait for a GPU; a CPU has nothing under way."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
