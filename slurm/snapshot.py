"""The code that a study's jobs run: a copy beside the study, so that what changes later changes no job.

A job may start days after it was submitted, and again after that. It then loads what it was submitted with.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("prx_scale", "parallel", "scaling", "slurm", "reports")
DIGITS = 12


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A copy of the packages, named by its content."""

    folder: Path
    """Goes first in PYTHONPATH."""
    commit: str | None
    """Git's, of the code that was copied; None outside a repository."""
    dirty: bool | None
    """Whether files differed from that commit."""


def take_snapshot(study: Path) -> Snapshot:
    """Copy the packages into a study, unless the same are there.

    Args:
        study: the study folder.
    """
    folders, target = _folders(), planned_folder(study)
    commit, dirty = _commit(folders[0])
    if not (target / "code.json").exists():
        partial = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.rmtree(partial, ignore_errors=True)
        for folder in folders:
            shutil.copytree(folder, partial / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
        (partial / "code.json").write_text(json.dumps({"commit": commit, "dirty": dirty}) + "\n", encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    return Snapshot(folder=target, commit=commit, dirty=dirty)


def planned_folder(study: Path) -> Path:
    """Where `take_snapshot` would put its copy.

    Args:
        study: the study folder.
    """
    return study / "jobs" / "code" / _digest(_folders())


def _folders() -> list[Path]:
    return [_package(name) for name in PACKAGES]


def _package(name: str) -> Path:
    found = importlib.util.find_spec(name)
    assert found is not None and found.origin is not None, name
    return Path(found.origin).resolve().parent


def _digest(folders: list[Path]) -> str:
    digest = hashlib.sha256()
    for folder in folders:
        for file in _files(folder):
            digest.update(f"{folder.name}/{file.relative_to(folder)}\0".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:DIGITS]


def _files(folder: Path) -> Iterator[Path]:
    yield from sorted(file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts)


def _commit(package: Path) -> tuple[str | None, bool | None]:
    note = package.parent / "code.json"
    if note.exists():  # this is itself a snapshot: a job that submits jobs
        content = json.loads(note.read_text(encoding="utf-8"))
        return content["commit"], content["dirty"]

    def git(*words: str) -> str:
        command = ["git", "-C", str(package), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        if not git("ls-files", "__init__.py"):
            return None, None
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--", "."))
    except (OSError, subprocess.SubprocessError):
        return None, None


def describe(snapshot: Snapshot) -> str:
    """One line for people.

    Args:
        snapshot: of the code.
    """
    known = f"commit {snapshot.commit[:12]}" if snapshot.commit else "an installed package"
    changed = " with changes that are not committed" if snapshot.dirty else ""
    return f"code: {known}{changed}, kept in {snapshot.folder}"
