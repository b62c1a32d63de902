"""The same work on many tasks, in this process or in several beside it."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from prx_scale.stopping import signalled_with_parent

_LEFT_TO_THE_PARENT = (signal.SIGINT, signal.SIGUSR2)
"""Of the signals that go to all. Not SIGTERM: it is how the pool ends the others when one has died."""
_AHEAD = 2
"""Tasks that wait, beside the one that each process works on."""

Task = TypeVar("Task")
Answer = TypeVar("Answer")


class WorkerDied(Exception):
    """A process died at a task or soon after it."""

    def __init__(self, task: object) -> None:
        """Take the task.

        Args:
            task: the first that has no answer.
        """
        super().__init__(f"a process died at {task} or soon after")
        self.task = task


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(work: Callable[[Task], Answer], tasks: Iterable[Task], workers: int) -> Generator[tuple[Task, Answer]]:
    """Tasks in their order, each with its answer.

    Args:
        work: answers a task; goes to each process once, in a pickle.
        tasks: taken a few at a time.
        workers: processes beside this one, which end with it and leave Ctrl-C to it; below 2 it is done here.

    Raises:
        WorkerDied: one did.
    """
    if workers < 2:
        yield from ((task, work(task)) for task in tasks)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start, initargs=(work,))
    waiting: deque[tuple[Task, Future[Answer]]] = deque()
    try:
        for task in tasks:
            waiting.append((task, _asked(pool, task)))
            if len(waiting) > workers + _AHEAD:
                yield _answered(*waiting.popleft())
        while waiting:
            yield _answered(*waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _asked(pool: ProcessPoolExecutor, task: object) -> Future[Any]:
    """The answer to come, which is the error where the pool has broken since the last task."""
    try:
        return pool.submit(_answer, task)
    except BrokenProcessPool as error:
        refused = Future[Any]()
        refused.set_exception(error)
        return refused


def _answered(task: Task, future: Future[Answer]) -> tuple[Task, Answer]:
    try:
        return task, future.result()
    except BrokenProcessPool as error:
        raise WorkerDied(task) from error


_work: Callable[[Any], Any]


def _start(work: Callable[[Any], Any]) -> None:
    """In a worker: take the work, end with the parent, and leave Ctrl-C to it."""
    global _work
    _work = work
    for number in _LEFT_TO_THE_PARENT:
        signal.signal(number, signal.SIG_IGN)
    signalled_with_parent(signal.SIGKILL)


def _answer(task: Any) -> Any:
    return _work(task)
