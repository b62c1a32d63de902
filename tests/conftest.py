"""What all tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# A shared or busy machine makes single examples slow at random; a deadline would only test the machine.
settings.register_profile("default", deadline=None)
settings.load_profile("default")


AT_FIRST = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)}


@pytest.fixture(autouse=True)
def signals_are_heard() -> Iterator[None]:
    """A run that has ended in this process ignores signals, and so would what a later test starts."""
    _hear_signals()
    yield
    _hear_signals()


def _hear_signals() -> None:
    for number, handler in AT_FIRST.items():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
