"""[data] filter: which samples are trained on, and how often, by the result of `prx-scale filter`.

A run's id depends on what is kept and with what weights, not on where that lies. Beside the copy of a study file,
filters.json keeps where its paths led, so that the study folder can be read where the results are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from prx_scale.config import RunConfig
from prx_scale.errors import InputError
from prx_scale.runtables import Data
from prx_scale.stagetables import Source
from prx_scale.starts import Folders, keep

if TYPE_CHECKING:
    from prx_scale.data.filters.manifest import Manifest

CHOICES = "filters.json"
T = TypeVar("T", Data, Source)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The result of a filter."""

    folder: str
    hash: str
    """Of what it keeps, and with what weights."""
    fingerprint: str
    """Of the data that were filtered."""


class ChoiceFinder:
    """Finds the results of filters that a study file names, each once."""

    def __init__(self, file: Path) -> None:
        """A finder.

        Args:
            file: the study file.

        Raises:
            InputError: filters.json is damaged.
        """
        self._folders = Folders(file, CHOICES, _made)

    @property
    def found(self) -> Mapping[str, Choice]:
        """What was found, by the path that the file says."""
        return self._folders.found

    def with_choices(self, run: RunConfig, where: str) -> RunConfig:
        """A run with folder and hash of its filters filled in.

        Args:
            run: with its data filled in.
            where: file and variant, for errors.

        Raises:
            InputError: there is no such result, it is another one than `filter_hash` says, or of other data.
        """
        stages = tuple(
            replace(
                stage, data=tuple(self._filled(each, f"{where} [[stage]] '{stage.name}' data") for each in stage.data)
            )
            for stage in run.stages
        )
        return replace(run, data=self._filled(run.data, f"{where} [data]"), stages=stages)

    def _filled(self, data: T, where: str) -> T:
        if not data.filter:
            if data.filter_hash:
                raise InputError(f"{where} filter_hash: says which result of a filter, but filter names no folder")
            return data
        if not data.sizes:
            raise InputError(f'{where} filter: is for dataset = "store" and "images"; leave it out')
        choice = self._find(data.filter, where)
        if data.filter_hash and data.filter_hash != choice.hash:
            raise InputError(
                f"{where} filter_hash: {data.filter_hash}, but {choice.folder} has {choice.hash}; leave it out to "
                "take it"
            )
        lines = [line.split() for line in data.sizes]
        if any(words[0] == "data" and words[1] != choice.fingerprint for words in lines):
            raise InputError(
                f"{where} filter: {choice.folder} is of other data than {data.path}; filter what was encoded"
            )
        return replace(data, filter=choice.folder, filter_hash=choice.hash)

    def _find(self, path: str, where: str) -> Choice:
        try:
            return self._folders.at(path, _read)
        except InputError as error:
            raise InputError(f"{where} filter: {error}") from error


def _read(folder: Path) -> Choice:
    from prx_scale.data.filters.manifest import Manifest

    manifest = Manifest.open(folder)
    return Choice(folder=str(folder), hash=manifest.identity, fingerprint=manifest.fingerprint)


def _made(each: dict[str, Any]) -> Choice:
    return Choice(folder=str(each["folder"]), hash=str(each["hash"]), fingerprint=str(each["fingerprint"]))


def keep_choices(folder: Path, choices: Mapping[str, Choice]) -> None:
    """Write down where the paths of a study file led.

    Args:
        folder: of the study.
        choices: by the path that the file says; nothing is written where there are none.
    """
    keep(folder / CHOICES, {path: asdict(choice) for path, choice in choices.items()})


def weights_of(data: Data, samples: int) -> NDArray[np.float32] | None:
    """(N,) how often each sample of a run's data comes in an epoch, 0 for what a filter removed; None is once.

    Args:
        data: of the run, filled in.
        samples: N.

    Raises:
        InputError: the result of the filter is not there, or another one.
    """
    if not data.filter:
        return None
    manifest = open_choice(data)
    if manifest.samples != samples:
        raise InputError(f"{data.filter}: is of {manifest.samples} samples, and {data.path} has {samples}")
    return manifest.weight


def check_choices(run: RunConfig) -> None:
    """Refuse to train where the result of a filter is gone, or another one.

    Args:
        run: filled in.

    Raises:
        InputError: names it.
    """
    for data in (run.data, *(source for stage in run.stages for source in stage.sources)):
        if data.filter:
            open_choice(data)


def open_choice(data: Data | Source) -> Manifest:
    """The result of the filter that a run was made for.

    Args:
        data: of the run, filled in.

    Raises:
        InputError: it is not there, or another one.
    """
    from prx_scale.data.filters.manifest import Manifest

    manifest = Manifest.open(data.filter)
    if manifest.identity != data.filter_hash:
        raise InputError(
            f"{data.filter}: keeps or weights other samples ({manifest.identity}) than those that the run trains on "
            f"({data.filter_hash}); a run goes on with what it began with; for new runs on this, remove {CHOICES} "
            "beside the study file"
        )
    return manifest
