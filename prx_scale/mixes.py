"""Stores that the stages of a run train on beside that of [data]: found, compared with it; and how long stages are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest

from prx_scale.config import RunConfig
from prx_scale.data.captions import caption_mix
from prx_scale.errors import InputError, nearest
from prx_scale.runtables import Data
from prx_scale.stages import alone, as_source, stores_of
from prx_scale.stagetables import Source, Stage, with_steps
from prx_scale.stores import STORES, Finder
from prx_scale.storesizes import buckets_of

_ALIKE = {
    "made": "the encoder (name, hash of weights and settings)",
    "text": "the text states (name, tokens, channels and pooled state from, to)",
    "channels": "latent channels:",
    "downsampling": "pixels along a side of a latent:",
    "context": "token states of width",
    "pooled": "pooled states of width",
}
"""What stores of one run have in common, in the order in which it is compared."""
_COUNTED = (
    ("training", "batch"),
    ("data", "heldout"),
    ("data", "image_size"),
    ("data", "path"),
    ("data", "filter"),
)
"""Keys that an epoch's number of steps depends on and that can be swept."""


def with_sources(run: RunConfig, finder: Finder, where: str) -> RunConfig:
    """A run with the folder, content and sizes of its stages' stores filled in.

    Args:
        run: with the store of [data] filled in.
        finder: of the study file.
        where: file and variant, for errors.

    Raises:
        InputError: a source is no store, or another one than its `content` says; or the run trains on no store.
    """
    stages = tuple(
        replace(stage, data=_found(run, stage, finder, f"{where} [[stage]] '{stage.name}' data"))
        if stage.data
        else stage
        for stage in run.stages
    )
    return replace(run, stages=stages)


def _found(run: RunConfig, stage: Stage, finder: Finder, where: str) -> tuple[Source, ...]:
    if run.data.dataset != "store":
        raise InputError(
            f'{where}: is for [data] dataset = "store" and "images"; this is "{run.data.dataset}"; leave it out'
        )
    sources: list[Source] = []
    for source in stage.sources:
        found = finder.find(source.path, source.content, where)
        sources.append(replace(source, path=found.folder, content=found.content, sizes=found.sizes))
    return tuple(sources)


def check_mixes(run: RunConfig, where: str) -> None:
    """Refuse stores that do not feed the same to a model, or have no caption that is asked for.

    Args:
        run: with all its stores filled in.
        where: file and variant, for errors.

    Raises:
        InputError: names the stage, the store and the first thing that differs.
    """
    if not run.data.encoded:
        return
    for stage in run.stages:
        _check_twins(stage, f"{where} [[stage]] '{stage.name}' data path")
    for stage, source in _sources(run):
        here = f"{where} [[stage]] '{stage.name}' data path: {source.path}"
        _check_alike(run.data, source, here)
        _check_buckets(run.data, source, stage.image_size or run.data.image_size, here)
    caption_mix(run.captions, f"{where} [captions]")
    _check_kinds(run, where)
    for key, data in _trained(run):
        if not set(run.captions.kinds) & set(_kinds(data)):
            there, wanted = (", ".join(kinds) or "no kind" for kinds in (_kinds(data), run.captions.kinds))
            raise InputError(
                f"{where} {key}: {data.path} has captions of {there}, none of [captions] kinds {wanted}; "
                "add one of its kinds there"
            )


def _check_twins(stage: Stage, where: str) -> None:
    seen: dict[str, Source] = {}
    for source in stage.sources:
        twin = seen.setdefault(source.content, source)
        if twin is not source:
            raise InputError(
                f"{where}: {twin.path} and {source.path} are the same; weights add up, so give it once, with weight "
                f"{twin.weight + source.weight:g}"
            )


def _sources(run: RunConfig) -> Iterator[tuple[Stage, Source]]:
    return ((stage, source) for stage in run.stages for source in stage.sources)


def _check_kinds(run: RunConfig, where: str) -> None:
    there = list(dict.fromkeys(kind for data in stores_of(run) for kind in _kinds(data)))
    images = run.data.dataset == "images"
    one = "the images have" if images else "the store has"
    who, it = ("no store of the run has", "they have") if any(_sources(run)) else (f"{one} no", one)
    for kind in run.captions.kinds:
        if kind not in there:
            hint = nearest(kind, there) if there else f"{it} no captions"
            hint += f"; [encoding] captions says where they are, as {kind}=FIELD" if images else ""
            raise InputError(f"{where} [captions] kinds: {who} captions of the kind '{kind}'; {hint}")


def _trained(run: RunConfig) -> Iterator[tuple[str, Data]]:
    """All that is trained on, and the key that names it; the store of [data] only where a stage has no sources."""
    if not run.stages or not all(stage.sources for stage in run.stages):
        yield "[data] path", run.data
    for stage, source in _sources(run):
        yield f"[[stage]] '{stage.name}' data path", as_source(run.data, source)


def _kinds(data: Data) -> Sequence[str]:
    return data.said("captions")[0]


def _check_alike(data: Data, source: Source, where: str) -> None:
    for name, what in _ALIKE.items():
        ours, theirs = (_lines(sizes, name) for sizes in (data.sizes, source.sizes))
        if not ours or not theirs:
            raise InputError(f"{where}: {STORES} beside the study file says nothing of {what}; remove that file")
        for mine, other in zip_longest(ours, theirs, fillvalue="none"):
            if _compared(name, mine) != _compared(name, other):
                raise InputError(
                    f"{where} has {what} {other}, that of [data] path {mine}; one model needs the same of all stores: "
                    "encode one of them again"
                )


def _compared(name: str, line: str) -> str:
    """An encoder's hash alone, as the same weights may have several names."""
    return line.split()[-1] if name == "made" else line


def _lines(sizes: Sequence[str], name: str) -> list[str]:
    return [line.removeprefix(name).strip() for line in sizes if line.split()[:1] == [name]]


def _check_buckets(data: Data, source: Source, image_size: int, where: str) -> None:
    ours, theirs = (buckets_of(each).get(image_size) for each in (data, as_source(data, source)))
    if theirs is None:
        sizes = ", ".join(map(str, buckets_of(as_source(data, source))))
        raise InputError(f"{where} has no latents of {image_size} pixels, only of {sizes}")
    # Where [data] lacks the size, the check of its own store says so.
    if ours is not None and ours != theirs:
        names = [", ".join(bucket.name for bucket in buckets) for buckets in (theirs, ours)]
        raise InputError(
            f"{where} has the buckets {names[0]} at {image_size} pixels, that of [data] path {names[1]}; encode them "
            "with the same buckets"
        )


def with_stage_steps(
    run: RunConfig, samples: Callable[[RunConfig, int, str], int], where: str, *, own_steps: bool
) -> RunConfig:
    """A run whose stages all have their steps.

    Args:
        run: with its data filled in.
        samples: of an epoch of the run that trains on a stage's data alone, at an image size; with words for errors.
        where: file and variant, for errors.
        own_steps: [training] steps are what the stages come to.

    Raises:
        InputError: a stage is given in epochs, and its samples cannot be counted or are less than a batch.
    """

    def count(stage: Stage) -> int | None:
        if not run.data.encoded:
            return None
        own = alone(run, stage.sources[0] if stage.sources else None)
        return samples(own, stage.image_size or run.data.image_size, f"{where} [[stage]] '{stage.name}' epochs")

    stages = with_steps(run.stages, run.training.batch, count, where)
    steps = sum(stage.steps for stage in stages) if own_steps else run.training.steps
    return replace(run, stages=stages, training=replace(run.training, steps=steps))


def check_one_length(one: RunConfig, other: RunConfig, where: str) -> None:
    """Refuse a sweep in which the same epochs are other numbers of steps.

    Args:
        one: a run of it.
        other: one of the same stages.
        where: file and variant, for errors.

    Raises:
        InputError: names the stage, and what is swept.
    """
    for ours, theirs in zip(one.stages, other.stages, strict=True):
        if ours.steps != theirs.steps:
            swept = [
                f"[{table}] {key}" for table, key in _COUNTED if _value(one, table, key) != _value(other, table, key)
            ]
            own = " and batch" if "[training] batch" in swept else ""
            raise InputError(
                f"{where} [[stage]] '{ours.name}' epochs: {ours.epochs:g} are {ours.steps} steps or {theirs.steps}, as "
                f"{' and '.join(swept)} is swept; give the stage steps{own} of its own"
            )


def _value(run: RunConfig, table: str, key: str) -> object:
    return getattr(getattr(run, table), key)
