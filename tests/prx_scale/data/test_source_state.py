"""Whether data are still what they were: every file of theirs counts, wherever it lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from made import jpeg, write_shards

from prx_scale.data.sources.state import state_of, state_of_file
from prx_scale.errors import InputError


def photos(folder: Path) -> Path:
    for name in ("a/1.jpg", "a/2.jpg", "b/3.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(jpeg())
    return folder


def test_any_file_of_a_folder_that_changes_is_noticed(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos")
    states = [state_of(str(folder))]
    assert state_of(str(folder)) == states[0]
    (folder / "b" / "3.txt").write_text("a cat")
    states.append(state_of(str(folder)))
    (folder / "b" / "3.txt").write_text("a dog!")
    states.append(state_of(str(folder)))
    os.utime(folder / "a" / "1.jpg", (0, 0))
    states.append(state_of(str(folder)))
    (folder / "a" / "2.jpg").unlink()
    states.append(state_of(str(folder)))
    (folder / "b" / ".hidden").write_text("not read")
    assert len(set(states)) == 5 and state_of(str(folder)) == states[-1]


def test_shards_of_the_same_names_elsewhere_are_others_and_a_link_to_them_is_not(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_shards(tmp_path / name, (2, 1))
    one, two = (str(tmp_path / name / "*.tar") for name in ("one", "two"))
    assert state_of(one) != state_of(two)
    (tmp_path / "link").symlink_to(tmp_path / "one")
    assert state_of(str(tmp_path / "link")) == state_of(one)
    (tmp_path / "two" / "0001.tar").unlink()
    before = state_of(two)
    os.utime(tmp_path / "two" / "0000.tar", (0, 0))
    assert state_of(two) != before


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        state_of(str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError):
        state_of_file(str(tmp_path / "none"))
    assert state_of_file("https://host/a.tar") == "https://host/a.tar"
    folder = photos(tmp_path / "photos")
    (folder / "a" / "4.jpg").symlink_to(tmp_path / "none")
    assert state_of(str(folder)) == state_of(str(folder))
