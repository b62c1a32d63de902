"""One process a run: a lock that the kernel takes back when its holder ends, however it ends."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from prx_scale.errors import InputError

LOCK = "lock"
ATTEMPTS = 10


@contextmanager
def only_one(folder: Path) -> Generator[None]:
    """Hold a run's lock.

    Args:
        folder: of the run.

    Raises:
        InputError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as file:
        _acquire(file, folder)
        yield


def _acquire(file: TextIO, folder: Path) -> None:
    """Try for a second: whoever asks `is_held` holds the lock too, for an instant."""
    for attempt in range(ATTEMPTS):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if attempt + 1 == ATTEMPTS:
                message = f"{folder}: another process is working on this run; wait for it or stop it"
                raise InputError(message) from error
        time.sleep(1 / ATTEMPTS)


def is_held(folder: Path) -> bool:
    """Whether a process on this machine is working on a run.

    Args:
        folder: of the run.
    """
    if not (folder / LOCK).exists():
        return False
    with (folder / LOCK).open("r") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
