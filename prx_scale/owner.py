"""Which cluster job a run belongs to: `<run>/owner.json`, so that a job that was replaced writes nothing more.

A node that is cut off goes on training while its job is started anew elsewhere, and a lock held there may be unknown
here. Every start in a job therefore puts its own name into the file, and looks whether it still stands there before it
writes anything.
"""

from __future__ import annotations

import errno
import json
import secrets
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from prx_scale.attempts import Job
from prx_scale.runs.clock import now
from prx_scale.runs.files import write_atomically

TRIES = 3
"""Of reading: a network file system may know a replaced file by a name that is gone (ESTALE)."""


class Superseded(Exception):
    """Another job, or a start by hand, has taken the run over: this process must write nothing more."""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A start of a job, as owner.json names it."""

    job: str
    restart: int
    token: str
    """Random: no two starts have the same."""
    host: str = ""
    time: str = ""


def owner_path(folder: Path) -> Path:
    """The file.

    Args:
        folder: of the run.
    """
    return folder / "owner.json"


def read_owner(folder: Path) -> Owner | None:
    """Whom a run belongs to; None where it belongs to no job.

    Args:
        folder: of the run.

    Raises:
        OSError: the file system does not let it be read.
    """
    for attempt in range(TRIES):
        try:
            content = json.loads(owner_path(folder).read_text(encoding="utf-8"))
            return Owner(**{name: content[name] for name in Owner.__dataclass_fields__ if name in content})
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):  # not written by this package: nobody's name
            return None
        except OSError as error:
            if error.errno != errno.ESTALE or attempt + 1 == TRIES:
                raise
    return None


class Fence:
    """Whether a run is still this process's to write to."""

    def __init__(self, folder: Path, job: Job | None, token: str | None = None) -> None:
        """Args: token is None for processes other than the first, which know their job and restart, but not that."""
        self.folder, self.job, self.token = folder, job, token

    def check(self) -> None:
        """Look at owner.json.

        Raises:
            Superseded: it names another. Never outside a job, where the lock alone counts.
        """
        if self.job is None:
            return
        owner = read_owner(self.folder)
        mine = (self.job.id, self.job.restart)
        if owner and (owner.job, owner.restart) == mine and self.token in (None, owner.token):
            return
        if owner is None:
            who = "a start outside a job"
        else:
            who = f"job {owner.job} (restart {owner.restart}, on {owner.host}, {owner.time})"
        raise Superseded(f"{self.folder}: {who} has taken this run over; job {mine[0]} writes nothing more")

    def lost(self) -> bool:
        """Whether the run is known to be another's."""
        try:
            self.check()
        except Superseded:
            return True
        except OSError:  # whose it is cannot be read, which does not make it another's
            return False
        return False


def take(folder: Path, job: Job) -> Fence:
    """Write a job's name into owner.json, which ends what an earlier start may still be doing.

    Args:
        folder: of the run.
        job: that this process works for, as its first.
    """
    token = secrets.token_hex(8)
    owner = Owner(job=job.id, restart=job.restart, token=token, host=socket.gethostname(), time=now())
    write_atomically(owner_path(folder), json.dumps(asdict(owner)) + "\n")
    return Fence(folder, job, token)


def take_from_jobs(folder: Path) -> None:
    """A start outside a job, which holds the run's lock, takes the run away from whatever job may go on elsewhere.

    Args:
        folder: of the run.
    """
    owner_path(folder).unlink(missing_ok=True)
