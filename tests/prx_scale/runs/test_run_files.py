"""Plain files: torn tails are survived, damage is named, no half of a file is left."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prx_scale.errors import InputError
from prx_scale.runs.files import read_rows, write_atomically
from prx_scale.runs.record import RunRecord
from tests.prx_scale.runs.records import train_row


@given(cut=st.integers(min_value=1, max_value=400))
def test_torn_tail_is_skipped_with_a_warning(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    record = RunRecord(tmp_path_factory.mktemp("study") / "run")
    record.append_all([train_row(step) for step in (1, 2, 3)])
    path = record.path("train")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - min(cut, len(whole) - 1)])
    left = path.read_bytes()
    complete = left.count(b"\n")
    torn = left.split(b"\n")[-1]
    parses = torn.endswith(b"}")
    if torn and not parses:
        with pytest.warns(UserWarning, match="cut short"):
            rows = read_rows(path)
    else:
        rows = read_rows(path)
    assert len(rows) == complete + (1 if torn and parses else 0)


def test_damage_in_the_middle_is_an_error(record: RunRecord) -> None:
    record.append_all([train_row(1), train_row(2)])
    path = record.path("train")
    path.write_text("{not json\n" + path.read_text())
    with pytest.raises(InputError, match=r"train\.jsonl, line 1"):
        read_rows(path)


def test_write_atomically_leaves_no_partial_file(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b.txt", "x")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.txt"]
