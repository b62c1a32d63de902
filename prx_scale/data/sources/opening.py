"""The source that a dataset's name stands for."""

from __future__ import annotations

import os
from collections.abc import Sequence

from prx_scale.data.sources.arrow import ArrowSource
from prx_scale.data.sources.base import Source
from prx_scale.data.sources.fields import Fields
from prx_scale.data.sources.files import is_url
from prx_scale.data.sources.folders import FolderSource
from prx_scale.data.sources.parquet import ParquetSource
from prx_scale.data.sources.specs import Named, resolve, shard_names
from prx_scale.data.sources.tars import TarSource
from prx_scale.data.sources.trying import check_classes, try_first
from prx_scale.errors import InputError


def open_source(spec: str | Sequence[str], fields: Fields | None = None, *, classes: bool = False) -> Source:
    """Open captioned images.

    Args:
        spec: .tar or .parquet files (a path, URL, pattern, range in braces, or several), or a folder: of such files,
            of images, or one that Hugging Face datasets saved.
        fields: which field is what; by default by the usual names.
        classes: are all that captions are made of, so one of the first samples must have one.

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
    try_first(source, fields)
    if classes:
        check_classes(source)
    return source


def _opened(named: Named, spec: str, fields: Fields) -> Source:
    if named.format == "folder":
        return FolderSource(spec=spec, paths=named.paths, fields=fields)
    kind = {"tar": TarSource, "parquet": ParquetSource, "arrow": ArrowSource}[named.format]
    return kind(spec=spec, paths=named.paths, names=shard_names(named.paths), fields=fields)
