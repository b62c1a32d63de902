"""[training] start_from: from what a study file says to a folder and the hash of its weights.

A run's id depends on the weights, not on where they lie. Beside the copy of a study file, starts.json keeps where its
relative paths led and which weights were there, so that the study folder can be read where those are not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar, cast

from prx_scale.config import RunConfig
from prx_scale.errors import InputError
from prx_scale.runs.files import write_atomically
from prx_scale.startweights import INFO, check_fits, read_info

STARTS = "starts.json"
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Start:
    """Weights that runs start from."""

    folder: Path
    hash: str


def known_starts(file: Path) -> dict[str, Start]:
    """What was found when a study file was copied, by the path that it says.

    Args:
        file: the study file.

    Raises:
        InputError: starts.json is damaged.
    """
    return kept(file.parent / STARTS, lambda each: Start(folder=Path(each["folder"]), hash=str(each["hash"])))


def kept(record: Path, made: Callable[[dict[str, Any]], T]) -> dict[str, T]:
    """Where the paths of a study file led when it was copied: what `keep` wrote.

    Args:
        record: the file; there is none where nothing was kept.
        made: from the content of one entry.

    Returns:
        By the path that the study file says.

    Raises:
        InputError: the file is damaged.
    """
    if not record.exists():
        return {}
    try:
        content = cast("dict[str, Any]", json.loads(record.read_text(encoding="utf-8")))
        return {path: made(each) for path, each in content.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{record}: damaged ({error}); remove it and launch from the study file again") from error


class InFolder(Protocol):
    """What was found in a folder: a data class that says which."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def folder(self) -> str:
        """The folder, absolute."""
        ...


F = TypeVar("F", bound=InFolder)


class Folders(Generic[F]):
    """Folders that a study file names, each looked into once.

    What was found when the file was copied stands, wherever the folder is by now.
    """

    def __init__(self, file: Path, record: str, made: Callable[[dict[str, Any]], F]) -> None:
        """Nothing is looked into yet.

        Args:
            file: the study file.
            record: name of the file beside it that `keep` wrote.
            made: from the content of one entry.

        Raises:
            InputError: the record is damaged.
        """
        self._file, self._kept = file, kept(file.parent / record, made)
        self.found: dict[str, F] = {}
        """By the path that the study file says."""

    def at(self, path: str, read: Callable[[Path], F]) -> F:
        """What a path leads to.

        Args:
            path: as the study file says.
            read: looks into a folder.
        """
        if path not in self.found:
            before, folder = self._kept.get(path), (self._file.parent / Path(path).expanduser()).absolute()
            if before is None:
                self.found[path] = read(folder)
            else:
                there = Path(before.folder).exists()
                self.found[path] = before if there else replace(before, folder=str(folder))
        return self.found[path]


def keep(record: Path, found: Mapping[str, Mapping[str, Any]]) -> None:
    """Write down where the paths of a study file led.

    Args:
        record: the file; none is written where there are no paths.
        found: by the path that the study file says.
    """
    if found:
        write_atomically(record, json.dumps(dict(found), indent=1) + "\n")


def with_start(run: RunConfig, file: Path, known: dict[str, Start], where: str) -> RunConfig:
    """A run with its weights' folder and hash filled in, checked against its model where they are there.

    Args:
        run: as the study file says.
        file: the study file.
        known: what is known of its paths; what is found is added.
        where: file and variant, for errors.

    Raises:
        InputError: there are no such weights, other ones than `start_hash` says, or they do not fit.
    """
    written, pinned = run.training.start_from, run.training.start_hash
    if not written:
        if pinned:
            raise InputError(f"{where} [training] start_hash: says which weights, but start_from names no folder")
        return run
    start = _find(written, file, known, where)
    if pinned and pinned != start.hash:
        raise InputError(
            f"{where} [training] start_hash: {pinned}, but {start.folder} has weights of {start.hash}; "
            "leave it out to take them"
        )
    known[written] = start
    training = replace(run.training, start_from=str(start.folder), start_hash=start.hash)
    run = replace(run, training=training)
    if _holds(start):
        check_fits(run, start.folder, read_info(start.folder), where)
    return run


def _holds(start: Start) -> bool:
    return (start.folder / INFO).exists() and read_info(start.folder).hash == start.hash


def _find(written: str, file: Path, known: Mapping[str, Start], where: str) -> Start:
    folder = (file.parent / Path(written).expanduser()).absolute()
    before = known.get(written)
    if before:
        return before if (before.folder / INFO).exists() else replace(before, folder=folder)
    try:
        return Start(folder=folder, hash=read_info(folder).hash)
    except InputError as error:
        raise InputError(f"{where} [training] start_from: {error}") from error


def keep_starts(folder: Path, starts: Mapping[str, Start]) -> None:
    """Write down where the paths of a study file led.

    Args:
        folder: of the study.
        starts: by the path that the file says; nothing is written where there are none.
    """
    found = {path: {"folder": str(start.folder), "hash": start.hash} for path, start in starts.items()}
    keep(folder / STARTS, found)
