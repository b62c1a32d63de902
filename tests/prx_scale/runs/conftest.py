"""A run that has been started."""

from __future__ import annotations

from pathlib import Path

import pytest

from prx_scale.runs.record import RunRecord
from tests.prx_scale.runs.records import make_info


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    record = RunRecord(tmp_path / "runs" / "d1-s0-00000000")
    record.write(make_info())
    return record
