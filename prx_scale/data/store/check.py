"""Whether a store is what a run takes: training refuses latents and text states that were made otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prx_scale.data.buckets import Bucket
from prx_scale.data.store.recipe import Encoder, Recipe
from prx_scale.data.store.storage import Storage
from prx_scale.errors import InputError
from prx_scale.models.encoders.identity import EncoderIdentity, check_same


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a run takes; what is None or empty is not looked at."""

    image: EncoderIdentity | str | None = None
    """What made the latents; by its name alone where its files are not at hand."""
    text: Sequence[EncoderIdentity | str] = ()
    """What made the text states that are needed; the store may have more."""
    image_size: int | None = None
    buckets: Sequence[Bucket] | None = None
    """Of that image size, in their order."""
    stretch: float | None = None
    max_upscaling: float | None = None
    kinds: Sequence[str] = ()
    """Of captions."""
    tokens: bool = True
    """Token states are needed, if text states are."""
    latents: Storage | None = None
    """Number type of the latents."""
    states: Storage | None = None
    """Of the text states."""
    fingerprint: str | None = None
    """Of the data."""


def check_recipe(recipe: Recipe, expected: Expected, where: str) -> None:
    """Refuse a store that is not what a run takes.

    Args:
        recipe: of the store.
        expected: of the run.
        where: the store, for errors.

    Raises:
        InputError: names the first thing that differs, and what is right.
    """
    if expected.image is not None:
        _check_encoder(recipe.image, expected.image, f"{where}: latents")
    for wanted in expected.text:
        name = wanted if isinstance(wanted, str) else wanted.name
        found = next((each for each in recipe.text if each.name == name), None)
        if found is None:
            names = ", ".join(each.name for each in recipe.text) or "none"
            raise InputError(f"{where}: has no text states of '{name}', only of {names}; encode with it")
        _check_encoder(found, wanted, f"{where}: text states")
    if expected.text and expected.tokens and recipe.pooled_only:
        raise InputError(f"{where}: has pooled text states only; encode without --pooled-only, or tokens on the fly")
    _check_sizes(recipe, expected, where)
    for kind in expected.kinds:
        if kind not in recipe.captions.kinds:
            kinds = ", ".join(recipe.captions.kinds) or "none"
            raise InputError(f"{where}: captions of the kind '{kind}' are not encoded, only {kinds}")
    for what, mine, theirs in (
        ("latents", recipe.latents, expected.latents),
        ("text states", recipe.states, expected.states),
        ("data of fingerprint", recipe.data.fingerprint, expected.fingerprint),
    ):
        if theirs is not None and mine != theirs:
            raise InputError(f"{where}: has {what} {mine}; the run takes {theirs}")


def _check_encoder(stored: Encoder, wanted: EncoderIdentity | str, where: str) -> None:
    if isinstance(wanted, EncoderIdentity):
        check_same(stored.identity, wanted, where)
    elif stored.name != wanted:
        raise InputError(f"{where}: made by '{stored.name}', not '{wanted}'; encode again, or name '{stored.name}'")


def _check_sizes(recipe: Recipe, expected: Expected, where: str) -> None:
    if expected.image_size is not None:
        found = next((each for each in recipe.resolutions if each.image_size == expected.image_size), None)
        if found is None:
            sizes = ", ".join(str(each.image_size) for each in recipe.resolutions)
            raise InputError(f"{where}: has no latents of {expected.image_size} pixels, only of {sizes}")
        if expected.buckets is not None and tuple(expected.buckets) != found.buckets:
            raise InputError(
                f"{where}: its buckets at {found.image_size} pixels are {_names(found.buckets)}; the run has "
                f"{_names(expected.buckets)}"
            )
    preprocessing = recipe.preprocessing
    for key, mine, theirs in (
        ("stretch", preprocessing.stretch, expected.stretch),
        ("max_upscaling", preprocessing.max_upscaling, expected.max_upscaling),
    ):
        if theirs is not None and mine != theirs:
            raise InputError(f"{where}: images were brought to size with {key} {mine:g}; the run has {theirs:g}")


def _names(buckets: Sequence[Bucket]) -> str:
    return ", ".join(bucket.name for bucket in buckets)
