"""A launcher that is killed takes its runs down with their state saved; launching again finishes them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prx_scale.locks import is_held
from tests.prx_scale.training.studies import ENVIRONMENT, info, run_folder, write_study


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a process that its parent died")
def test_a_killed_launcher_leaves_no_run_going_on_unseen(tmp_path: Path) -> None:
    study = write_study(tmp_path / "small", steps=2000)
    sweep = [sys.executable, "-m", "prx_scale", "sweep", str(study)]
    launcher = subprocess.Popen(sweep, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(study.glob("runs/*/train.jsonl")):
        assert time.monotonic() < deadline and launcher.poll() is None
        time.sleep(0.05)
    launcher.send_signal(signal.SIGKILL)
    launcher.wait()
    while is_held(run_folder(study)):
        assert time.monotonic() < deadline, "the run went on without its launcher"
        time.sleep(0.05)
    record = info(study)
    assert record["state"] == "interrupted"
    assert (run_folder(study) / "checkpoint" / f"step-{record['step']}" / ".metadata").exists()
