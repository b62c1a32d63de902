"""The source that a dataset's name stands for."""

from __future__ import annotations

import os
from collections.abc import Sequence

from prx_scale.data.samples import RawSample, Skip, Skipped
from prx_scale.data.sources.arrow import ArrowSource
from prx_scale.data.sources.base import Item, Source
from prx_scale.data.sources.fields import Fields
from prx_scale.data.sources.files import is_url
from prx_scale.data.sources.folders import FolderSource
from prx_scale.data.sources.parquet import ParquetSource
from prx_scale.data.sources.specs import Named, resolve, shard_names
from prx_scale.data.sources.tars import TarSource
from prx_scale.errors import InputError, nearest

_TRIED = 32


def open_source(spec: str | Sequence[str], fields: Fields | None = None) -> Source:
    """Open captioned images.

    Args:
        spec: .tar or .parquet files (a path, URL, pattern, range in braces, or several), or a folder: of such files,
            of images, or one that Hugging Face datasets saved.
        fields: which field is what; by default by the usual names.

    Raises:
        InputError: nothing is there, the format is not known, or none of the first samples can be read as asked.
    """
    fields = fields or Fields()
    named = resolve(spec)
    text = spec if isinstance(spec, str) else ", ".join(spec)
    missing = [path for path in named.paths if not is_url(path) and not os.path.exists(path)]
    if missing:
        raise InputError(f"{missing[0]}: no such file ({len(missing)} of {len(named.paths)} are missing)")
    source = _opened(named, text, fields)
    _try(source, fields)
    return source


def _opened(named: Named, spec: str, fields: Fields) -> Source:
    if named.format == "folder":
        return FolderSource(spec=spec, paths=named.paths, fields=fields)
    kind = {"tar": TarSource, "parquet": ParquetSource, "arrow": ArrowSource}[named.format]
    return kind(spec=spec, paths=named.paths, names=shard_names(named.paths), fields=fields)


def _try(source: Source, fields: Fields) -> None:
    """Refuse what cannot be meant: no sample at all, or fields that the first samples do not have."""
    first = next((shard for shard in range(len(source.shards)) if source.count(shard)), None)
    if first is None:
        raise InputError(f"{source.spec}: holds no samples")
    items = list(source.samples(first, stop=_TRIED))
    if not any(isinstance(item, RawSample) for item in items):
        _refuse(source, items)
    missing = {kind: name for kind, name in fields.captions.items() if not _has(items, "captions", kind)}
    missing |= {kind: name for kind, name in fields.scores.items() if not _has(items, "scores", kind)}
    if missing:
        kind, name = next(iter(missing.items()))
        known = source.names()
        hint = f"; {nearest(name, known)}" if known else ""
        raise InputError(f"{source.spec}: none of the first {len(items)} samples has '{name}' (for '{kind}'){hint}")


def _has(items: Sequence[Item], what: str, kind: str) -> bool:
    return any(isinstance(item, RawSample) and kind in getattr(item, what) for item in items)


def _refuse(source: Source, items: Sequence[Item]) -> None:
    skipped = [item for item in items if isinstance(item, Skipped)]
    worst = skipped[0]
    right = {
        Skip.NO_IMAGE: "name the image's field (Fields.image)",
        Skip.NO_CAPTION: "name the fields of captions (Fields.captions), or need none (Fields.need_caption)",
    }.get(worst.reason, "is it what it is named as?")
    raise InputError(
        f"{source.spec}: none of the first {len(items)} samples can be used; {worst.key}: {worst.reason} "
        f"({worst.detail}); {right}"
    )
