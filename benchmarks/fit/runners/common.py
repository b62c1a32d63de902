"""What every runner shares: reading the points, timing one task, and one JSON line as the answer.

A runner is one tool in an interpreter of its own: ``python RUNNER.py POINTS.csv TASK COUNT SEED``. It needs numpy and
the tool only. ``TASK`` is ``fit`` or ``bootstrap``; ``COUNT`` says how much of it to do where doing all of it takes
minutes; what was done, and out of how much, is in the answer.
"""

from __future__ import annotations

import csv
import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Table:
    """Points: parameters, tokens and losses, each of shape (n,)."""

    params: np.ndarray
    data: np.ndarray
    loss: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a task gave.

    Attributes:
        predict: gives the loss that the fit predicts at every point, outside the time; None where the task has no
            fit of all points.
        done: units of work done: starts or resamples.
        of: units that the whole task has.
    """

    predict: Callable[[], np.ndarray] | None
    done: int
    of: int


Task = Callable[[Table, int, int], Callable[[], Done]]
"""From the table, COUNT and SEED to what is timed: preparations are not."""


def answer(tool: str, version: str, tasks: dict[str, Task]) -> None:
    """Run the task of the command line and print its times, what came out, and the versions."""
    path, name, count, seed = sys.argv[1:5]
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    params, data, loss = (np.array([float(row[key]) for row in rows]) for key in ("params", "tokens", "loss"))
    work = tasks[name](Table(params=params, data=data, loss=loss), int(count), int(seed))
    wall, cpu = time.perf_counter(), time.process_time()
    done = work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    predicted = [] if done.predict is None else np.asarray(done.predict(), dtype=np.float64).tolist()
    versions = {"python": platform.python_version(), "numpy": np.__version__, tool: version}
    plain = {"cpu": cpu, "wall": wall, "done": done.done, "of": done.of}
    print(json.dumps({**plain, "predicted": predicted, "versions": versions}))
