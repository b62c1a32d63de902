"""Signals that ask a process to save and end: noted when they come, acted upon where nothing can be lost."""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
"""Ctrl-C; a launcher's or SLURM's request to end; what SLURM sends ahead of a time limit or a preemption."""


_PR_SET_PDEATHSIG = 1


def signalled_with_parent(number: int) -> None:
    """Have the kernel send this process a signal when its parent dies; Linux alone can.

    Args:
        number: of the signal.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


class StopRequest:
    """Whether a signal has asked this process to end, and which."""

    def __init__(self) -> None:
        self.number = 0
        """Of the signal, the highest where there were several; 0 while there was none."""
        self.time: float | None = None
        """When the first came, in seconds since the epoch."""

    def note(self, number: int, frame: FrameType | None = None) -> None:
        """A signal has come."""
        self.number = max(self.number, number)
        self.time = self.time or time.time()

    def seconds_after(self, start: float) -> float:
        """How long after a moment the first signal came; until now where another process was the one to hear it.

        Args:
            start: the moment, in seconds since the epoch.
        """
        return (self.time or time.time()) - start


_request: StopRequest | None = None


def listen() -> StopRequest:
    """From now on the signals end nothing by themselves, whoever had taken them before.

    Called as early as possible: what is imported after it may take long.
    """
    global _request
    if _request is None:
        _request = StopRequest()
    if threading.current_thread() is threading.main_thread():  # Python gives signals to no other
        for number in ASKING:
            signal.signal(number, _request.note)
    return _request


def ignore() -> None:
    """The process is about to end with an exit code that is decided: signals no longer change it."""
    if threading.current_thread() is threading.main_thread():
        for number in ASKING:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def listening() -> Generator[StopRequest]:
    """As `listen`; afterwards the signals go back to those who had them, unless the whole process listens."""
    global _request
    if _request is not None:
        yield listen()
        return
    before: dict[signal.Signals, Any] = {number: signal.getsignal(number) for number in ASKING}
    try:
        yield listen()
    finally:
        _request = None
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
