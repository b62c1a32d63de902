"""Whether runs that are about to be launched have data to train on. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prx_scale.choices import weights_of
from prx_scale.config import RunConfig
from prx_scale.data.heldout import validated_numbers
from prx_scale.data.trained import check_any, trained_buckets
from prx_scale.errors import InputError
from prx_scale.stages import alone, sources_of, stores_of
from prx_scale.stores import open_store


def check_launch(runs: Iterable[RunConfig], where: str) -> None:
    """Refuse runs that would end as soon as their job has opened their stores.

    What lies elsewhere is left to the job, and so are images, which a survey looks at first.

    Args:
        runs: that are due, with all filled in.
        where: the study file, for errors.

    Raises:
        InputError: a store is not whole or another one, too few samples are held out, or none are trained on.
    """
    seen: list[Any] = []
    for run in runs:
        if run.data.dataset != "store" or run.on_the_fly or not _here(run):
            continue
        # Sizes and seeds of models change nothing about data.
        asked = (run.data, run.captions, run.validation.images, run.stages)
        if asked in seen:
            continue
        seen.append(asked)
        try:
            _check(run)
        except InputError as error:
            raise InputError(f"{where}: {run.id}: {error}") from error


def _here(run: RunConfig) -> bool:
    named = (path for data in stores_of(run) for path in (data.path, data.filter) if path)
    return all(Path(path).exists() for path in named)


def _check(run: RunConfig) -> None:
    for source, image_sizes in sources_of(run).values():
        own = alone(run, source)
        store = open_store(own, check_files=True)
        weights = weights_of(own.data, store.recipe.data.samples)
        for size in image_sizes:
            check_any(trained_buckets(store, size, own.captions, own.data.heldout, weights), own, size)
    validated_numbers(run, open_store(run).at(run.data.image_size).assigned)
