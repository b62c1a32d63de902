"""`prx-scale encode --json`: sizes, time, and what became of it, for programs."""

from __future__ import annotations

from typing import Any

from prx_scale.data.encoding.estimate import sizes
from prx_scale.data.encoding.job import Job
from prx_scale.data.encoding.measuring import Measured
from prx_scale.data.encoding.running import Done
from prx_scale.data.store.reader import Store


def bill(job: Job, samples: int) -> dict[str, Any]:
    """What is to be encoded, and how large it becomes, in bytes.

    Args:
        job: what is to be done.
        samples: that a filter did not leave out.
    """
    recipe = job.plan.draft
    stored = [
        {
            "what": each.what,
            "each": each.now,
            "all": each.now * samples,
            "fp8": each.fp8 * samples,
            "most": each.at_most,
        }
        for each in sizes(recipe)
    ]
    return {
        "data": job.source.spec,
        "out": str(job.out),
        "part": str(job.part),
        "samples": samples,
        "shards": recipe.shards,
        "shard_size": recipe.shard_size,
        "stored": stored,
    }


def timed(measured: Measured, samples: int, processes: int) -> dict[str, Any]:
    """How long it would take, in seconds and bytes.

    Args:
        measured: of one process.
        samples: that are to be encoded.
        processes: that would do it.
    """
    return {
        "measured": measured.samples,
        "seconds_each": measured.seconds,
        "bytes_each": measured.bytes,
        "seconds": measured.seconds * samples / processes,
        "bytes": measured.bytes * samples,
    }


def result(job: Job, done: Done) -> dict[str, Any]:
    """What became of it; counts where the store is finished.

    Args:
        job: what was to be done.
        done: how it ended.
    """
    found: dict[str, Any] = {"finished": done.finished, "made": done.made, "missing": list(done.left)}
    if done.finished:
        store = Store.open(job.out, check_files=False)
        found |= {"bytes": store.bytes, **{key: store.index[key] for key in ("counts", "captions", "left_out")}}
    return found
