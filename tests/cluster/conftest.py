"""The cluster that all tests of this folder share."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.jobs import tidy
from tests.cluster.packages import available


@pytest.fixture(scope="session")
def slurm() -> None:
    """Skips where no cluster can run; PRX_REQUIRE_SLURM=1 makes that a failure."""
    reason = available()
    if reason is not None:
        (pytest.fail if os.environ.get("PRX_REQUIRE_SLURM") == "1" else pytest.skip)(reason)


@pytest.fixture(scope="session")
def cluster(slurm: None) -> Iterator[Cluster]:
    """A running cluster."""
    # Not pytest's own folder, whose path is too long for sockets.
    folder = Path(tempfile.mkdtemp(prefix="prx-cluster-"))
    # SIGTERM ends pytest without finalizers; as a Ctrl-C it takes the daemons along.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    atexit.register(_end, folder)
    try:
        yield Cluster.start(folder)
    finally:
        _end(folder)
        atexit.unregister(_end)
        signal.signal(signal.SIGTERM, before)


@pytest.fixture
def idle_cluster(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with no job before and after the test, both nodes idle."""
    tidy(cluster)
    yield cluster
    tidy(cluster)


def _end(folder: Path) -> None:
    Cluster(folder=folder).stop()
    shutil.rmtree(folder, ignore_errors=True)
