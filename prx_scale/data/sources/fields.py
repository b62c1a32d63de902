"""Which field of a record is the image, which are captions, scores, size and class."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from prx_scale.data.samples import ORIGINAL
from prx_scale.errors import InputError

Record = Mapping[str, object]
"""A sample as its format has it: columns by name, or the contents of files by suffix; `json` is read already."""

IMAGES = ("jpg", "jpeg", "png", "webp", "gif", "image", "img", "image_bytes")
CAPTIONS = ("txt", "caption", "text", "TEXT", "prompt", "json.caption", "json.text", "json.prompt")
LABELS = ("cls", "label", "json.label")
SIZES = (("height", "width"), ("HEIGHT", "WIDTH"), ("json.height", "json.width"))


@dataclass(frozen=True, kw_only=True)
class Fields:
    """Names of fields; what is empty is looked for under its usual names.

    A name is a column or a file's suffix. A dot leads into what lies in it: `json.caption` is the key `caption` of a
    sample's JSON file, `json.captions.1` the second of a list.
    """

    image: str = ""
    captions: Mapping[str, str] = field(default_factory=dict[str, str])
    """Field by kind of caption; if empty, the usual one is of kind `original`."""
    scores: Mapping[str, str] = field(default_factory=dict[str, str])
    """Field by name of score."""
    height: str = ""
    width: str = ""
    label: str = ""
    key: str = ""
    """What names a sample in its shard; if empty, its file's name or its number."""
    need_caption: bool = True
    """Whether a sample without caption and label is skipped."""

    def named(self) -> tuple[str, ...]:
        """All fields that were named."""
        single = (self.image, self.height, self.width, self.label, self.key)
        return tuple(name for name in (*single, *self.captions.values(), *self.scores.values()) if name)


def parse_pairs(
    pairs: Sequence[str], option: str, right: str = "KIND=FIELD, such as long=json.caption"
) -> dict[str, str]:
    """`kind=field` pairs as a command line has them.

    Args:
        pairs: for example `long=json.llava`.
        option: what they were given to, for messages.
        right: what a pair is, for messages.

    Raises:
        InputError: a pair without `=`, an empty half, or a kind named twice.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        kind, equals, name = (part.strip() for part in pair.partition("="))
        if not (kind and equals and name):
            raise InputError(f"{option}: '{pair}' is not {right}")
        if kind in found:
            raise InputError(f"{option}: '{kind}' is named twice: {found[kind]} and {name}")
        found[kind] = name
    return found


def lookup(record: object, name: str) -> object:
    """The value of a field, or None.

    Args:
        record: a mapping or list, with others in it.
        name: a key or index, or several with dots between; a key may have dots itself, as in the suffix `seg.png`.
    """
    if isinstance(record, Mapping):
        known = cast("Mapping[str, object]", record)
        if name in known:
            return known[name]
        for at in [at for at, letter in enumerate(name) if letter == "."][::-1]:
            if name[:at] in known:
                return lookup(known[name[:at]], name[at + 1 :])
        return None
    if isinstance(record, Sequence) and not isinstance(record, str | bytes):
        rows = cast("Sequence[object]", record)
        first, _, rest = name.partition(".")
        if first.isdigit() and int(first) < len(rows):
            return lookup(rows[int(first)], rest) if rest else rows[int(first)]
    return None


def names_in(record: Record) -> list[str]:
    """The fields of a record, with the keys of what lies in it."""
    inner = {name: cast("Mapping[str, object]", value) for name, value in record.items() if isinstance(value, Mapping)}
    return [f"{name}.{key}" for name, value in inner.items() for key in value] + [n for n in record if n not in inner]


def captions_of(record: Record, fields: Fields) -> dict[str, str]:
    """Captions by kind; those that are missing or blank are left out."""
    if fields.captions:
        found = {kind: as_text(lookup(record, name)) for kind, name in fields.captions.items()}
    else:
        found = {ORIGINAL: _first(as_text(lookup(record, name)) for name in CAPTIONS)}
    return {kind: text for kind, text in found.items() if text}


def label_of(record: Record, fields: Fields) -> str | None:
    """The class of a sample, if it has one."""
    names = (fields.label,) if fields.label else LABELS
    return _first(as_text(lookup(record, name)) for name in names) or None


def scores_of(record: Record, fields: Fields) -> dict[str, float]:
    """Finite scores by name."""
    found = {name: as_number(lookup(record, place)) for name, place in fields.scores.items()}
    return {name: value for name, value in found.items() if value is not None}


def size_of(record: Record, fields: Fields) -> tuple[int, int] | None:
    """Height and width as the record says them, if it does."""
    pairs = ((fields.height, fields.width),) if fields.height or fields.width else SIZES
    for names in pairs:
        height, width = (as_number(lookup(record, name)) for name in names)
        if height is not None and width is not None and height >= 1 and width >= 1:
            return int(height), int(width)
    return None


def as_text(value: object) -> str:
    """Text without blanks around it; of a list the first that is not blank; "" for what is no text."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", errors="replace").strip()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, Sequence):
        return _first(as_text(each) for each in cast("Sequence[object]", value))
    return ""


def as_number(value: object) -> float | None:
    """A finite number, also out of text; None for anything else."""
    try:
        number = float(cast("float", as_text(value) if isinstance(value, bytes) else value))
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _first(texts: Iterable[str]) -> str:
    return next((text for text in texts if text), "")
