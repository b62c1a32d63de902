"""Which encoders go together, and what they feed to a backbone. Needs no torch, so that a study is checked anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from prx_scale.errors import InputError
from prx_scale.models.encoders.registry import TOKENS_OF_CLIP, ImageSpec, TextSpec, image_spec, text_spec
from prx_scale.models.inputs import Inputs, TextEncoder


def inputs_of_encoders(*, text: Sequence[str | TextSpec], image: str | ImageSpec, where: str = "encoders") -> Inputs:
    """Sizes of what encoders feed to a backbone, and which part of the text states each fills.

    CLIPs share the first 77 tokens, side by side on channels and zero beyond them; each other encoder has tokens of its
    own behind those, in the order given. For SD3's three this is SD3's layout (Esser et al. 2024).

    Args:
        text: text encoders, by name or with sizes of their own.
        image: the image encoder.
        where: file and table, for errors.

    Raises:
        InputError: an unknown name, an encoder twice, or encoders that cannot share a context.
    """
    latents = image_spec(image, f"{where}: image")
    specs = [text_spec(each, f"{where}: text") for each in text]
    _check_names(specs, where)
    clips = [spec for spec in specs if spec.kind == "clip"]
    others = [spec for spec in specs if spec.kind != "clip"]
    context_dim = _context_dim(clips, others, where)
    placed = [*_side_by_side(clips), *_one_after_another(others, start=TOKENS_OF_CLIP if clips else 0)]
    encoders = _with_pooled(placed, [*clips, *others])
    return Inputs(
        channels=latents.channels,
        context_dim=context_dim,
        pooled_dim=max(encoder.pooled[1] for encoder in encoders),
        encoders=encoders,
    )


def check_combination(
    *,
    text: Sequence[str | TextSpec],
    image: str | ImageSpec,
    resolution: int | tuple[int, int],
    patch: int,
    weight_sets: int = 2,
    where: str = "encoders",
) -> Inputs:
    """Whether a backbone can be trained on what encoders give, before anything is loaded.

    Args:
        text: text encoders, by name or with sizes of their own.
        image: the image encoder.
        resolution: of an image in pixels, along a side or as height and width.
        patch: latents along a side of a patch of the backbone.
        weight_sets: of the backbone; 3 has one for each of two groups of text tokens.
        where: file and table, for errors.

    Returns:
        What the encoders feed to the backbone.

    Raises:
        InputError: says which do not go together, and what would.
    """
    inputs = inputs_of_encoders(text=text, image=image, where=where)
    latents = image_spec(image)
    sides = (resolution, resolution) if isinstance(resolution, int) else resolution
    step = latents.downsampling * patch
    for side in sides:
        if side < step or side % step:
            raise InputError(
                f"{where}: {side} pixels are no multiple of {step}: a patch of {patch} latents of '{latents.name}', "
                f"{latents.downsampling} pixels each; {_multiples(side, step)} would do"
            )
    if weight_sets == 3 and len(inputs.token_groups) != 2:
        raise InputError(
            f"{where}: 3 weight sets need two groups of text tokens, but these encoders give "
            f"{len(inputs.token_groups)} ({_groups(inputs)}); CLIPs count as one. Use 2 sets, or two groups"
        )
    return inputs


def _check_names(specs: Sequence[TextSpec], where: str) -> None:
    if not specs:
        raise InputError(f"{where}: text: no text encoder; name at least one")
    names = [spec.name for spec in specs]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{where}: text: '{name}' is there twice")
    kinds = {spec.kind for spec in specs}
    if "shapes" in kinds and len(kinds) > 1:
        other = next(spec.name for spec in specs if spec.kind != "shapes")
        raise InputError(
            f"{where}: text: the embedded encoders know only the words of the drawn shapes; '{other}' does not go with "
            "them"
        )
    for spec in specs:
        if spec.kind == "clip" and spec.tokens != TOKENS_OF_CLIP:
            raise InputError(f"{where}: text: '{spec.name}': {spec.tokens} tokens; CLIP has {TOKENS_OF_CLIP}")


def _context_dim(clips: Sequence[TextSpec], others: Sequence[TextSpec], where: str) -> int:
    width = sum(spec.width for spec in clips)
    if not others:
        return width
    first = others[0]
    for spec in others[1:]:
        if spec.width != first.width:
            raise InputError(
                f"{where}: text: '{first.name}' has states of width {first.width}, '{spec.name}' of {spec.width}; "
                "encoders with tokens of their own go into one projection and must be as wide as each other"
            )
    if width > first.width:
        names = " and ".join(f"'{spec.name}'" for spec in clips)
        raise InputError(
            f"{where}: text: {names} are {width} wide together, more than the {first.width} of '{first.name}', "
            "to which they are filled up with zeros"
        )
    return first.width


def _side_by_side(clips: Sequence[TextSpec]) -> list[TextEncoder]:
    stops = list(accumulate((spec.width for spec in clips), initial=0))
    return [
        TextEncoder(name=spec.name, tokens=(0, spec.tokens), channels=(start, stop))
        for spec, start, stop in zip(clips, stops, stops[1:], strict=False)
    ]


def _one_after_another(specs: Sequence[TextSpec], start: int) -> list[TextEncoder]:
    stops = list(accumulate((spec.tokens for spec in specs), initial=start))
    return [
        TextEncoder(name=spec.name, tokens=(first, stop), channels=(0, spec.width), masked=spec.masked)
        for spec, first, stop in zip(specs, stops, stops[1:], strict=False)
    ]


def _with_pooled(encoders: Sequence[TextEncoder], specs: Sequence[TextSpec]) -> tuple[TextEncoder, ...]:
    """Pooled states one after another; the embedded encoders have the same one, which the first gives."""
    placed: list[TextEncoder] = []
    stop = 0
    for encoder, spec in zip(encoders, specs, strict=True):
        again = spec.kind == "shapes" and stop > 0
        width = 0 if again else spec.pooled
        placed.append(replace(encoder, pooled=(stop, stop + width) if width else (0, 0)))
        stop += width
    return tuple(placed)


def _multiples(side: int, step: int) -> str:
    below = side // step * step
    return f"{below} or {below + step}" if below else f"{step}"


def _groups(inputs: Inputs) -> str:
    by_tokens: dict[tuple[int, int], list[str]] = {}
    for encoder in inputs.encoders:
        by_tokens.setdefault(encoder.tokens, []).append(encoder.name)
    return "; ".join(" with ".join(names) for names in by_tokens.values())
