"""[data] path: from what a study file says to a store, the hash of its content and the sizes that a model needs.

A run's id depends on the content, not on where it lies. Beside the copy of a study file, stores.json keeps where its
relative paths led and what was there, so that the study folder can be read where the store is not.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prx_scale.config import RunConfig
from prx_scale.data.buckets import grid_side
from prx_scale.data.captions import CaptionTable
from prx_scale.errors import InputError, nearest
from prx_scale.layout import divisors
from prx_scale.models.build import position_side
from prx_scale.models.inputs import inputs_of
from prx_scale.runtables import Data
from prx_scale.stages import stores_of
from prx_scale.starts import Folders, keep
from prx_scale.storesizes import buckets_of, lines_of

if TYPE_CHECKING:
    from prx_scale.data.store import Store

STORES = "stores.json"
_OF_STORES = ("path", "content", "filter", "filter_hash", "heldout", "sizes")
_OF_SHAPES = ("encoders", "long_captions")


@dataclass(frozen=True, kw_only=True)
class Found:
    """A store that runs train on."""

    folder: str
    content: str
    sizes: tuple[str, ...]
    epochs: Mapping[str, int] = field(default_factory=dict[str, int])
    """Samples of an epoch, by what training takes; where a stage asked for them."""

    def has(self, data: Data) -> bool:
        """Whether this is the store of a run, by its content.

        Args:
            data: of the run, filled in.
        """
        return self.content == data.content


def content_of(index: Mapping[str, Any]) -> str:
    """SHA-256 of what is in a store: its recipe, and the hashes of the files that have its numbers.

    Args:
        index: its index.json.
    """
    shards = [files["safetensors"] for files in index["shards"]]
    text = json.dumps({"recipe": index["hash"], "shards": shards}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def find_store(folder: Path) -> Found:
    """What a folder holds.

    Args:
        folder: of a store.

    Raises:
        InputError: it has none, or one that no backbone can be trained on.
    """
    from prx_scale.data.store import Store

    try:
        store = Store.open(folder, check_files=False)
    except InputError as error:
        raise InputError(f"{error}{_nearby(folder)}") from error
    if store.recipe.pooled_only:
        raise InputError(f"{folder}: has pooled text states only; encode without --pooled-only")
    if not store.recipe.text:
        raise InputError(
            f"{folder}: has no text states; encode with --text-encoders, or its captions while training by "
            "[encoding] text_encoders"
        )
    return Found(
        folder=str(folder.absolute()),
        content=content_of(store.index),
        sizes=lines_of(store.recipe, store.recipe.inputs()),
    )


def _made(each: dict[str, Any]) -> Found:
    epochs = {str(name): int(count) for name, count in each.get("epochs", {}).items()}
    return Found(folder=str(each["folder"]), content=str(each["content"]), sizes=tuple(each["sizes"]), epochs=epochs)


def keep_stores(folder: Path, stores: Mapping[str, Found]) -> None:
    """Write down where the paths of a study file led.

    Args:
        folder: of the study.
        stores: by the path that the file says; nothing is written where there are none.
    """
    keep(folder / STORES, {path: asdict(store) for path, store in stores.items()})


class Finder:
    """Finds the stores of a study file, each once."""

    def __init__(self, file: Path) -> None:
        """A finder.

        Args:
            file: the study file.
        """
        self._folders = Folders(file, STORES, _made)

    @property
    def found(self) -> dict[str, Found]:
        """What was found, by the path that the file says."""
        return self._folders.found

    def with_store(self, run: RunConfig, where: str) -> RunConfig:
        """A run with its store's folder, content and sizes filled in.

        Args:
            run: as the study file says.
            where: file and variant, for errors.

        Raises:
            InputError: there is no such store, another one than `content` says, or keys of other data are given.
        """
        data = run.data
        check_keys(run, where)
        if data.dataset != "store":
            return run
        found = self.find(data.path, data.content, f"{where} [data]")
        filled = replace(data, path=found.folder, content=found.content, sizes=found.sizes)
        return replace(run, data=filled)

    def find(self, path: str, content: str, where: str) -> Found:
        """What a path leads to.

        Args:
            path: as the study file says.
            content: that it must have; empty where any will do.
            where: file and table, for errors.

        Raises:
            InputError: there is no such store, or one of other content.
        """
        try:
            found = self._folders.at(path, find_store)
        except InputError as error:
            raise InputError(f"{where} path: {error}") from error
        if content and content != found.content:
            raise InputError(
                f"{where} content: {content}, but {found.folder} holds {found.content} "
                f"({_made_by(found.sizes)}); leave it out to take it"
            )
        return found


def _nearby(folder: Path) -> str:
    from prx_scale.data.store.layout import RECIPE

    if folder.is_dir() and not (folder / RECIPE).exists():
        return '; prx-scale encode writes one; images are trained on with dataset = "images"'
    if folder.exists() or not folder.parent.is_dir():
        return ""
    stores = [each.parent.name for each in folder.parent.glob("*/index.json")]
    return f"; {nearest(folder.name, stores)}" if stores else ""


def check_keys(run: RunConfig, where: str) -> None:
    """Refuse keys of [data] and [captions] that are of other data.

    Args:
        run: as the study file says.
        where: file and variant, for errors.

    Raises:
        InputError: names the key, and what is missing or it is for.
    """
    data, defaults = run.data, type(run.data)()
    stored = data.encoded
    if stored and not data.path:
        what = "the folder that prx-scale encode wrote" if data.dataset == "store" else "images, as prx-scale encode"
        raise InputError(f'{where} [data] path: missing; dataset = "{data.dataset}" needs {what}')
    for key in _OF_SHAPES if stored else _OF_STORES:
        if getattr(data, key) != getattr(defaults, key):
            kind = "shapes" if stored else "store"
            raise InputError(f'{where} [data] {key}: is for dataset = "{kind}"; this is "{data.dataset}"; leave it out')
    captions = run.captions
    if not stored and captions != CaptionTable():
        own = f'"{data.dataset}" has captions of its own'
        raise InputError(f'{where} [captions]: is for dataset = "store" or "images"; {own}')
    if (captions.templates, captions.classes) != (CaptionTable.templates, CaptionTable.classes):
        own = "give them to encode" if data.dataset == "store" else "give [encoding] class_templates and classes"
        raise InputError(f"{where} [captions] templates: captions of classes are made before they are drawn; {own}")


def _made_by(sizes: tuple[str, ...]) -> str:
    words = [line.split() for line in sizes]
    texts = " and ".join(line[1] for line in words if line[0] == "text")
    return f"latents of {next(line[1] for line in words if line[0] == 'image')}, text states of {texts}"


def check_store(run: RunConfig, where: str) -> None:
    """Refuse a store that a run cannot be trained on, from its sizes alone.

    Args:
        run: with its store filled in.
        where: file and variant, for errors.

    Raises:
        InputError: names the key, what is wrong and what would be right.
    """
    if not run.data.encoded:
        return
    inputs, size, noun = inputs_of(run.data), run.data.image_size, _noun(run)
    if run.model.weight_sets == 3 and len(inputs.token_groups) != 2:
        raise InputError(
            f"{where} [model] weight_sets: 3 needs text tokens of two encoders (CLIPs count as one); the {noun} has "
            f"{len(inputs.token_groups)}; use 2 sets"
        )
    sizes = buckets_of(run.data)
    if size not in sizes:
        there = ", ".join(map(str, sizes))
        raise InputError(f"{where} [data] image_size: the {noun} has no latents of {size} pixels, only of {there}")
    _check_buckets(run, where)


def _noun(run: RunConfig) -> str:
    return "store" if run.data.dataset == "store" else "data"


def _check_buckets(run: RunConfig, where: str) -> None:
    buckets, pixels = buckets_of(run.data)[run.data.image_size], run.data.downsampling * run.model.patch
    common = math.gcd(*(side for bucket in buckets for side in (bucket.height, bucket.width)))
    if common % pixels:
        possible = ", ".join(map(str, divisors(common // run.data.downsampling)))
        names = ", ".join(bucket.name for bucket in buckets)
        raise InputError(
            f"{where} [model] patch: {run.model.patch} latents of {run.data.downsampling} pixels do not divide the "
            f"{_noun(run)}'s buckets {names}; possible: {possible}"
        )
    side = grid_side(buckets, pixels)
    if side > position_side(run):
        raise InputError(
            f"{where} [model] position_grid: positions cover {position_side(run)} patches along a side, and the "
            f"{_noun(run)}'s buckets at {run.data.image_size} pixels reach {side}; set it to {side} or more"
        )


def check_there(run: RunConfig, where: str) -> None:
    """Refuse to train where a store has changed or is not whole.

    Args:
        run: with its stores filled in.
        where: the run's record, for errors.

    Raises:
        InputError: names the store and what is wrong.
    """
    for data in stores_of(run):
        open_store(replace(run, data=data), where, check_files=True)


def open_store(run: RunConfig, where: str = "[data] path", *, check_files: bool = False) -> Store:
    """The store of a run.

    Args:
        run: with its store filled in.
        where: for errors.
        check_files: that every file is there and has its size.

    Raises:
        InputError: there is none, or its content is not what the run was made for.
    """
    from prx_scale.data.store import Store

    store = Store.open(run.data.path, check_files=check_files)
    if (found := content_of(store.index)) != run.data.content:
        raise InputError(
            f"{where}: {run.data.path} holds {found}, but the run trains on {run.data.content}; a run goes on with the "
            f"store that it began with; for new runs on this one, remove {STORES} beside the study file"
        )
    return store
