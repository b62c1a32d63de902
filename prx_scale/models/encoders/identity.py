"""What the output of a frozen encoder depends on, as one hash. Needs no torch.

Stores of latents and text states keep it beside them, and what was made otherwise is refused. It is made of the content
of the weights, the configuration and the tokenizer, never of their place, and of the settings of preprocessing.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from prx_scale.errors import InputError
from prx_scale.models.encoders.declared import CONFIG, read_config
from prx_scale.models.encoders.locating import Located
from prx_scale.models.encoders.weightfiles import weight_files

IMAGE_RECIPE = 1
"""Part of every image encoder's identity: raised when the same settings come to mean other latents."""
TEXT_RECIPE = 1
"""Part of every text encoder's identity: raised when the same settings come to mean other states."""

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "tokenizer.model",
)
_BOOKKEEPING = ("_name_or_path", "transformers_version", "_diffusers_version", "dtype", "torch_dtype")
"""Keys of config.json that change with who saved it."""
_SETTLED = 2.0
"""Seconds: a file that changed less than this ago may change again without its time showing it."""


@dataclass(frozen=True, kw_only=True)
class EncoderIdentity:
    """What an encoder's output depends on."""

    name: str
    kind: str
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    """SHA-256 of each file's content, by its part and name: model/model.safetensors."""
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Of preprocessing: token length, padding, template, cleaning, number type."""

    @property
    def hash(self) -> str:
        """SHA-256 of all of it but the name."""
        return _digest({"kind": self.kind, "files": dict(self.files), "settings": dict(self.settings)})

    def to_json(self) -> dict[str, Any]:
        """As it lies beside a store."""
        content = {"name": self.name, "kind": self.kind, "files": dict(self.files), "settings": dict(self.settings)}
        return {**content, "hash": self.hash}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], where: str) -> EncoderIdentity:
        """The inverse of `to_json`.

        Args:
            content: as it was read.
            where: file and key, for errors.

        Raises:
            InputError: it is damaged: something is missing, or its hash is another.
        """
        try:
            found = cls(**{key: content[key] for key in ("name", "kind", "files", "settings")})
            right = found.hash == content["hash"]
        except (KeyError, TypeError) as error:
            raise InputError(f"{where}: not the identity of an encoder ({error})") from error
        if not right:
            raise InputError(f"{where}: damaged: its hash is not that of its content")
        return found


def check_same(stored: EncoderIdentity, ours: EncoderIdentity, where: str) -> None:
    """Whether what is stored was made as we would make it.

    Args:
        stored: of the store.
        ours: of the encoder that is asked for.
        where: the store, for errors.

    Raises:
        InputError: names the first thing that differs.
    """
    if stored.hash == ours.hash:
        return
    made = f"{where}: made by '{stored.name}'"
    if stored.kind != ours.kind:
        raise InputError(f"{made}, an encoder of kind {stored.kind}, not {ours.kind} ('{ours.name}'); encode again")
    for what, theirs, mine in (("setting", stored.settings, ours.settings), ("file", stored.files, ours.files)):
        for key in sorted({*theirs, *mine}):
            if theirs.get(key) != mine.get(key):
                raise InputError(
                    f"{made} with {what} {key} {_shown(theirs.get(key))}, not {_shown(mine.get(key))}; "
                    "encode again, or name the encoder that made it"
                )


def content_of(located: Located, cache: Path | None = None) -> dict[str, str]:
    """Hashes of an encoder's files.

    Args:
        located: its folders.
        cache: folder of known hashes; None is the user's.

    Raises:
        InputError: there are no weights, or a file cannot be read.
    """
    cache = default_cache() if cache is None else cache
    config = {key: value for key, value in read_config(located.model).items()}
    found = {f"model/{CONFIG}": _digest(_without_bookkeeping(config))}
    found |= {f"model/{file.name}": hash_file(file, cache) for file in weight_files(located.model)}
    if located.tokenizer:
        files = (located.tokenizer / name for name in _TOKENIZER_FILES)
        found |= {f"tokenizer/{file.name}": hash_file(file, cache) for file in files if file.is_file()}
    return found


def hash_file(file: Path, cache: Path | None = None) -> str:
    """SHA-256 of a file, read in pieces, and not again while its path, size and time stay the same.

    Args:
        file: to read.
        cache: folder of known hashes; None keeps none.

    Raises:
        InputError: it cannot be read.
    """
    try:
        state = file.resolve().stat()
        entry = cache and cache / _digest([str(file.resolve()), state.st_size, state.st_mtime_ns])
        if entry and (known := _known(entry)):
            return known
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from error
    if entry and time.time() - state.st_mtime > _SETTLED:
        _remember(entry, found)
    return found


def default_cache() -> Path:
    """The user's folder of known hashes."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "prx-scale" / "hashes"


def _known(entry: Path) -> str:
    try:
        return entry.read_text("ascii").strip()
    except (OSError, ValueError):
        return ""


def _remember(entry: Path, found: str) -> None:
    draft = entry.with_name(f"{entry.name}.{os.getpid()}")
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(found, "ascii")
        draft.replace(entry)
    except OSError:
        # A home that cannot be written costs the time of hashing again, nothing else.
        return


def _without_bookkeeping(value: object) -> object:
    if isinstance(value, dict):
        items = cast("dict[str, object]", value).items()
        return {key: _without_bookkeeping(each) for key, each in items if key not in _BOOKKEEPING}
    return value


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _shown(value: object) -> str:
    if value is None:
        return "none"
    text = str(value)
    return repr(text if len(text) <= 40 else text[:12] + "...")
