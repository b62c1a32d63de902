"""What the content of a store depends on: the data, the encoders, how images and captions are brought to them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.buckets import Bucket
from prx_scale.data.store.storage import CODES, Storage
from prx_scale.errors import InputError
from prx_scale.models.encoders.combinations import inputs_of_encoders
from prx_scale.models.encoders.identity import EncoderIdentity
from prx_scale.models.encoders.registry import ImageSpec, TextSpec
from prx_scale.models.inputs import Inputs

FRAMING = 1
"""Raised when the same image and bucket come to mean other pixels."""
SHARDS_AT_ONCE = 256
"""Of a group that is read from in random order."""

_WHEREABOUTS = ("hub", "folder", "parameters")
"""Fields of a spec that say nothing about what an encoder gives."""

S = TypeVar("S", ImageSpec, TextSpec)


@dataclass(frozen=True, kw_only=True)
class DataName:
    """Which data were encoded."""

    spec: str
    """As they were named."""
    fingerprint: str
    """Of the shards' names and counts."""
    samples: int
    """All places, damaged ones too."""
    filter: str = ""
    """Identity of the filter's result that says which samples are kept; empty where all are."""


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """An encoder: its sizes, and what its output depends on."""

    spec: ImageSpec | TextSpec
    identity: EncoderIdentity

    @property
    def name(self) -> str:
        """In the registry."""
        return self.spec.name


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """The buckets of one image size; an image has latents in one of them, or is too small for all."""

    image_size: int
    buckets: tuple[Bucket, ...]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How an image is brought to its bucket."""

    stretch: float
    """Largest difference of ratios at which an image is stretched, not cropped."""
    max_upscaling: float
    """Images that would have to grow by more are left out of a resolution."""
    max_pixels: int
    """Images with more are skipped, as are those of the next two bounds."""
    min_pixels: int
    max_ratio: float
    framing: int = FRAMING


@dataclass(frozen=True, kw_only=True)
class Captions:
    """Which captions are encoded."""

    kinds: tuple[str, ...]
    templates: tuple[str, ...] = ()
    """Of the kind "class"."""
    classes: str = ""
    """Hash of the names of the classes; empty where samples name theirs in words."""
    seed: int = 0
    """Of the draw of a class's name and template."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All of it."""

    data: DataName
    image: Encoder
    text: tuple[Encoder, ...]
    resolutions: tuple[Resolution, ...]
    preprocessing: Preprocessing
    captions: Captions
    latents: Storage
    """Number type of the latents."""
    states: Storage
    """Of the text states."""
    pooled_only: bool
    """Token states are left out."""
    shard_size: int
    """Samples of a shard."""

    @property
    def shards(self) -> int:
        """How many there are."""
        return -(-self.data.samples // self.shard_size)

    @property
    def image_spec(self) -> ImageSpec:
        """Of the image encoder."""
        assert isinstance(self.image.spec, ImageSpec)
        return self.image.spec

    @property
    def text_specs(self) -> tuple[TextSpec, ...]:
        """Of the text encoders."""
        return tuple(each.spec for each in self.text if isinstance(each.spec, TextSpec))

    def range(self, shard: int) -> tuple[int, int]:
        """First number of a shard, and the one to end before.

        Args:
            shard: its number.
        """
        return shard * self.shard_size, min((shard + 1) * self.shard_size, self.data.samples)

    @property
    def bounds(self) -> NDArray[np.int64]:
        """(S + 1,) first sample of each shard, and the number of all."""
        return np.minimum(np.arange(self.shards + 1, dtype=np.int64) * self.shard_size, self.data.samples)

    def blocks(self, samples: int = 1 << 20) -> NDArray[np.int64]:
        """First samples of groups of shards, for an order that reads one group at a time.

        Args:
            samples: of a group at most; a shard is never split, and no group has more shards than a reader holds open.
        """
        shards = max(1, min(samples // self.shard_size, SHARDS_AT_ONCE))
        return self.bounds[:-1:shards]

    def latent_shape(self, bucket: Bucket) -> tuple[int, int, int]:
        """Channels (mean, and behind it the standard deviation where there is one), height and width of a latent.

        Args:
            bucket: of the image.
        """
        spec = self.image_spec
        channels = spec.channels * (1 if spec.deterministic else 2)
        return channels, bucket.height // spec.downsampling, bucket.width // spec.downsampling

    def inputs(self) -> Inputs:
        """What the encoders feed to a backbone.

        Raises:
            InputError: the text encoders cannot share a context.
        """
        return inputs_of_encoders(text=self.text_specs, image=self.image_spec, where="the store's encoders")

    @property
    def hash(self) -> str:
        """Of all that the stored numbers depend on: not of how data are named, nor of the sizes of shards."""
        content = self.to_json()
        content["data"] = {**content["data"], "spec": ""}
        del content["shard_size"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """As it lies in a store."""
        return {
            "data": asdict(self.data),
            "image": _encoder_to_json(self.image),
            "text": [_encoder_to_json(each) for each in self.text],
            "resolutions": [
                {"image_size": each.image_size, "buckets": [[size.height, size.width] for size in each.buckets]}
                for each in self.resolutions
            ],
            "preprocessing": asdict(self.preprocessing),
            "captions": _listed(asdict(self.captions)),
            "latents": self.latents,
            "states": self.states,
            "pooled_only": self.pooled_only,
            "shard_size": self.shard_size,
        }

    @classmethod
    def from_json(cls, content: Any, where: str) -> Recipe:
        """The inverse of `to_json`.

        Args:
            content: as it was read.
            where: the file, for errors.

        Raises:
            InputError: it is damaged.
        """
        try:
            found = cls(
                data=DataName(**content["data"]),
                image=_encoder_from_json(ImageSpec, content["image"], f"{where}: image"),
                text=tuple(_encoder_from_json(TextSpec, each, f"{where}: text") for each in content["text"]),
                resolutions=tuple(_resolution(each) for each in content["resolutions"]),
                preprocessing=Preprocessing(**content["preprocessing"]),
                captions=Captions(**_tupled(content["captions"])),
                latents=_storage(content["latents"]),
                states=_storage(content["states"]),
                pooled_only=bool(content["pooled_only"]),
                shard_size=int(content["shard_size"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{where}: damaged, or of another version ({error})") from error
        if found.shard_size < 1 or found.data.samples < 1 or not found.resolutions:
            raise InputError(f"{where}: damaged: no samples, shards or resolutions")
        return found


def spec_to_json(spec: ImageSpec | TextSpec) -> dict[str, Any]:
    """What a spec says of an encoder's output: not where its weights are.

    Args:
        spec: of the encoder.
    """
    return {key: value for key, value in asdict(spec).items() if key not in _WHEREABOUTS}


def _encoder_to_json(encoder: Encoder) -> dict[str, Any]:
    return {"spec": spec_to_json(encoder.spec), "identity": encoder.identity.to_json()}


def _encoder_from_json(kind: type[S], content: Mapping[str, Any], where: str) -> Encoder:
    known = {each.name for each in fields(kind)}
    # Fields that later versions add to what describes an encoder do not make a store unreadable.
    spec = kind(**_tupled({name: value for name, value in content["spec"].items() if name in known}))
    return Encoder(spec=spec, identity=EncoderIdentity.from_json(content["identity"], where))


def _resolution(content: Mapping[str, Any]) -> Resolution:
    sizes = tuple(Bucket(height=int(height), width=int(width)) for height, width in content["buckets"])
    return Resolution(image_size=int(content["image_size"]), buckets=sizes)


def _storage(name: str) -> Storage:
    if name not in CODES:
        raise ValueError(f"{name!r} is not a number type")
    return name


def _listed(content: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in content.items()}


def _tupled(content: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
