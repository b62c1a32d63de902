"""What names a dataset, spelled out: braces, patterns, lists and folders become paths of one format."""

from __future__ import annotations

import glob
import itertools
import json
import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from prx_scale.data.sources.files import filesystem, is_url, local_path
from prx_scale.errors import InputError

Format = Literal["tar", "parquet", "arrow", "folder"]

SUFFIXES: dict[str, Format] = {".tar": "tar", ".parquet": "parquet", ".arrow": "arrow"}
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif")
RIGHT = (
    "a dataset is .tar files (WebDataset), .parquet files, a folder that Hugging Face datasets saved, or a folder of "
    "images; files as one path or URL, a pattern such as 'shards/*.tar', a range such as 'shards/{0000..0099}.tar', "
    "or a list of those"
)

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_PATTERN = re.compile(r"[*?\[]")
_MOST = 10_000_000


@dataclass(frozen=True, kw_only=True)
class Named:
    """Files or a folder of one format."""

    format: Format
    paths: tuple[str, ...]


def resolve(spec: str | Sequence[str]) -> Named:
    """Find the files that a dataset is named by.

    Args:
        spec: a path or URL, with braces and patterns, or several.

    Raises:
        InputError: nothing is there, the format is not known, or formats are mixed.
    """
    parts = [spec] if isinstance(spec, str) else list(spec)
    if not parts or not all(part.strip() for part in parts):
        raise InputError(f"no data is named; {RIGHT}")
    # A name that exists is meant as it stands, braces, brackets and all.
    texts = [text for part in parts for text in ([part] if _exists(part) else braces(part.strip()))]
    found = [each for text in texts for each in _named(text)]
    formats = {each.format for each in found}
    if len(formats) > 1:
        listed = ", ".join(f"{each.paths[0]} ({each.format})" for each in _one_of_each(found))
        raise InputError(f"one dataset has one format, these differ: {listed}")
    paths = tuple(path for each in found for path in each.paths)
    if doubled := _doubled(paths):
        raise InputError(f"{min(doubled)}: named twice; its samples would count twice")
    return Named(format=found[0].format, paths=paths)


def braces(text: str) -> list[str]:
    """Spell out {0000..0099} and {a,b}, in the order of a shell.

    Raises:
        InputError: braces that hold no range or list, lie in others, or name more than ten million files.
    """
    parts = _BRACES.split(text)
    if any("{" in part or "}" in part for part in parts):
        raise InputError(f"{text}: braces in braces or without a partner; right is for example a/{{0000..0099}}.tar")
    ranges = [_bounds(inside, text) for inside in parts[1::2]]
    if math.prod(high - low + 1 if each is None else len(each) for low, high, each in ranges) > _MOST:
        raise InputError(f"{text}: names more than {_MOST:,} files")
    choices = [
        [str(number).zfill(_width(inside)) for number in range(low, high + 1)] if each is None else each
        for inside, (low, high, each) in zip(parts[1::2], ranges, strict=True)
    ]
    literals = [[part] for part in parts[::2]]
    woven = [each for pair in itertools.zip_longest(literals, choices, fillvalue=[""]) for each in pair]
    return ["".join(chosen) for chosen in itertools.product(*woven)]


def shard_names(paths: Sequence[str]) -> tuple[str, ...]:
    """What is left of paths after the folder that all share: short, and different for each."""
    parts = [local_path(path).split("/") for path in paths]
    shared = 0
    while all(len(each) > shared + 1 and each[shared] == parts[0][shared] for each in parts):
        shared += 1
    return tuple("/".join(each[shared:]) for each in parts)


def _bounds(inside: str, text: str) -> tuple[int, int, list[str] | None]:
    """First and last number of a range in braces, or what a list has."""
    if match := _RANGE.fullmatch(inside):
        low, high = (int(number) for number in match.groups())
        if low > high:
            raise InputError(f"{text}: the range {inside} runs backwards")
        return low, high, None
    if "," in inside:
        return 0, 0, inside.split(",")
    raise InputError(f"{text}: '{{{inside}}}' is neither a range such as {{0000..0099}} nor a list such as {{a,b}}")


def _width(inside: str) -> int:
    """Digits of the numbers of a range: those of its first one, where that is filled up with zeros."""
    first = inside.split("..", 1)[0]
    return len(first) if first.startswith("0") else 0


def _exists(text: str) -> bool:
    return os.path.exists(os.path.expanduser(local_path(text)))


def _named(text: str) -> list[Named]:
    if is_url(text) and not text.startswith("file://"):
        return _remote(text)
    path = os.path.expanduser(local_path(text))
    if os.path.exists(path):
        return [_folder(path) if os.path.isdir(path) else _file(path)]
    if _PATTERN.search(path):
        matches = sorted(glob.glob(path, recursive=True))
        if not matches:
            raise InputError(f"{text}: nothing matches the pattern")
        return [_folder(each) if os.path.isdir(each) else _file(each) for each in matches]
    raise InputError(f"{text}: no such file or folder; {RIGHT}")


def _remote(url: str) -> list[Named]:
    system, name = filesystem(url)
    if not _PATTERN.search(name):
        return [_file(url)]
    try:
        found = sorted(system.unstrip_protocol(each) for each in system.glob(name))
    except Exception as error:
        # Each protocol's client has its own errors.
        raise InputError(f"{url}: its files cannot be listed ({error}); a range in braces needs no list") from error
    if not found:
        raise InputError(f"{url}: nothing matches the pattern")
    return [_file(each) for each in found]


def _file(path: str) -> Named:
    lower = path.lower().split("?", 1)[0]
    if lower.endswith((".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tar.xz")):
        raise InputError(f"{path}: a compressed tar cannot be read from the middle; unpack it to .tar")
    suffix = os.path.splitext(lower)[1]
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: not a known format; {RIGHT}")
    return Named(format=SUFFIXES[suffix], paths=(path,))


def _folder(path: str) -> Named:
    if os.path.exists(os.path.join(path, "dataset_dict.json")):
        splits = sorted(each for each in os.listdir(path) if os.path.isdir(os.path.join(path, each)))
        raise InputError(f"{path}: holds several splits; name one: {', '.join(os.path.join(path, s) for s in splits)}")
    if os.path.exists(os.path.join(path, "state.json")) and os.path.exists(os.path.join(path, "dataset_info.json")):
        return Named(format="arrow", paths=_saved(path))
    files = sorted(glob.glob(os.path.join(glob.escape(path), "**", "*.*"), recursive=True))
    for suffix, kind in SUFFIXES.items():
        if found := tuple(file for file in files if file.endswith(suffix)):
            return Named(format=kind, paths=found)
    return Named(format="folder", paths=(path,))


def _saved(folder: str) -> tuple[str, ...]:
    """The files of a dataset that Hugging Face saved, in its order."""
    state = os.path.join(folder, "state.json")
    try:
        with open(state, encoding="utf-8") as file:
            return tuple(os.path.join(folder, each["filename"]) for each in json.load(file)["_data_files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{state}: does not list the dataset's files; save it again: {error}") from error


def _one_of_each(found: Sequence[Named]) -> list[Named]:
    return list({each.format: each for each in found}.values())


def _doubled(paths: Sequence[str]) -> set[str]:
    return {path for path, times in Counter(paths).items() if times > 1}
