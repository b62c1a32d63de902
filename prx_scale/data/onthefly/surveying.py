"""The survey of a run's images, made once, and which of them are trained on. Needs no torch."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prx_scale.config import RunConfig
from prx_scale.data.encoding.fromrun import Planned
from prx_scale.data.encoding.reading import Numbered
from prx_scale.data.heldout import training_buckets
from prx_scale.data.onthefly.schedule import Buckets
from prx_scale.data.onthefly.survey import Crew, Lookup, Survey, cached_survey, kept_survey
from prx_scale.data.sources.state import state_of
from prx_scale.data.sources.tarindex import cache_folder
from prx_scale.data.trained import with_weights
from prx_scale.data.workers import cores
from prx_scale.locks import NoLongerWanted
from prx_scale.stopping import listening

logger = logging.getLogger(__name__)

SURVEYS = "surveys"
"""Folder of a study, and of the user's cache."""
_VERSION = 1
"""Raised when the same images come to have other sizes or captions."""
_SECONDS_BETWEEN_LINES = 10.0
_WORTH_A_PROCESS = 10_000
"""Samples whose heads are read in the time that a process takes to start."""


def surveyed(run: RunConfig, planned: Planned, study: Path, unwanted: Callable[[], bool] = lambda: False) -> Survey:
    """Sizes and captions of images: looked up once for a study, by whichever process is the first.

    Args:
        run: on images.
        planned: images of it.
        study: folder of the study.
        unwanted: whether to stop.

    Raises:
        NoLongerWanted: it was asked to stop.
    """
    return kept_survey(
        study / SURVEYS / f"{planned.looked_up}-{_place(planned)}.npz",
        _lookup(run, planned, unwanted),
        unwanted=unwanted,
        cached=partial(_cached_file, planned),
    )


def surveyed_at_reading(run: RunConfig, planned: Planned) -> Survey:
    """The same while a study is read: kept in the user's cache, where `surveyed` finds it.

    Args:
        run: that trains on these images alone.
        planned: its images.

    Raises:
        KeyboardInterrupt: a signal has asked to stop.
    """
    with listening() as request:

        def unwanted() -> bool:
            return request.number != 0

        try:
            return cached_survey(_cached_file(planned), _lookup(run, planned, unwanted), unwanted)
        except NoLongerWanted as error:
            raise KeyboardInterrupt from error


def _cached_file(planned: Planned) -> Path:
    """Named by the state of the files too: many data have shards that are called and counted alike."""
    told = f"{_VERSION}\n{planned.looked_up}\n{state_of(planned.plan.draft.data.spec)}"
    return cache_folder() / SURVEYS / f"{hashlib.sha256(told.encode()).hexdigest()[:32]}.npz"


def _place(planned: Planned) -> str:
    """A word for where images are: others may be called and counted alike."""
    return hashlib.sha256(planned.plan.draft.data.spec.encode()).hexdigest()[:8]


def _lookup(run: RunConfig, planned: Planned, unwanted: Callable[[], bool]) -> Lookup:
    return Lookup(
        data=Numbered(planned.source),
        preparer=planned.plan.preparer,
        decode=run.encoding.survey == "images",
        crew=_crew(run, planned),
        step=_Progress(planned, unwanted),
    )


def _crew(run: RunConfig, planned: Planned) -> Crew:
    """All cores, for whoever trains waits for it; processes only where there is enough for each to do."""
    threads = run.encoding.threads or cores()
    return Crew(workers=max(1, min(threads, planned.plan.draft.data.samples // _WORTH_A_PROCESS)), threads=threads)


class _Progress:
    """Says now and then how far a survey is."""

    def __init__(self, planned: Planned, unwanted: Callable[[], bool]) -> None:
        self._data, self._unwanted = planned.plan.draft.data, unwanted
        self._done, self._said = 0, 0.0

    def __call__(self, done: int) -> None:
        path, samples = self._data.spec, self._data.samples
        if self._unwanted():
            raise NoLongerWanted(f"{path}: asked to stop while sizes and captions were looked up")
        self._done += done
        if time.monotonic() - self._said > _SECONDS_BETWEEN_LINES or self._done == samples:
            self._said = time.monotonic()
            logger.warning(f"{path}: sizes and captions of {self._done:,} of {samples:,} images looked up")


def assigned_buckets(planned: Planned, looked: Survey, image_size: int) -> Buckets:
    """(N,) bucket of each image, -1 where it is not encoded.

    Args:
        planned: the images.
        looked: what was found out of them.
        image_size: of the buckets.
    """
    draft = planned.plan.draft
    resolution = next(each for each in draft.resolutions if each.image_size == image_size)
    assigned = looked.assigned(resolution, draft.preprocessing)
    return assigned if planned.filter is None else np.where(planned.filter.keep, assigned, np.int16(-1))


def trained_images(
    run: RunConfig, planned: Planned, looked: Survey, image_size: int, weights: NDArray[np.float32] | None
) -> Buckets:
    """(N,) bucket of each image, -1 where it is not trained on; `trained_buckets` is the same of a store.

    Args:
        run: that trains on these images alone.
        planned: the images.
        looked: what was found out of them.
        image_size: at which they are trained on.
        weights: (N,) of `[data] filter`, 0 for what it removed; None where there is none.
    """
    assigned = assigned_buckets(planned, looked, image_size)
    if run.captions.missing == "skip":
        assigned = looked.with_captions(assigned, run.captions.kinds)
    return training_buckets(with_weights(assigned, weights), run.data.heldout)
