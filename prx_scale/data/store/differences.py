"""What one recipe says otherwise than another, in words."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any, cast

from prx_scale.data.store.recipe import Recipe


def differences(ours: Recipe, theirs: Recipe) -> list[str]:
    """What one recipe says otherwise than another, in words; names of data do not count.

    Args:
        ours: what is asked for.
        theirs: what is there.
    """
    left, right = ours.to_json(), replace(theirs, data=replace(theirs.data, spec=ours.data.spec)).to_json()
    return [f"{key} {_short(mine)}, there {_short(other)}" for key, mine, other in _unequal("", left, right)]


def _unequal(key: str, ours: Any, theirs: Any) -> list[tuple[str, Any, Any]]:
    if ours == theirs:
        return []
    if isinstance(ours, dict) and isinstance(theirs, dict):
        mine, other = cast("dict[str, Any]", ours), cast("dict[str, Any]", theirs)
        names = [name for name in dict.fromkeys([*mine, *other]) if name != "hash"]
        return [each for name in names for each in _unequal(_within(key, name), mine.get(name), other.get(name))]
    if isinstance(ours, list) and isinstance(theirs, list):
        left, right = cast("list[Any]", ours), cast("list[Any]", theirs)
        if len(left) == len(right) and all(isinstance(each, dict) for each in left):
            pairs = enumerate(zip(left, right, strict=True))
            return [each for number, (a, b) in pairs for each in _unequal(_within(key, str(number)), a, b)]
    return [(key, ours, theirs)]


def _within(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _short(value: Any) -> str:
    text = "none" if value is None else _sizes(value) or json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:40]}... ({hashlib.sha256(text.encode()).hexdigest()[:8]})"


def _sizes(value: Any) -> str:
    """Image sizes of resolutions, or buckets, as people write them; empty for anything else."""
    if not isinstance(value, list) or not value:
        return ""
    items = cast("list[Any]", value)
    if all(isinstance(each, dict) and "image_size" in each for each in items):
        return ", ".join(f"{each['image_size']} pixels" for each in items)
    if all(isinstance(each, list) and len(cast("list[Any]", each)) == 2 for each in items):
        return ", ".join(f"{height}x{width}" for height, width in items)
    return ""
