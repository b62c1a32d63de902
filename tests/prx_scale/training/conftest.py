"""Runs that several files of tests compare with: starting processes costs most."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.prx_scale.training.studies import command, ended, start, write_study


@pytest.fixture(scope="session")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty steps of two processes: on a busy machine too, there is time to end one like it in the middle."""
    study = write_study(tmp_path_factory.mktemp("two") / "small", steps=60)
    assert [code for code, _ in ended(start(command(study), 2))] == [0, 0]
    return study
