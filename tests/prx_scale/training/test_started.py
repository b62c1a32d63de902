"""Which code a run is recorded with."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from prx_scale.errors import InputError
from prx_scale.training.started import commit


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    return subprocess.run(["git", *who, *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def package(folder: Path) -> Path:
    inner = folder / "prx_scale" / "training"
    inner.mkdir(parents=True)
    (inner / "run.py").write_text("1\n")
    return inner


def test_a_snapshot_says_it_itself(tmp_path: Path) -> None:
    (tmp_path / "code.json").write_text('{"commit": "abc", "dirty": true}')
    assert commit(package(tmp_path)) == ("abc", True)
    (tmp_path / "code.json").write_text('{"commit": null, "dirty": null}')
    assert commit(tmp_path / "prx_scale" / "training") == (None, None)


def test_a_damaged_snapshot_is_named(tmp_path: Path) -> None:
    (tmp_path / "code.json").write_text('{"commit": "abc"}')
    with pytest.raises(InputError, match=r'code.json: not of a snapshot, which has "commit" and "dirty"'):
        commit(package(tmp_path))


def test_otherwise_git_is_asked(tmp_path: Path) -> None:
    inner = package(tmp_path)
    assert commit(inner) == (None, None)
    git(tmp_path, "init", "-q")
    assert commit(inner) == (None, None)
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert commit(inner) == (head, False)
    (inner / "run.py").write_text("2\n")
    assert commit(inner) == (head, True)
