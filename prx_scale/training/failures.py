"""What an error of a training process means: whether the same again may go well, and what the shell is told."""

from __future__ import annotations

import re
from enum import StrEnum

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException

from prx_scale.attempts import Ending
from prx_scale.commands import exits
from prx_scale.errors import InputError
from prx_scale.owner import Superseded
from prx_scale.runs.info import State

_CONNECTIONS = re.compile(r"/gloo/transport/|connectFullMesh|^NCCL error|NCCL communicator was aborted")
"""Words of errors that have no type of their own: gloo's begin with the place in its source."""
_MISUSE = re.compile(r"ncclInvalidUsage|ncclInvalidArgument|invalid usage|invalid argument")
"""NCCL's words for a mistake in the program or its set-up, which comes again."""


class Kind(StrEnum):
    """What an error means."""

    AGAIN = "again"
    """A connection or a collective failed: the same command may go well."""
    FOR_GOOD = "for-good"
    """Out of memory, bad data, a mistake in the program: the same would come again."""
    BAD_INPUT = "bad-input"
    SUPERSEDED = "superseded"
    """Another start has the run now."""

    @property
    def exit_code(self) -> int:
        """What the shell is told."""
        return {Kind.AGAIN: exits.AGAIN, Kind.BAD_INPUT: exits.BAD_INPUT}.get(self, exits.FAILED)

    @property
    def state(self) -> State | None:
        """What the record says; None where this process leaves it as it is."""
        known = {Kind.AGAIN: State.INTERRUPTED, Kind.BAD_INPUT: State.INTERRUPTED, Kind.FOR_GOOD: State.FAILED}
        return known.get(self)

    @property
    def cause(self) -> Ending:
        """What the attempts say."""
        return {
            Kind.AGAIN: Ending.CONNECTION,
            Kind.FOR_GOOD: Ending.FAILED,
            Kind.BAD_INPUT: Ending.BAD_INPUT,
            Kind.SUPERSEDED: Ending.SUPERSEDED,
        }[self]


class PeerFailed(Exception):
    """What another process met, before training began."""

    def __init__(self, message: str, kind: Kind) -> None:
        super().__init__(message)
        self.kind = kind


def kind_of(error: BaseException, *, asked_to_stop: bool = False) -> Kind:
    """What an error means.

    Args:
        error: that ended training.
        asked_to_stop: whether a signal had come before. A cluster sends it to all processes of a task, those that
            compile for it included, so what fails after it may have failed of it.
    """
    error = _root(error)
    if isinstance(error, PeerFailed):
        return error.kind
    if isinstance(error, InputError):
        return Kind.BAD_INPUT
    if isinstance(error, Superseded):
        return Kind.SUPERSEDED
    if asked_to_stop or isinstance(error, KeyboardInterrupt) or _of_a_connection(error):
        return Kind.AGAIN
    return Kind.FOR_GOOD


def words(error: BaseException) -> str:
    """The type of an error and the first line of its message.

    Args:
        error: that ended training.
    """
    error = _root(error)
    message = str(error).strip().splitlines()
    return f"{type(error).__name__}: {message[0][:500]}" if message else type(error).__name__


def _root(error: BaseException) -> BaseException:
    """Of a failed save or load, which names what each process met, the first of those that would come again."""
    if not isinstance(error, CheckpointException) or not error.failures:
        return error
    met = [each for each, _ in error.failures.values()]
    return next((each for each in met if not _of_a_connection(each)), met[0])


def _of_a_connection(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError):
        return False
    if isinstance(error, dist.DistError):
        return not _MISUSE.search(str(error))
    if isinstance(error, (ConnectionError, TimeoutError)):
        return True
    return isinstance(error, RuntimeError) and bool(_CONNECTIONS.search(str(error)))
