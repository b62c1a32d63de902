"""What a signal meant, as a cause and in words."""

from __future__ import annotations

import signal

import pytest

from prx_scale.attempts import Ending
from prx_scale.signalcauses import signal_cause, signal_reason
from tests.prx_scale.clusterjobs import job


@pytest.mark.parametrize(
    ("number", "limit", "seconds", "cause"),
    [
        # Five minutes, of which a minute ran: submitit would call it timed out.
        (signal.SIGUSR2, 300.0, 60.0, Ending.PREEMPTED),
        (signal.SIGUSR2, 300.0, 144.0, Ending.PREEMPTED),
        (signal.SIGUSR2, 300.0, 145.0, Ending.TIME_LIMIT),
        (signal.SIGUSR2, 300.0, 210.0, Ending.TIME_LIMIT),
        (signal.SIGUSR2, 4 * 3600.0, 3 * 3600.0, Ending.PREEMPTED),
        (signal.SIGUSR2, None, 1e6, Ending.PREEMPTED),
        (signal.SIGTERM, 300.0, 210.0, Ending.PREEMPTED),
        (signal.SIGTERM, 300.0, 299.0, Ending.TIME_LIMIT),
        (signal.SIGINT, 300.0, 299.0, Ending.SIGNAL),
    ],
)
def test_only_near_the_limit_is_a_signal_the_limit(
    number: int, limit: float | None, seconds: float, cause: Ending
) -> None:
    assert signal_cause(number, job(limit_seconds=limit), seconds) is cause
    assert signal_cause(number, None, seconds) is Ending.SIGNAL


def test_causes_are_told_in_words() -> None:
    of = job(limit_seconds=4 * 3600.0)
    assert signal_reason(signal.SIGUSR2, of, 3605).startswith("preempted: SIGUSR2 after 1:00:05; ")
    assert signal_reason(signal.SIGTERM, of, 60).startswith("preempted or cancelled: SIGTERM after 0:01:00; ")
    assert signal_reason(signal.SIGUSR2, of, 4 * 3600 - 90).startswith("time limit of 4:00:00: SIGUSR2 after 3:58:30; ")
    assert signal_reason(signal.SIGTERM, None, 60) == "asked to stop by SIGTERM; the same command goes on from here"
