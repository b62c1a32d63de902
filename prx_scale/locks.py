"""One process a folder, of a run or a filter: a lock that the kernel takes back however its holder ends."""

from __future__ import annotations

import errno
import fcntl
import logging
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from prx_scale.errors import InputError

logger = logging.getLogger(__name__)

LOCK = "lock"
POLL_SECONDS = 0.1
SLOW_POLL_SECONDS = 1.0
"""Between tries of one who waits for long."""
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
"""What a file system answers that has no locks."""


class NoLongerWanted(Exception):
    """Whoever waited for a lock was asked to stop."""


@contextmanager
def only_one(
    folder: Path, patience_seconds: float = 1.0, unwanted: Callable[[], bool] = lambda: False
) -> Generator[None]:
    """Hold the lock of a folder. On a file system without locks, go on without, and warn.

    Args:
        folder: of the run, or of what else one process writes.
        patience_seconds: how long to wait for it. At least a moment: whoever asks `is_held` holds the lock too, for
            an instant. On a network file system a dead machine's lock stays until its lease ends.
        unwanted: whether to stop waiting.

    Raises:
        InputError: another process holds it.
        NoLongerWanted: while waiting.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as file:
        _acquire(file, folder, patience_seconds, unwanted)
        yield


def _acquire(file: TextIO, folder: Path, patience_seconds: float, unwanted: Callable[[], bool]) -> None:
    deadline = time.monotonic() + patience_seconds
    said = False
    while not _tried(file, folder):
        left = deadline - time.monotonic()
        if left <= 0:
            waited = f", also after {patience_seconds:,.0f} s" if said else ""
            raise InputError(f"{folder}: another process is working on it{waited}; wait for it or stop it")
        if unwanted():
            raise NoLongerWanted(f"{folder}: asked to stop while waiting for its lock")
        long = patience_seconds - left >= 1.0
        if long and not said:
            said = True
            logger.warning(f"{folder}: another process holds its lock; waiting for it, {left:,.0f} s at most")
        time.sleep(min(left, SLOW_POLL_SECONDS if long else POLL_SECONDS))


def _tried(file: TextIO, folder: Path) -> bool:
    """Whether this process has the lock now, or there are none to have."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        logger.warning(f"{folder}: its file system has no locks; nothing keeps a second process from working on it")
    return True


@contextmanager
def in_turn(file: Path, unwanted: Callable[[], bool] = lambda: False) -> Generator[None]:
    """Hold the lock of what one process makes for all, after whoever else is at it, however long that takes.

    Args:
        file: of the lock.
        unwanted: whether to stop waiting.

    Raises:
        NoLongerWanted: while waiting.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as held:
        while not _tried(held, file):
            if unwanted():
                raise NoLongerWanted(f"{file}: asked to stop while waiting for another process")
            time.sleep(POLL_SECONDS)
        yield


def is_held(folder: Path) -> bool:
    """Whether a process is working on a run, as far as its lock tells; False where the file system has no locks.

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
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        return False
