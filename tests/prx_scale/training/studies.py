"""A small study and ways to train it in processes of its own, as a user does."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

SMALL = """
[study]
name = "small"
[model]
depth = {depth}
patch = 4
[training]
steps = {steps}
batch = 16
lr = {lr}
warmup = 4
[validation]
every = 4
images = 9
[checkpoint]
every = 6
[logging]
every = 1
"""

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}


def write_study(folder: Path, *, depth: int = 1, steps: int = 20, lr: float = 1e-3, more: str = "") -> Path:
    """Write a study.toml into a folder of its own and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.toml").write_text(SMALL.format(depth=depth, steps=steps, lr=lr) + more)
    return folder


def command(study: Path, processes: int = 1) -> list[str]:
    """The command that trains the study's single run."""
    verb = ["-m", "prx_scale", "train", str(study)]
    if processes == 1:
        return [sys.executable, *verb]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [sys.executable, *launcher, *verb]


def train(study: Path, processes: int = 1) -> subprocess.CompletedProcess[str]:
    """Train to the end."""
    return subprocess.run(
        command(study, processes), env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False
    )


def run_folder(study: Path) -> Path:
    """The folder of the study's single run."""
    (folder,) = (study / "runs").iterdir()
    return folder


def info(study: Path) -> dict[str, object]:
    """The single run's run.json."""
    return json.loads((run_folder(study) / "run.json").read_text())


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens at.

    They lie below those that the kernel gives to whoever names none: no socket of another training can come to one
    between now and its use.
    """
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(first - 10_000, first)
        with socket.socket() as probe, suppress(OSError):  # in use
            probe.bind(("", port))
            ports += [] if port in ports else [port]
    return ports


def start(command: list[str], processes: int) -> list[subprocess.Popen[str]]:
    """Start the ranks of one training side by side, without a launcher that would watch over them."""
    shared = {**ENVIRONMENT, "PYTHONPATH": str(ROOT), "WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1"}
    shared["MASTER_PORT"] = str(free_ports(1)[0])
    return [
        subprocess.Popen(
            command,
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]


def ended(ranks: list[subprocess.Popen[str]], timeout: float = 400) -> list[tuple[int, str]]:
    """Exit code and last errors of every rank; those that are not done in time are killed, and fail."""
    results: list[tuple[int, str]] = []
    deadline = time.monotonic() + timeout
    for rank in ranks:
        try:
            _, errors = rank.communicate(timeout=max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            rank.kill()
            _, errors = rank.communicate()
            errors += f"\nwas still at work after {timeout} s"
        # The cause may stand at either end: a fatal signal's is followed by the frames of all threads.
        results.append(
            (rank.returncode, errors if len(errors) < 12000 else f"{errors[:6000]}\n[...]\n{errors[-6000:]}")
        )
    return results


def _ends(text: str, most: int = 8000) -> str:
    """Both ends of a text: what a fatal signal was for comes before the frames of all threads."""
    return text if len(text) <= most else f"{text[: most // 2]}\n[...]\n{text[-most // 2 :]}"
