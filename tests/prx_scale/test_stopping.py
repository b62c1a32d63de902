"""Signals are noted, given back, and at the end ignored."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from prx_scale.stopping import ASKING, listening


def test_the_highest_signal_counts_and_handlers_are_given_back() -> None:
    before = [signal.getsignal(number) for number in ASKING]
    start = time.time()
    with listening() as request:
        assert request.number == 0
        for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
        assert request.number == signal.SIGTERM
        assert 0 <= request.seconds_after(start) < 5
        with listening() as inner:
            assert inner is request
        os.kill(os.getpid(), signal.SIGUSR2)  # still listening
    assert [signal.getsignal(number) for number in ASKING] == before
    with listening() as request:
        assert request.number == 0


IN_A_PROCESS = """
import os, signal, sys
from prx_scale import stopping
signal.signal(signal.SIGUSR2, lambda *_: sys.exit(9))  # somebody else's
request = stopping.listen()
os.kill(os.getpid(), signal.SIGUSR2)
assert request.number == signal.SIGUSR2
stopping.ignore()
class Late:
    def __del__(self, kill=os.kill, pid=os.getpid(), number=int(sys.argv[1]), write=os.write):
        kill(pid, number)  # while the interpreter is taken down
        write(1, b"late")
import builtins
builtins.late = Late()
sys.exit(3)
"""


@pytest.mark.parametrize("number", ASKING)
def test_a_signal_after_the_end_does_not_change_the_exit_code(number: signal.Signals) -> None:
    command = [sys.executable, "-c", IN_A_PROCESS, str(int(number))]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    assert (done.returncode, done.stdout) == (3, b"late")
