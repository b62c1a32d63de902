"""Where captioned images come from: WebDataset tars, Parquet, datasets that Hugging Face saved, folders of images.

:func:`open_source` finds out which it is (:mod:`specs`) and gives a :class:`~prx_scale.data.sources.base.Source`;
:mod:`fields` says which field of a record is what, :mod:`records` makes samples of records. :mod:`tars` reads what
:mod:`tarindex` found by the rules of :mod:`tarfiles`, :mod:`parquet` row groups, :mod:`arrow` memory-mapped record
batches, :mod:`folders` files; :mod:`files` reads bytes, local or remote; :mod:`state` tells whether files have changed.
"""

from __future__ import annotations

from prx_scale.data.sources.base import Item, Source
from prx_scale.data.sources.fields import Fields, parse_pairs
from prx_scale.data.sources.opening import open_source

__all__ = ["Fields", "Item", "Source", "open_source", "parse_pairs"]
