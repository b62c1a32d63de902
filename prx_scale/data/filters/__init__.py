"""Scores of every sample, cuts through them, and weights: nothing is deleted, later steps read the verdict.

:mod:`plain` (with :mod:`phash`), :mod:`clip` (with :mod:`clipframe` and :mod:`aesthetic`) and :mod:`custom` score
samples; :mod:`looking` decodes for them, :mod:`scoring` runs them over a source, shard by shard, and
:mod:`scoretable` reads what they found. :mod:`cuts`, :mod:`duplicates` and :mod:`weights` decide, :mod:`verdict` puts
it together, :mod:`writing` writes it, and :mod:`manifest` is how it is read: :class:`Manifest` says of every shard and
place whether it is kept, and its weight. :mod:`summary`, :mod:`spreads` and :mod:`examples` make what the page shows.
"""

from __future__ import annotations

from prx_scale.data.filters.manifest import Manifest

__all__ = ["Manifest"]
