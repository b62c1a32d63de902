"""The result of a filter as files: the table of all samples, what later steps map into memory, and the manifest."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prx_scale.data.filters.base import Scorer
from prx_scale.data.filters.cuts import DUPLICATE, Cut
from prx_scale.data.filters.manifest import INFO, KEEP, SCHEMA, TABLE, WEIGHT
from prx_scale.data.filters.scoretable import Scores, write_frame
from prx_scale.data.filters.verdict import KEPT, CutCount, Rules, Verdict
from prx_scale.data.filters.weights import Boost, Weight
from prx_scale.data.sources.base import Source
from prx_scale.runs.files import write_atomically


@dataclass(frozen=True, kw_only=True)
class Result:
    """A verdict, with all that it was made of and by."""

    source: Source
    scorers: Sequence[Scorer]
    scores: Scores
    rules: Rules
    verdict: Verdict
    provenance: Mapping[str, Any]


def write_result(result: Result, folder: Path) -> dict[str, Any]:
    """Write the result of a filter; the manifest last, so a folder that has one is whole.

    Args:
        result: what to write.
        folder: has the scores already.

    Returns:
        What is in the manifest.
    """
    (folder / INFO).unlink(missing_ok=True)
    _write_array(folder / KEEP, result.verdict.keep)
    _write_array(folder / WEIGHT, result.verdict.weight)
    _write_table(result, folder)
    info = describe(result)
    write_atomically(folder / INFO, json.dumps(info, indent=1, allow_nan=False) + "\n")
    return info


def describe(result: Result) -> dict[str, Any]:
    """The content of a manifest.

    Args:
        result: of a filter.
    """
    source, verdict, rules = result.source, result.verdict, result.rules
    fingerprint = source.fingerprint()
    copies = verdict.copies
    return {
        "schema": SCHEMA,
        "identity": _identity(fingerprint, verdict),
        "source": {"spec": source.spec, "fingerprint": fingerprint},
        "counts": {
            "samples": len(verdict.keep),
            "skipped": int(verdict.skipped.sum()),
            "removed": int((verdict.reason != KEPT).sum()),
            "kept": int(verdict.keep.sum()),
            "effective": round(verdict.effective, 1),
            "skipped_by_reason": skipped_by_reason(result.scores),
        },
        "cuts": [_cut(each) for each in verdict.counts],
        "overlaps": verdict.overlaps,
        "duplicates": None if copies is None else {"distance": rules.distance, "found": int((copies >= 0).sum())},
        "weights": [_weight(*each) for each in zip(rules.weights, verdict.boosts, strict=True)],
        "scorers": [
            {"name": each.name, "columns": list(each.columns), "hash": each.hash, "identity": each.identity}
            for each in result.scorers
        ],
        "shards": list(zip(result.scores.shards, result.scores.counts, strict=True)),
        "provenance": dict(result.provenance),
    }


def skipped_by_reason(scores: Scores) -> dict[str, int]:
    """How many samples could not be used, by why, most first.

    Args:
        scores: of all samples.
    """
    counts = scores.column("skipped").drop_nulls().value_counts(sort=True, name="times")
    return dict(counts.iter_rows())


def _identity(fingerprint: str, verdict: Verdict) -> str:
    digest = hashlib.sha256(fingerprint.encode())
    digest.update(np.packbits(verdict.keep).tobytes())
    digest.update(verdict.weight.astype("<f4").tobytes())
    return digest.hexdigest()[:16]


def _condition(cut: Cut, number: float) -> dict[str, Any]:
    return {
        "column": cut.column,
        "sign": cut.sign,
        "threshold": None if math.isnan(number) else number,
        "quantile": cut.quantile,
        "or_none": cut.or_none,
    }


def _cut(each: CutCount) -> dict[str, Any]:
    counts = {"alone": each.alone, "first": each.first, "only": each.only, "missing": each.missing}
    return {"text": each.cut.text, **_condition(each.cut, each.number), **counts}


def _weight(weight: Weight, number: float) -> dict[str, Any]:
    if isinstance(weight, Boost):
        return {"text": weight.text, "factor": weight.factor, **_condition(weight.cut, number)}
    return {"text": weight.text, "column": weight.column, "power": weight.power}


def _write_array(path: Path, array: NDArray[Any]) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with partial.open("wb") as file:
        np.save(file, array, allow_pickle=False)
    os.replace(partial, path)


def _write_table(result: Result, folder: Path) -> None:
    """A million rows a file, in the order of the samples."""
    for left in folder.glob(f".{TABLE}.*"):  # by one that was killed: whoever writes a result is alone
        shutil.rmtree(left, ignore_errors=True)
    partial = folder / f".{TABLE}.{os.getpid()}"
    partial.mkdir()
    kept_keys = _kept_keys(result)
    for shards, first, frame in result.scores.frames():
        write_frame(partial / f"{shards.start:06d}.parquet", _judged(frame, first, result, kept_keys))
    shutil.rmtree(folder / TABLE, ignore_errors=True)
    os.replace(partial, folder / TABLE)


def _judged(frame: pl.DataFrame, first: int, result: Result, keys: Mapping[int, str]) -> pl.DataFrame:
    verdict, inside = result.verdict, slice(first, first + len(frame))
    texts = pl.Series([*(cut.text for cut in result.rules.cuts), None], dtype=pl.String)
    reason = texts.gather(pl.Series(verdict.reason[inside].astype(np.int64) % len(texts)))
    skipped = "skipped: " + frame["skipped"]
    if verdict.copies is not None:
        copies = [keys.get(each) for each in verdict.copies[inside].tolist()]
        frame = frame.with_columns(pl.Series(DUPLICATE, copies, dtype=pl.String))
    return frame.with_columns(
        keep=pl.Series(verdict.keep[inside]),
        reason=pl.select(pl.coalesce(skipped, reason)).to_series(),
        weight=pl.Series(verdict.weight[inside]),
    )


def _kept_keys(result: Result) -> dict[int, str]:
    """Keys of the samples whose copies are not kept, by number."""
    copies = result.verdict.copies
    if copies is None:
        return {}
    wanted = np.unique(copies[copies >= 0])
    found: dict[int, str] = {}
    for _, first, frame in result.scores.frames(["key"]):
        low, high = np.searchsorted(wanted, [first, first + len(frame)])
        numbers = wanted[low:high]
        found.update(zip(numbers.tolist(), frame["key"].gather(numbers - first), strict=True))
    return found
