"""How large a store becomes, from shapes alone. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from prx_scale.data.store.bytesizes import latent_bytes, text_bytes
from prx_scale.data.store.recipe import Recipe

TEXT = "text states of"


@dataclass(frozen=True, kw_only=True)
class Size:
    """One kind of what is stored, in bytes of one sample."""

    what: str
    now: int
    """As it was asked for."""
    fp8: int
    pooled: int | None
    """Without the states of tokens; None for latents."""
    at_most: bool
    """Captions that are shorter take less."""

    @property
    def text(self) -> bool:
        """Whether it is of captions."""
        return self.pooled is not None


def sizes(recipe: Recipe) -> list[Size]:
    """Bytes of one sample by kind, with all resolutions, all kinds of captions, and captions of full length.

    Args:
        recipe: of the store.
    """
    fp8 = replace(recipe, latents="fp8", states="fp8")
    pooled = replace(recipe, pooled_only=True)
    kinds = len(recipe.captions.kinds)
    small, short, less = latent_bytes(fp8), text_bytes(fp8), text_bytes(pooled)
    images = [
        Size(
            what=f"latents of {size} pixels",
            now=each,
            fp8=small[size],
            pooled=None,
            at_most=len(recipe.resolutions) > 1,
        )
        for size, each in latent_bytes(recipe).items()
    ]
    masked = {spec.name: spec.masked for spec in recipe.text_specs}
    texts = [
        Size(
            what=f"{TEXT} {name}" + (f", {kinds} captions" if kinds > 1 else ""),
            now=kinds * each,
            fp8=kinds * short[name],
            pooled=kinds * less[name],
            at_most=masked[name] or kinds > 1,
        )
        for name, each in text_bytes(recipe).items()
    ]
    return [*images, *texts]


def totals(found: list[Size]) -> Mapping[str, int]:
    """Bytes of one sample: all of it, text states, text states in fp8, and those that are pooled.

    Args:
        found: by kind.
    """
    texts = [each for each in found if each.text]
    return {
        "all": sum(each.now for each in found),
        "text": sum(each.now for each in texts),
        "text, fp8": sum(each.fp8 for each in texts),
        "text, pooled": sum(each.pooled or 0 for each in texts),
    }
