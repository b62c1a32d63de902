"""Whether the first samples of a dataset are what was asked for, before anything works on all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

from prx_scale.data.samples import RawSample, Skip, Skipped
from prx_scale.data.sources.base import Item, Source
from prx_scale.data.sources.fields import Fields
from prx_scale.errors import InputError, nearest

_TRIED = 32
_SHARDS = 3
"""A damaged shard at the beginning is no reason to refuse the others."""


def try_first(source: Source, fields: Fields) -> None:
    """Refuse what cannot be meant: no sample at all, or fields that the first samples do not have.

    Args:
        source: just opened.
        fields: that were asked for.

    Raises:
        InputError: says what the first samples have instead.
    """
    items = _first(source)
    missing = _without(items, fields.captions, "captions") | _without(items, fields.scores, "scores")
    usable = any(isinstance(item, RawSample) for item in items)
    if missing and (usable or _lack(items, Skip.NO_CAPTION)):
        kind, name = next(iter(missing.items()))
        lacks = "its first sample has no" if len(items) == 1 else f"none of the first {len(items)} samples has"
        raise InputError(f"{source.spec}: {lacks} '{name}' (for '{kind}'){_hint(name, source.names())}")
    if not usable:
        _refuse(source, items)


def check_classes(source: Source) -> None:
    """Refuse data without classes, of which captions are to be made.

    Args:
        source: opened with the field of the class, where it has an unusual name.

    Raises:
        InputError: none of the first samples has one.
    """
    items = _first(source)
    if not any(isinstance(item, RawSample) and item.label is not None for item in items):
        known = source.names()
        there = f" (fields: {', '.join(known)})" if known else ""
        raise InputError(
            f"{source.spec}: none of the first {len(items)} samples has a class to make a caption of{there}; name its "
            "field (Fields.label)"
        )


def _first(source: Source) -> list[Item]:
    """The first samples of the first shard in which one can be used, else those of a few shards."""
    shards = list(islice((shard for shard, count in enumerate(source.counts()) if count), _SHARDS))
    if not shards:
        raise InputError(f"{source.spec}: holds no samples")
    found: list[Item] = []
    for shard in shards:
        items = list(source.samples(shard, stop=_TRIED))
        if any(isinstance(item, RawSample) for item in items):
            return items
        found += items
    return found


def _without(items: Sequence[Item], named: Mapping[str, str], what: str) -> dict[str, str]:
    there = {kind for item in items if isinstance(item, RawSample) for kind in getattr(item, what)}
    return {kind: name for kind, name in named.items() if kind not in there}


def _lack(items: Sequence[Item], reason: Skip) -> bool:
    return all(isinstance(item, Skipped) and item.reason is reason for item in items)


def _hint(name: str, known: Sequence[str]) -> str:
    if name in known:
        return ", or not as what it is to be: captions are text that is not blank, scores are numbers"
    return f"; {nearest(name, known)}" if known else ""


def _refuse(source: Source, items: Sequence[Item]) -> None:
    worst = next(item for item in items if isinstance(item, Skipped))
    if _lack(items, Skip.CORRUPT_SHARD):
        raise InputError(
            f"{source.spec}: no sample can be read; {worst.shard}: {worst.detail}; is it what it is named as?"
        )
    right = {
        Skip.NO_IMAGE: "name the image's field (Fields.image)",
        Skip.NO_CAPTION: "name the fields of captions (Fields.captions), or need none (Fields.need_caption)",
    }.get(worst.reason, "is it what it is named as?")
    lacking = worst.reason in (Skip.NO_IMAGE, Skip.NO_CAPTION)
    known = source.names() if lacking else ()
    what = f"fields: {', '.join(known)}" if known else worst.detail
    none = "its first sample cannot" if len(items) == 1 else f"none of the first {len(items)} samples can"
    raise InputError(f"{source.spec}: {none} be used; {worst.key}: {worst.reason} ({what}); {right}")
