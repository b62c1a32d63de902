"""The nodes' names in the hosts file: MASTER_ADDR is one of them, so they have to resolve."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable
from pathlib import Path

from tests.cluster.daemons import ClusterError
from tests.cluster.settings import NODES

HOSTS = Path("/etc/hosts")


def add(folder: Path) -> None:
    """Adds this cluster's line; each cluster has its own, so that none takes away another's.

    Raises:
        ClusterError: the names resolve to another machine.
    """
    _edit(lambda lines: [*_others(lines, folder), _line(folder)])
    for node in NODES:
        found = socket.gethostbyname(node)
        if not found.startswith("127."):
            raise ClusterError(f"{HOSTS}: the node's name {node} is that of {found}; the test cluster needs it")


def remove(folder: Path) -> None:
    """Takes this cluster's line away."""
    _edit(lambda lines: _others(lines, folder))


def _line(folder: Path) -> str:
    return f"127.0.0.1 {' '.join(NODES)} # test cluster {folder}"


def _others(lines: list[str], folder: Path) -> list[str]:
    return [line for line in lines if line != _line(folder)]


def _edit(change: Callable[[list[str]], list[str]]) -> None:
    # In place, because in containers the hosts file is mounted and cannot be replaced.
    with os.fdopen(os.open(HOSTS, os.O_RDWR | os.O_CREAT, 0o644), "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        before = file.read()
        after = "".join(f"{line}\n" for line in change(before.splitlines()))
        if after != before:
            os.pwrite(file.fileno(), after.encode(), 0)
            os.ftruncate(file.fileno(), len(after.encode()))
