"""A run's lock: patience with a holder that goes away, and file systems without locks."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from prx_scale.errors import InputError
from prx_scale.locks import NoLongerWanted, is_held, only_one

HOLD = """
import sys, time
from pathlib import Path
from prx_scale.locks import only_one
with only_one(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def holder(folder: Path, seconds: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_holder_that_goes_away_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = holder(tmp_path, 600)
    start = time.monotonic()

    def end_of_the_other() -> bool:
        if time.monotonic() > start + 1.5 and other.poll() is None:
            other.kill()
        return False

    with only_one(tmp_path, 60, end_of_the_other):
        assert 1.5 < time.monotonic() - start < 30
        assert other.wait() == -9
    (said,) = caplog.messages
    assert "another process holds its lock; waiting for it, 59 s at most" in said


def test_patience_ends(tmp_path: Path) -> None:
    other = holder(tmp_path, 600)
    try:
        with pytest.raises(InputError, match="is working on it, also after 2 s; wait"), only_one(tmp_path, 2):
            pass
        with pytest.raises(NoLongerWanted), only_one(tmp_path, 60, lambda: True):
            pass
    finally:
        other.kill()
        other.wait()
    assert not is_held(tmp_path)


WITHOUT_LOCKS = """
import ctypes, errno, logging, platform, struct, sys
from pathlib import Path
from prx_scale.locks import is_held, only_one

# The kernel itself answers flock as a network file system without a lock service does (a filter of system calls).
number = {"x86_64": 73, "aarch64": 32}[platform.machine()]
answer = 0x00050000 | getattr(errno, sys.argv[2])
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, answer), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]
program = Program(len(steps), ctypes.addressof(code))
libc = ctypes.CDLL(None)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(program)):
    sys.exit(77)
folder = Path(sys.argv[1])
with only_one(folder):
    assert not is_held(folder)
    print("went on")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="system calls are filtered as Linux does it")
@pytest.mark.parametrize("answer", ["ENOLCK", "EOPNOTSUPP", "ENOSYS"])
def test_a_file_system_without_locks_is_gone_on_with(answer: str, tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", WITHOUT_LOCKS, str(tmp_path), answer]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("this machine does not let system calls be filtered")
    assert (done.returncode, done.stdout) == (0, "went on\n"), done.stderr
    assert "its file system has no locks" in done.stderr
