"""One launch of a study at a time, wherever it is started from.

The lock is a hard link, which NFS makes atomically, and expires: a launcher that died anywhere is waited for no longer
than it had promised to come back.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from flufl.lock import Lock, LockError, TimeOutError

from prx_scale.errors import InputError

LIFETIME = timedelta(seconds=30)
"""A launcher that has not refreshed its lock for so long is taken for dead."""
PATIENCE = timedelta(minutes=15)


@contextmanager
def only_launcher(study: Path, waiting: Callable[[str], None]) -> Generator[Callable[[], None]]:
    """Hold the study's launch lock.

    Args:
        study: the study folder.
        waiting: is told, once, who holds it where that is another.

    Yields:
        Is to be called before each submission: keeps the lock, or finds that it is lost.

    Raises:
        InputError: another launch goes on for too long, the folder cannot be written to, or the lock was lost.
    """
    path = study / "jobs" / "launch.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = Lock(str(path), lifetime=LIFETIME)
    try:
        _acquire(lock, path, waiting)
    except OSError as error:
        raise InputError(f"{path}: cannot be locked ({error}); the study folder must be writable") from error

    def keep() -> None:
        try:
            lock.refresh()
        except LockError as error:
            raise InputError(f"{path}: taken over by another launch; look at `prx-scale status {study}`") from error

    try:
        yield keep
    finally:
        if lock.is_locked:
            lock.unlock()


def _acquire(lock: Lock, path: Path, waiting: Callable[[str], None]) -> None:
    try:
        lock.lock(timeout=timedelta(seconds=1))
    except TimeOutError:
        waiting(f"{_holder(lock)} is launching this study: waiting for it")
        try:
            lock.lock(timeout=PATIENCE)
        except TimeOutError as error:
            raise InputError(f"{path}: {_holder(lock)} has been launching this study for {PATIENCE}") from error


def _holder(lock: Lock) -> str:
    try:
        host, pid, _ = lock.details
    except LockError:
        return "another launcher"
    return f"process {pid} on {host}"
