"""What is to be encoded, and how, before any weights are loaded. Needs no torch."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from prx_scale.data.buckets import BucketTable, bucket_list
from prx_scale.data.captions import CLASS, CaptionMix, CaptionTable, caption_mix
from prx_scale.data.decode import DEFAULT_LIMITS
from prx_scale.data.encoding.preparing import Preparer, preprocessing_of
from prx_scale.data.samples import ORIGINAL
from prx_scale.data.store.bytesizes import latent_bytes, text_bytes
from prx_scale.data.store.finishing import MOST_KINDS
from prx_scale.data.store.recipe import (
    Captions,
    DataName,
    Encoder,
    Recipe,
    Resolution,
)
from prx_scale.data.store.storage import Storage
from prx_scale.errors import InputError
from prx_scale.models.encoders.declared import CONFIG, sized_image, sized_text
from prx_scale.models.encoders.identity import EncoderIdentity
from prx_scale.models.encoders.registry import ImageSpec, TextSpec, image_spec, text_spec

SHARD_BYTES = 1 << 29
"""Of a shard, about: it is in memory as a whole before it is written."""
_SHARD_SAMPLES = (64, 16384)
_DEVICE = re.compile(r"(cpu|cuda|mps|xpu)(:\d+)?")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a user asks for."""

    image: str
    """NAME of the image encoder, or NAME=SOURCE."""
    text: Sequence[str] = ()
    """Of the text encoders."""
    image_sizes: Sequence[int] = (256,)
    buckets: BucketTable = field(default_factory=BucketTable)
    patch: int = 2
    """Latents along a side of a patch of the backbone; sides of buckets are whole patches."""
    captions: CaptionTable = field(default_factory=CaptionTable)
    """Kinds, and what those of classes are made of; weights and what is missing do not matter here."""
    caption_seed: int = 0
    latents: Storage = "bf16"
    states: Storage = "bf16"
    pooled_only: bool = False
    shard_size: int = 0
    """Samples of a shard; 0 is what makes about `SHARD_BYTES`."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A recipe without what only the weights say, and what makes samples ready for the encoders."""

    draft: Recipe
    preparer: Preparer
    image_source: str
    """Folder or hub id; empty for the published weights."""
    text_sources: Mapping[str, str]
    """By encoder."""


def plan(asked: Asked, data: DataName, where: str = "encode") -> Plan:
    """Work out what is to be encoded.

    Args:
        asked: for what.
        data: of which data.
        where: for errors.

    Raises:
        InputError: unknown encoders, sizes that do not fit, or captions that cannot be made.
    """
    image, image_source = _image(asked.image, where)
    text, sources = _text(asked.text, asked.pooled_only, where)
    resolutions = _resolutions(asked, image, where)
    mix = caption_mix(asked.captions, f"{where}: captions")
    if len(mix.kinds) > MOST_KINDS:
        raise InputError(f"{where}: {len(mix.kinds)} kinds of captions; at most {MOST_KINDS}")
    classes = replace(mix, kinds=(CLASS,), weights=(1.0,)) if CLASS in mix.kinds else None
    draft = Recipe(
        data=data,
        image=_unknown(image),
        text=tuple(_unknown(spec) for spec in text),
        resolutions=resolutions,
        preprocessing=preprocessing_of(asked.buckets.stretch, asked.buckets.max_upscaling, DEFAULT_LIMITS),
        captions=_captions(asked, mix),
        latents=asked.latents,
        states=asked.states,
        pooled_only=asked.pooled_only,
        shard_size=asked.shard_size or 1,
    )
    if not asked.shard_size:
        draft = replace(draft, shard_size=shard_size(sample_bytes(draft)))
    preparer = Preparer(
        resolutions=resolutions,
        preprocessing=draft.preprocessing,
        kinds=mix.kinds,
        classes=classes,
        seed=asked.caption_seed,
    )
    return Plan(draft=draft, preparer=preparer, image_source=image_source, text_sources=sources)


def plan_text(text: Sequence[str], stored: Recipe, states: Storage, where: str = "encode") -> Plan:
    """Work out the encoding of captions whose latents a store has.

    Args:
        text: NAME or NAME=SOURCE of each text encoder.
        stored: recipe of the store.
        states: number type of the text states.
        where: for errors.

    Raises:
        InputError: unknown encoders, or none.
    """
    specs, sources = _text(text, False, where)
    if not specs:
        raise InputError(f"{where}: no text encoder to encode captions with; name at least one")
    draft = replace(stored, text=tuple(_unknown(spec) for spec in specs), states=states, pooled_only=False)
    preparer = Preparer(resolutions=stored.resolutions, preprocessing=stored.preprocessing, kinds=stored.captions.kinds)
    return Plan(draft=draft, preparer=preparer, image_source="", text_sources=sources)


def sample_bytes(recipe: Recipe) -> int:
    """Bytes of a sample that has all resolutions, all kinds of captions and captions of full length.

    Args:
        recipe: of the store.
    """
    return sum(latent_bytes(recipe).values()) + len(recipe.captions.kinds) * sum(text_bytes(recipe).values())


def shard_size(each: int) -> int:
    """Samples of a shard of about `SHARD_BYTES`, a power of two.

    Args:
        each: bytes of a sample.
    """
    low, high = _SHARD_SAMPLES
    return max(low, min(high, 1 << max(0, (SHARD_BYTES // max(1, each)).bit_length() - 1)))


def check_device(text: str, where: str) -> None:
    """Refuse what is no device, before torch is loaded, which alone knows whether it is there.

    Args:
        text: as cuda:1; empty for what there is.
        where: option, or file and key, for errors.

    Raises:
        InputError: it is none.
    """
    if text and not _DEVICE.fullmatch(text):
        raise InputError(f"{where}: {text!r} is no device; cpu, cuda or cuda:1 is right")


def named(text: str) -> tuple[str, str]:
    """Name and source of an encoder.

    Args:
        text: NAME, or NAME=SOURCE.
    """
    name, _, source = text.partition("=")
    return name.strip(), source.strip()


def _image(text: str, where: str) -> tuple[ImageSpec, str]:
    name, source = named(text)
    spec = image_spec(name, f"{where}: image encoder")
    folder = _local(source, spec)
    return (sized_image(spec, folder) if folder else spec), source


def _text(text: Sequence[str], pooled_only: bool, where: str) -> tuple[tuple[TextSpec, ...], dict[str, str]]:
    sources = dict(named(each) for each in text)
    if len(sources) < len(text):
        raise InputError(f"{where}: text encoders: one is named twice in {', '.join(text)}")
    specs: list[TextSpec] = []
    for name, source in sources.items():
        spec = text_spec(name, f"{where}: text encoder")
        folder = _local(source, spec)
        specs.append(sized_text(spec, folder) if folder else spec)
        if pooled_only and not spec.pooled:
            raise InputError(f"{where}: '{name}' gives no pooled state, which is all that is to be kept; leave it out")
    return tuple(specs), sources


def _local(source: str, spec: ImageSpec | TextSpec) -> Path | None:
    """The folder of local weights, whose own sizes count; what the hub has is not fetched to look at its sizes."""
    folder = Path(source).expanduser()
    if not source or not folder.is_dir() or spec.kind in ("pixels", "shapes"):
        return None
    return next((each for each in (folder, folder / spec.folder) if (each / CONFIG).is_file()), None)


def _resolutions(asked: Asked, image: ImageSpec, where: str) -> tuple[Resolution, ...]:
    if not asked.image_sizes or len(set(asked.image_sizes)) < len(asked.image_sizes):
        raise InputError(f"{where}: resolutions: {list(asked.image_sizes)} must be at least one, each once")
    pixels = image.downsampling * asked.patch
    return tuple(
        Resolution(image_size=size, buckets=bucket_list(asked.buckets, size, pixels, f"{where}: buckets"))
        for size in sorted(asked.image_sizes)
    )


def _captions(asked: Asked, mix: CaptionMix) -> Captions:
    if CLASS not in mix.kinds:
        return Captions(kinds=mix.kinds)
    names = json.dumps({key: list(value) for key, value in sorted(mix.classes.items())}, ensure_ascii=False)
    return Captions(
        kinds=mix.kinds,
        templates=mix.templates,
        classes=hashlib.sha256(names.encode()).hexdigest()[:16] if mix.classes else "",
        seed=asked.caption_seed,
    )


def _unknown(spec: ImageSpec | TextSpec) -> Encoder:
    return Encoder(spec=spec, identity=EncoderIdentity(name=spec.name, kind=spec.kind))


def captions_of(kinds: Sequence[str], templates: Sequence[str], classes: str) -> CaptionTable:
    """A [captions] table of kinds that all count alike.

    Args:
        kinds: at least one; none is the original.
        templates: of classes; none is the usual one.
        classes: file of their names.
    """
    kinds = tuple(kinds) or (ORIGINAL,)
    table = CaptionTable(kinds=kinds, weights=(1.0,) * len(kinds), classes=classes)
    return replace(table, templates=tuple(templates)) if templates else table
