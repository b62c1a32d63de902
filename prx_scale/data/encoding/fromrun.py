"""What a run encodes while it trains: data, filter and plan out of its configuration, and a hash of what decides them.

Paths are absolute by then. Needs no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from prx_scale.config import RunConfig
from prx_scale.data.buckets import QWEN_IMAGE_RATIOS, BucketTable
from prx_scale.data.captions import CLASS
from prx_scale.data.encoding.plan import Asked, Plan, captions_of, check_device, named, plan, plan_text
from prx_scale.data.filters.manifest import Manifest
from prx_scale.data.sources import Fields, Source, open_source, parse_pairs
from prx_scale.data.store.recipe import DataName, Recipe, spec_to_json
from prx_scale.encodingtable import Encoding
from prx_scale.errors import InputError
from prx_scale.models.encoders.declared import check_image
from prx_scale.models.encoders.identity import IMAGE_RECIPE, TEXT_RECIPE, content_of
from prx_scale.models.encoders.image.normalisation import published_scale
from prx_scale.models.encoders.locating import Located, locate
from prx_scale.models.encoders.registry import ImageSpec, TextSpec, image_spec, text_spec

BUILT_IN = ("pixels", "shapes")
"""Kinds of encoders that have no weights."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """Images that a run encodes."""

    plan: Plan
    source: Source
    filter: Manifest | None
    content: str
    """Hash of all that decides what becomes of them."""
    looked_up: str
    """Of what decides which sizes and captions they have."""


def image_sizes(run: RunConfig) -> tuple[int, ...]:
    """The image sizes of a run's stages and of its validation, ascending.

    Args:
        run: with or without stages.
    """
    return tuple(sorted({run.data.image_size, *(stage.image_size or run.data.image_size for stage in run.stages)}))


def planned_images(run: RunConfig, where: str, key: str = "[data]") -> Planned:
    """Open the images of a run and work out what is to be encoded.

    Args:
        run: on images, with absolute paths.
        where: file and variant, for errors.
        key: table that names the images, for errors.

    Raises:
        InputError: names the table and key of what is not there or does not go together.
    """
    encoding = run.encoding
    _check_encoders(encoding, f"{where} [encoding]")
    fields = fields_of(encoding, f"{where} [encoding]")
    source = _opened(run, fields, f"{where} {key} path")
    manifest = _filtered(encoding, source, f"{where} [encoding] filter")
    name = DataName(
        spec=run.data.path,
        fingerprint=source.fingerprint(),
        samples=int(source.counts().sum()),
        filter="" if manifest is None else manifest.identity,
    )
    made = _with_scale(_planned(run, fields, name, f"{where} [encoding]"), f"{where} [encoding] image_encoder")
    looked_up = {**_read(made, fields), "limits": asdict(made.preparer.limits), "survey": encoding.survey}
    encoders = [
        _encoder(encoding, made.draft.image_spec, made.image_source, f"{where} [encoding] image_encoder"),
        *_text_encoders(encoding, made, f"{where} [encoding] text_encoders"),
    ]
    return Planned(
        plan=made,
        source=source,
        filter=manifest,
        content=_content_of_images(run, made, fields, encoders),
        looked_up=_hash(looked_up)[:16],
    )


def planned_text(run: RunConfig, stored: Recipe, content: str, where: str) -> tuple[Plan, str]:
    """Work out the encoding of captions whose latents a store has.

    Args:
        run: on a store.
        stored: its recipe.
        content: hash of what is in it.
        where: file and variant, for errors.

    Returns:
        The plan, and a hash of all that decides what comes of it.

    Raises:
        InputError: names the table and key of what is not there or does not go together.
    """
    encoding = run.encoding
    _check_encoders(encoding, f"{where} [encoding]")
    made = plan_text(encoding.text_encoders, stored, encoding.text_dtype or stored.states, f"{where} [encoding]")
    encoders = _text_encoders(encoding, made, f"{where} [encoding] text_encoders")
    return made, _hash({"store": content, "text": encoders, "states": made.draft.states})


def _planned(run: RunConfig, fields: Fields, data: DataName, where: str) -> Plan:
    try:
        return plan(_asked(run, fields), data, where)
    except InputError as error:
        # What concerns a file of weights names that alone.
        raise error if str(error).startswith(where) else InputError(f"{where}: {error}") from error


def fields_of(encoding: Encoding, where: str) -> Fields:
    """Which field of a record is what.

    Args:
        encoding: names them.
        where: file and table, for errors.

    Raises:
        InputError: a pair that is none.
    """
    return Fields(
        image=encoding.image,
        captions=parse_pairs(encoding.captions, f"{where} captions"),
        label=encoding.label,
        key=encoding.key,
        need_caption=not encoding.no_captions,
    )


def _opened(run: RunConfig, fields: Fields, where: str) -> Source:
    try:
        return open_source(run.data.path, fields, classes=bool(run.encoding.class_templates) and not fields.captions)
    except InputError as error:
        message = str(error)
        for name in ("captions", "image", "label", "key"):
            message = message.replace(f"Fields.{name}", f"[encoding] {name}")
        message = message.replace("Fields.need_caption", "[encoding] no_captions")
        raise InputError(f"{where}: {message}") from error


def _filtered(encoding: Encoding, source: Source, where: str) -> Manifest | None:
    if not encoding.filter:
        return None
    try:
        manifest = Manifest.open(encoding.filter)
        manifest.check(source)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    return manifest


def _asked(run: RunConfig, fields: Fields) -> Asked:
    encoding = run.encoding
    table = BucketTable(
        rule=encoding.buckets,
        step=encoding.bucket_step,
        min_ratio=encoding.min_ratio,
        max_ratio=encoding.max_ratio,
        ratios=encoding.ratios or QWEN_IMAGE_RATIOS,
        stretch=encoding.stretch,
        max_upscaling=encoding.max_upscaling,
    )
    kinds = (*fields.captions, *((CLASS,) if encoding.class_templates else ()))
    return Asked(
        image=encoding.image_encoder,
        text=encoding.text_encoders,
        image_sizes=image_sizes(run),
        buckets=table,
        patch=encoding.patch,
        captions=captions_of(kinds, encoding.class_templates, encoding.classes),
        latents=encoding.dtype,
        states=encoding.text_dtype or encoding.dtype,
    )


def _check_encoders(encoding: Encoding, where: str) -> None:
    check_device(encoding.device, f"{where} device")
    image_spec(named(encoding.image_encoder)[0], f"{where} image_encoder")
    for each in encoding.text_encoders:
        text_spec(named(each)[0], f"{where} text_encoders")
    if not encoding.text_encoders:
        raise InputError(f'{where} text_encoders: missing; name at least one, as ["clip-l=weights", "t5=weights"]')
    if encoding.classes and not encoding.class_templates:
        raise InputError(f"{where} classes: names classes that no caption is made of; add class_templates")


def _with_scale(made: Plan, where: str) -> Plan:
    """The plan with a published scale and shift of its latents, also where the weights that say them are on the hub."""
    spec = made.draft.image_spec
    if published_scale(spec):
        return made
    try:
        spec = check_image(spec, _located(spec, made.image_source).model)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    if not published_scale(spec):
        raise InputError(
            f"{where}: '{spec.name}' comes without a scale and shift for its latents, which then have to be measured "
            f'over all images: encode them with prx-scale encode, and train on dataset = "store"'
        )
    return replace(made, draft=replace(made.draft, image=replace(made.draft.image, spec=spec)))


def _located(spec: ImageSpec | TextSpec, source: str) -> Located:
    try:
        return locate(spec, source)
    except ImportError as error:
        raise InputError(f"'{spec.name}' on the hub needs huggingface_hub; name a local folder") from error


def _text_encoders(encoding: Encoding, made: Plan, where: str) -> list[dict[str, Any]]:
    return [_encoder(encoding, spec, made.text_sources[spec.name], where) for spec in made.draft.text_specs]


def _encoder(encoding: Encoding, spec: ImageSpec | TextSpec, source: str, where: str) -> dict[str, Any]:
    """What an encoder's output depends on, as far as its files and settings say without loading it."""
    text = isinstance(spec, TextSpec)
    try:
        files = {} if spec.kind in BUILT_IN else content_of(_located(spec, source))
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    return {
        "spec": spec_to_json(spec),
        "files": dict(files),
        "recipe": TEXT_RECIPE if text else IMAGE_RECIPE,
        "precision": encoding.precision,
        "cleaning": encoding.cleaning if text else "",
    }


def _content_of_images(run: RunConfig, made: Plan, fields: Fields, encoders: Sequence[Mapping[str, Any]]) -> str:
    encoding, draft = run.encoding, made.draft
    buckets = (encoding.buckets, encoding.bucket_step, encoding.min_ratio, encoding.max_ratio, encoding.patch)
    return _hash(
        {
            **_read(made, fields),
            "filter": draft.data.filter,
            "encoders": encoders,
            "buckets": [*buckets, *(encoding.ratios or QWEN_IMAGE_RATIOS)],
            "preprocessing": asdict(draft.preprocessing),
            "numbers": [draft.latents, draft.states],
            "survey": encoding.survey,
        }
    )


def _read(made: Plan, fields: Fields) -> dict[str, Any]:
    """Which data are read, and what of them."""
    data = made.draft.data
    return {
        "data": [data.fingerprint, data.samples],
        # Kinds are drawn by their place.
        "captions": [asdict(made.draft.captions), list(fields.captions.items())],
        "fields": [fields.image, fields.label, fields.key, fields.need_caption],
    }


def _hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def absolute(text: str, folder: Path) -> str:
    """NAME=SOURCE with a relative folder of weights made absolute; the id of a hub stays.

    Args:
        text: NAME or NAME=SOURCE.
        folder: that relative ones are taken from.
    """
    name, source = named(text)
    if not source:
        return name
    path = folder / Path(source).expanduser()
    return f"{name}={path.absolute()}" if path.exists() or source[0] in "./~" else f"{name}={source}"
