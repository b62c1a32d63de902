"""Encoded images and captions on disk: written shard by shard, read by the number of a sample.

:mod:`recipe` says what the content of a store depends on, :mod:`bytesizes` how large it becomes, and :mod:`layout` what
its files are called. :mod:`shards` makes a shard, which :mod:`writing` writes and :mod:`tensorfile` reads;
:mod:`records` says that it is there, and :mod:`finishing` begins a store and finishes it, where no :mod:`differences`
of recipes forbid. :mod:`reader` gives a :mod:`batch`, and :mod:`check` refuses a store that a run does not take.
:mod:`storage` has the number types, and :mod:`packing` takes them to torch and back, the only part that needs it.
"""

from __future__ import annotations

from prx_scale.data.store.check import Expected
from prx_scale.data.store.reader import Store, StoreView

__all__ = ["Expected", "Store", "StoreView"]
