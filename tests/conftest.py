"""What all tests share."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import settings

from prx_scale import stopping

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# A shared or busy machine makes single examples slow at random; a deadline would only test the machine.
settings.register_profile("default", deadline=None)
settings.load_profile("default")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where tests are dealt out to processes, files with many slow ones come first, so that none is left alone."""
    if not hasattr(config, "workerinput"):
        return
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


AT_FIRST = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)}


@pytest.fixture(autouse=True)
def signals_are_heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A run that has ended in this process ignores signals, and so would what a later test starts."""
    monkeypatch.setattr(stopping, "_request", None)  # nor is one asked to stop because an earlier one was
    _hear_signals()
    yield
    _hear_signals()


def _hear_signals() -> None:
    for number, handler in AT_FIRST.items():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
