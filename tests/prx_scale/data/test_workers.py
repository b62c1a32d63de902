"""The same work on many tasks in several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from prx_scale.data.workers import WorkerDied, in_order


@dataclass(frozen=True)
class Multiply:
    by: int
    dies_at: int = -1

    def __call__(self, task: int) -> tuple[int, int]:
        if task == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return task * self.by, os.getpid()


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_answers_come_in_the_order_of_tasks_which_are_taken_a_few_at_a_time(workers: int) -> None:
    taken = list[int]()

    def tasks() -> Iterator[int]:
        for task in range(20):
            taken.append(task)
            yield task

    processes = set[int]()
    answers = in_order(Multiply(3), tasks(), workers)
    for place, (task, (answer, process)) in enumerate(answers):
        assert (task, answer) == (place, 3 * place)
        assert len(taken) <= place + 1 + workers + 2
        processes.add(process)
    assert len(taken) == 20
    assert (os.getpid() in processes) == (workers < 2)


def test_a_process_that_dies_is_told_with_the_first_task_without_an_answer() -> None:
    answers = in_order(Multiply(1, dies_at=3), range(20), 2)
    seen: list[int] = []
    with pytest.raises(WorkerDied) as caught:
        seen.extend(task for task, _ in answers)
    assert caught.value.task == len(seen) <= 3


def test_so_is_one_whose_death_is_known_before_the_next_task_is_there() -> None:
    others = set(multiprocessing.active_children())

    def tasks() -> Iterator[int]:
        yield from range(3)
        while set(multiprocessing.active_children()) - others:  # when the pool has seen a death, it ends the others
            time.sleep(0.01)
        yield 3

    seen: list[int] = []
    with pytest.raises(WorkerDied) as caught:
        seen.extend(task for task, _ in in_order(Multiply(1, dies_at=2), tasks(), 2))
    assert caught.value.task == len(seen) <= 2
