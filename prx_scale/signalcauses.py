"""Why a signal came that asks a run to stop."""

from __future__ import annotations

import signal

from prx_scale.attempts import Ending, Job

EARLY_SECONDS = 65.0
"""SLURM looks at time limits once a minute, so its signal may come that much before it is due."""


def signal_cause(number: int, job: Job | None, seconds: float) -> Ending:
    """Why a signal came.

    SLURM sends SIGUSR2 ahead of the time limit and, where a site asks for that, of a preemption, and does not say
    which. Only near the limit is it the limit.

    Args:
        number: of the signal.
        job: that the process works for; None outside a cluster.
        seconds: since the process started.
    """
    if job is None or number == signal.SIGINT:
        return Ending.SIGNAL
    ahead = job.signal_seconds if number == signal.SIGUSR2 else 0.0
    if job.limit_seconds is not None and seconds >= job.limit_seconds - ahead - EARLY_SECONDS:
        return Ending.TIME_LIMIT
    return Ending.PREEMPTED


def signal_reason(number: int, job: Job | None, seconds: float) -> str:
    """The cause of a signal in words.

    Args:
        number: of the signal.
        job: that the process works for; None outside a cluster.
        seconds: since the process started.
    """
    name, cause = signal.Signals(number).name, signal_cause(number, job, seconds)
    if job is None or cause is Ending.SIGNAL:
        return f"asked to stop by {name}; the same command goes on from here"
    after = f"{name} after {_clock(seconds)}"
    if cause is Ending.TIME_LIMIT:
        return f"time limit of {_clock(job.limit_seconds or 0)}: {after}; a restart goes on from here"
    words = "preempted" if number == signal.SIGUSR2 else "preempted or cancelled"
    return f"{words}: {after}; a restart goes on from here"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
