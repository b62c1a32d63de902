"""[data] and [encoding] of runs that encode while they train: from what a study file says to a hash and sizes.

A run's id depends on the content, a hash of all that decides batches, not on where things lie. Beside the copy of a
study file, images.json keeps what was found, so that the study folder can be read where the data are not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from prx_scale.config import RunConfig
from prx_scale.encodingtable import TEXT_KEYS, Encoding
from prx_scale.errors import InputError
from prx_scale.models.encoders.combinations import inputs_of_encoders
from prx_scale.runtables import Data
from prx_scale.stages import alone, sources_of
from prx_scale.stagetables import Source, Stage
from prx_scale.starts import keep, kept
from prx_scale.stores import check_keys, content_of
from prx_scale.storesizes import lines_of
from prx_scale.tables import chosen

IMAGES = "images.json"


@dataclass(frozen=True, kw_only=True)
class FoundImages:
    """What a study file's [data] and [encoding] led to."""

    path: str
    content: str
    sizes: tuple[str, ...]
    image_encoder: str
    text_encoders: tuple[str, ...]
    classes: str
    filter: str
    epochs: Mapping[str, int] = field(default_factory=dict[str, int])
    """Samples of an epoch, by what training takes; where a stage asked for them."""

    def has(self, data: Data) -> bool:
        """Whether these are the data of a run; others may have the same names of shards, and so the same content.

        Args:
            data: of the run, filled in.
        """
        return (self.path, self.content) == (data.path, data.content)

    def fill(self, run: RunConfig) -> RunConfig:
        """A run with all of it filled in.

        Args:
            run: as the study file says.
        """
        data = replace(run.data, path=self.path, content=self.content, sizes=self.sizes)
        encoding = replace(
            run.encoding,
            image_encoder=self.image_encoder,
            text_encoders=self.text_encoders,
            classes=self.classes,
            filter=self.filter,
        )
        return replace(run, data=data, encoding=encoding)


def keep_images(folder: Path, images: Mapping[str, FoundImages]) -> None:
    """Write down what a study file led to.

    Args:
        folder: of the study.
        images: by what was asked; nothing is written where there are none.
    """
    keep(folder / IMAGES, {asked: asdict(found) for asked, found in images.items()})


class ImageFinder:
    """Finds what runs of a study file encode, each once."""

    def __init__(self, file: Path) -> None:
        """A finder.

        Args:
            file: the study file.

        Raises:
            InputError: images.json is damaged.
        """
        self.folder, self.kept = file.parent, kept(file.parent / IMAGES, _made)
        self.found: dict[str, FoundImages] = {}

    def with_images(self, run: RunConfig, where: str) -> RunConfig:
        """A run with content, sizes and absolute paths filled in.

        Args:
            run: as the study file says.
            where: file and variant, for errors.

        Raises:
            InputError: names the table and key of what is missing, does not go together, or is not what `content` says.
        """
        check_keys(run, where)
        _check_tables(run, where)
        stages = tuple(
            replace(stage, data=tuple(self._source(run, stage, each, where) for each in stage.sources))
            for stage in run.stages
        )
        return replace(self._find(run, where, "[data]").fill(run), stages=stages)

    def _source(self, run: RunConfig, stage: Stage, source: Source, where: str) -> Source:
        here = f"[[stage]] '{stage.name}' data"
        found = self._find(alone(run, source), where, here)
        return replace(source, path=found.path, content=found.content, sizes=found.sizes)

    def _find(self, run: RunConfig, where: str, key: str) -> FoundImages:
        asked = _asked(run)
        if asked not in self.found:
            self.found[asked] = self.kept.get(asked) or _found(_absolute(run, self.folder), where, key)
        found = self.found[asked]
        if run.data.content and run.data.content != found.content:
            raise InputError(
                f"{where} {key} content: {run.data.content}, but what {key} and [encoding] name gives "
                f"{found.content}; leave it out to take it"
            )
        return found


def check_unchanged(run: RunConfig, where: str) -> None:
    """Refuse to train where data or encoders are not what the run was made for.

    Args:
        run: with all filled in.
        where: the run's record, for errors.

    Raises:
        InputError: says what differs.
    """
    for source, _ in sources_of(run).values():
        own = alone(run, source)
        check_content(own, _found(own, where).content, where)


def check_content(run: RunConfig, content: str, where: str) -> None:
    """Refuse data or encoders that are not what a run was made for.

    Args:
        run: that trains on these data alone, filled in.
        content: what they give now.
        where: for errors.

    Raises:
        InputError: says what differs.
    """
    if content != run.data.content:
        raise InputError(
            f"{where}: {run.data.path} and the encoders give {content}, but the run trains on {run.data.content}; a "
            f"run goes on with the data that it began with; for new runs on these, remove {IMAGES} beside the study "
            "file"
        )


def _made(each: dict[str, Any]) -> FoundImages:
    texts = {key: str(each[key]) for key in ("path", "content", "image_encoder", "classes", "filter")}
    lists = {key: tuple(map(str, each[key])) for key in ("sizes", "text_encoders")}
    epochs = {str(name): int(count) for name, count in each.get("epochs", {}).items()}
    return FoundImages(**texts, **lists, epochs=epochs)  # pyright: ignore[reportArgumentType]


def _asked(run: RunConfig) -> str:
    """What decides what is found, as it is written."""
    from prx_scale.data.encoding.fromrun import image_sizes

    content = {"dataset": run.data.dataset, "path": run.data.path, **chosen(run.encoding)}
    return json.dumps({**content, "image_sizes": image_sizes(run)}, sort_keys=True)


def _absolute(run: RunConfig, folder: Path) -> RunConfig:
    from prx_scale.data.encoding.fromrun import absolute

    def place(path: str) -> str:
        return path if not path or "://" in path else str((folder / Path(path).expanduser()).absolute())

    encoding = run.encoding
    return replace(
        run,
        data=replace(run.data, path=place(run.data.path)),
        encoding=replace(
            encoding,
            image_encoder=absolute(encoding.image_encoder, folder),
            text_encoders=tuple(absolute(each, folder) for each in encoding.text_encoders),
            classes=place(encoding.classes),
            filter=place(encoding.filter),
        ),
    )


def _found(run: RunConfig, where: str, key: str = "[data]") -> FoundImages:
    from prx_scale.data.encoding.fromrun import planned_images, planned_text
    from prx_scale.data.store import Store

    if run.data.dataset == "images":
        planned = planned_images(run, where, key)
        draft, content = planned.plan.draft, planned.content
    else:
        try:
            store = Store.open(run.data.path, check_files=False)
        except InputError as error:
            raise InputError(f"{where} [data] path: {error}") from error
        made, content = planned_text(run, store.recipe, content_of(store.index), where)
        draft = made.draft
    texts = f"{where} [encoding] text_encoders"
    sizes = lines_of(draft, inputs_of_encoders(text=draft.text_specs, image=draft.image_spec, where=texts))
    return FoundImages(
        path=run.data.path,
        content=content,
        sizes=sizes,
        **{key: getattr(run.encoding, key) for key in ("image_encoder", "text_encoders", "classes", "filter")},
    )


def _check_tables(run: RunConfig, where: str) -> None:
    if run.data.dataset == "store":
        for stage in run.stages:
            if stage.data:
                raise InputError(
                    f"{where} [[stage]] '{stage.name}' data: captions are encoded while training for the store of "
                    "[data] path alone; leave it out, or encode each source with its text states"
                )
        for key in chosen(run.encoding):
            if key not in TEXT_KEYS:
                raise InputError(
                    f"{where} [encoding] {key}: a store has its latents already; beside it only captions are "
                    f"encoded, by {', '.join(TEXT_KEYS)}; leave it out"
                )


def check_no_encoding(run: RunConfig, where: str) -> None:
    """Refuse [encoding] where nothing is encoded.

    Args:
        run: that encodes nothing.
        where: file and variant, for errors.

    Raises:
        InputError: names the first key.
    """
    if run.encoding == Encoding():
        return
    key = next(item.name for item in fields(Encoding) if getattr(run.encoding, item.name) != item.default)
    right = "text_encoders encode the captions of a store" if run.data.dataset == "store" else 'dataset = "images"'
    raise InputError(f'{where} [encoding] {key}: nothing is encoded while training on "{run.data.dataset}"; {right}')
