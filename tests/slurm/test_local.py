"""Jobs as processes: how many at a time, what comes back, and what a signal does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from slurm.local import Job, Room, room, run_jobs


def job(name: str, code: str, folder: Path) -> Job:
    return Job(name=name, command=(sys.executable, "-c", textwrap.dedent(code)), output=folder / f"{name}.log")


def test_exit_codes_and_output_come_back(tmp_path: Path) -> None:
    jobs = [job("good", "print('hello')", tmp_path), job("bad", "import sys; print('why'); sys.exit(3)", tmp_path)]
    outcomes = {outcome.job.name: outcome for outcome in run_jobs(jobs, Room(workers=2, threads=1))}
    assert outcomes["good"].exit_code == 0
    assert outcomes["good"].last_lines == "hello"
    assert outcomes["bad"].exit_code == 3
    assert outcomes["bad"].last_lines == "why"


def test_no_more_jobs_at_a_time_than_workers(tmp_path: Path) -> None:
    code = f"""
    import os, pathlib, time
    here = pathlib.Path({str(tmp_path)!r}) / f"alive-{{os.getpid()}}"
    here.touch()
    time.sleep(0.4)
    print(len(list(here.parent.glob("alive-*"))))
    here.unlink()
    """
    jobs = [job(f"j{number}", code, tmp_path) for number in range(4)]
    outcomes = run_jobs(jobs, Room(workers=2, threads=1))
    assert max(int(outcome.last_lines) for outcome in outcomes) == 2


def test_threads_are_divided(tmp_path: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    assert room(1) == Room(workers=1, threads=cores)
    assert room(1000) == Room(workers=cores, threads=1)
    assert room(1000, workers=1).workers == 1
    outcome = run_jobs(
        [job("t", "import os; print(os.environ['OMP_NUM_THREADS'])", tmp_path)], Room(workers=1, threads=7)
    )
    assert outcome[0].last_lines == "7"


LAUNCHER = """
import sys
from pathlib import Path
from slurm.local import Interrupted, Job, Room, run_jobs
code = '''
import signal, sys, time
def end(*_):
    print("saved"); sys.exit(130)
signal.signal(signal.SIGTERM, end)
print("up", flush=True)
time.sleep(60)
'''
jobs = [Job(name=n, command=(sys.executable, "-c", code), output=Path(sys.argv[1]) / n) for n in ("a", "b", "waiting")]
try:
    run_jobs(jobs, Room(workers=2, threads=1))
except Interrupted:
    sys.exit(42)
"""


def test_a_signal_lets_running_jobs_save_and_starts_no_more(tmp_path: Path) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        folder = tmp_path / number.name
        folder.mkdir()
        launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER, str(folder)])
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if all((folder / name).exists() and "up" in (folder / name).read_text() for name in ("a", "b")):
                break
            time.sleep(0.02)
        launcher.send_signal(number)
        assert launcher.wait(timeout=30) == 42
        assert [(folder / name).read_text().split() for name in ("a", "b")] == [["up", "saved"]] * 2
        assert not (folder / "waiting").exists()
