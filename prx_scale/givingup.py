"""When to give up on a run instead of starting it once more: what its attempts say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from prx_scale.attempts import End, Ending, Job, Retry, Row, Start

KILLED = "killed: its end was not recorded"
Counted = Sequence[tuple[Start, End | None]]
"""Starts with their ends, None for those that were killed."""


def counted(rows: Sequence[Row]) -> Counted:
    """The starts in jobs since the last retry, each with its end.

    Args:
        rows: of a run's attempts.
    """
    last_retry = max((index for index, row in enumerate(rows) if isinstance(row, Retry)), default=-1)
    since = rows[last_retry + 1 :]
    ends = {row.attempt: row for row in since if isinstance(row, End)}
    return [(row, ends.get(row.attempt)) for row in since if isinstance(row, Start) and row.executor == "slurm"]


def fruitless(starts: Counted, from_step: int) -> int:
    """How many starts in a row, up to the last, went on from the same checkpoint as the next one.

    Args:
        starts: in their order.
        from_step: of the checkpoint that the next start goes on from.
    """
    number = 0
    for start, _ in reversed(starts):
        if start.from_step != from_step:
            break
        number += 1
    return number


def verdict(rows: Sequence[Row], job: Job, from_step: int) -> str | None:
    """Whether to give up instead of starting once more.

    Args:
        rows: of the run's attempts.
        job: has the limits.
        from_step: of the checkpoint that the next start would go on from.

    Returns:
        The reason to give up; None to go on.
    """
    starts = counted(rows)
    same = fruitless(starts, from_step)
    if same >= job.max_fruitless:
        _, end = starts[-1]
        last = KILLED if end is None else end.reason or end.cause.value
        times = "once" if same == 1 else f"{same} times"
        return f"started {times} from step {from_step} without reaching a new checkpoint; the last one ended: {last}"
    if len(starts) > job.max_restarts:
        return f"{_too_often(starts)}; raise [slurm] max_restarts or use prx-scale retry"
    return None


def _too_often(starts: Counted) -> str:
    causes = Counter("killed" if end is None else end.cause.value for _, end in starts)
    preempted = causes[Ending.PREEMPTED.value]
    restarts = f"{len(starts)} restart{'s' if len(starts) > 1 else ''}"
    if preempted == max(causes.values()):
        return f"preempted too often: {restarts}, {preempted} of them preemptions"
    return f"restarted too often: {restarts}, after {', '.join(f'{n} {cause}' for cause, n in causes.most_common())}"
