"""How many bytes a sample takes in a store, from shapes alone."""

from __future__ import annotations

from collections.abc import Sequence

from prx_scale.data.store.recipe import Recipe
from prx_scale.data.store.storage import Storage, bytes_of


def latent_bytes(recipe: Recipe) -> dict[int, int]:
    """Bytes of one image's latents at each resolution: those of its largest bucket.

    Args:
        recipe: of the store.
    """
    found: dict[int, int] = {}
    for resolution in recipe.resolutions:
        shapes = (recipe.latent_shape(bucket) for bucket in resolution.buckets)
        found[resolution.image_size] = max(_size(shape, recipe.latents, exponents=shape[0]) for shape in shapes)
    return found


def text_bytes(recipe: Recipe) -> dict[str, int]:
    """Bytes of one caption's states of each encoder, at its full length.

    Args:
        recipe: of the store.
    """
    return {
        spec.name: (0 if recipe.pooled_only else _size((spec.tokens, spec.width), recipe.states, exponents=spec.tokens))
        + (_size((spec.pooled,), recipe.states, exponents=1) if spec.pooled else 0)
        for spec in recipe.text_specs
    }


def _size(shape: Sequence[int], storage: Storage, exponents: int) -> int:
    numbers = 1
    for each in shape:
        numbers *= each
    return numbers * bytes_of(storage) + (exponents if storage == "fp8" else 0)
