"""Scores of every sample, shard by shard: each shard's are a file of its own, so work goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import Any

import polars as pl

from prx_scale.data.filters.base import Scorer, Value
from prx_scale.data.filters.looking import Looker, Row, Task, looked
from prx_scale.data.filters.scoretable import FIXED, Scored, lacking, part_path, read_part, scored_by, typed, write_part
from prx_scale.data.sources import Fields, Source
from prx_scale.errors import InputError
from prx_scale.runs.files import write_atomically

SOURCE = "source.json"
AT_ONCE = 64
"""Samples of a task, and of a batch of a model."""

Show = Callable[[int, int], None]
"""Told how many more samples are done, and how many of them were scored now."""


def score(
    source: Source,
    scorers: Sequence[Scorer],
    folder: Path,
    *,
    fields: Fields | None = None,
    part: tuple[int, int] = (0, 1),
    workers: int = 1,
    show: Show = lambda done, scored: None,
) -> None:
    """Score what is not scored yet.

    Args:
        source: of samples.
        scorers: what to score by. A shard that some of them have scored is only given to the others.
        folder: one Parquet file a shard, each replaced as a whole.
        fields: that the source was opened with.
        part: number of a part of the shards, and how many parts there are; several machines may do one each.
        workers: processes that read and decode.
        show: is told of progress.

    Raises:
        InputError: the folder has scores of other data, two scorers give a score of one name, or one fails.
    """
    check_names(scorers)
    _check_source(source, fields or Fields(), folder)
    looker = Looker(source=source, preparers={scorer.name: scorer.prepare for scorer in scorers})
    tasks = _tasks(source, scorers, folder, part, show)
    with closing(looked(looker, tasks, workers)) as answered:
        for shard, answers in groupby(answered, key=lambda answer: answer[0].shard):
            _score_shard(shard, answers, scorers, folder, source.count(shard), show)


def check_names(scorers: Sequence[Scorer]) -> None:
    """Refuse scorers that give scores of the same name.

    Args:
        scorers: all of them.

    Raises:
        InputError: names the score.
    """
    owners: dict[str, str] = dict.fromkeys((*FIXED, "shard", "keep", "reason", "weight", "duplicate_of"), "the table")
    for scorer in scorers:
        for column in scorer.columns:
            if column in owners:
                both = f"{owners[column]} and of {scorer.name}"
                raise InputError(f"two scores are named '{column}', of {both}; rename one")
            owners[column] = scorer.name


def _check_source(source: Source, fields: Fields, folder: Path) -> None:
    """Refuse a folder whose rows are of other samples, or of the same under other names or with others left out."""
    file = folder / SOURCE
    now = {"fingerprint": source.fingerprint(), "key": fields.key, "need_caption": fields.need_caption}
    if file.exists():
        try:
            known = dict(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{file}: damaged ({error}); remove {folder} or name another --out") from error
        differing = next((name for name, value in now.items() if known.get(name) != value), None)
        if differing is not None:
            what = "other data" if differing == "fingerprint" else f"data that were opened with another {differing}"
            raise InputError(
                f"{folder.parent}: has scores of {what}, {known.get('spec')}; name another --out for {source.spec}"
            )
        return
    write_atomically(file, json.dumps({"spec": source.spec, **now}))


def _tasks(
    source: Source, scorers: Sequence[Scorer], folder: Path, part: tuple[int, int], show: Show
) -> Iterator[Task]:
    wanted, (number, parts) = {scorer.name: scorer.hash for scorer in scorers}, part
    for shard in range(number, len(source.shards), parts):
        count = source.count(shard)
        missing = tuple(lacking(part_path(folder, shard), count, wanted))
        if not missing:
            show(count, 0)
            continue
        for start in range(0, count, AT_ONCE):
            yield Task(shard=shard, start=start, stop=min(start + AT_ONCE, count), scorers=missing)


def _score_shard(
    shard: int,
    answers: Iterator[tuple[Task, list[Row]]],
    scorers: Sequence[Scorer],
    folder: Path,
    count: int,
    show: Show,
) -> None:
    named = {scorer.name: scorer for scorer in scorers}
    asked: list[Scorer] = []
    frames: list[pl.DataFrame] = []
    for task, rows in answers:
        asked = [named[name] for name in task.scorers]
        frames.append(_frame(task.start, rows, asked))
        show(len(rows), len(rows))
    frame = pl.concat(frames)
    if len(frame) != count:
        raise InputError(f"shard {shard}: gave {len(frame)} samples for {count}; its index is of another file")
    path = part_path(folder, shard)
    scored = {scorer.name: Scored(hash=scorer.hash, columns=tuple(scorer.columns)) for scorer in asked}
    if before := scored_by(path, count):
        # Whoever gave a score of the same name before has lost it.
        scored = {name: each for name, each in before.items() if not set(each.columns) & set(frame.columns)} | scored
        frame = _joined(read_part(path), frame)
    write_part(path, frame, scored)


def _frame(start: int, rows: Sequence[Row], scorers: Sequence[Scorer]) -> pl.DataFrame:
    """The scores of one task."""
    sound = [number for number, row in enumerate(rows) if row.skipped is None]
    columns: dict[str, list[Value]] = {
        "key": [row.key for row in rows],
        "place": list(range(start, start + len(rows))),
        "skipped": [None if row.skipped is None else str(row.skipped.reason) for row in rows],
        "detail": [None if row.skipped is None else row.skipped.detail for row in rows],
    }
    types: dict[str, Any] = dict(FIXED)
    for place, scorer in enumerate(scorers):
        found: Mapping[str, Sequence[Value]] = scorer.score([rows[at].prepared[place] for at in sound]) if sound else {}
        for name, kind in scorer.columns.items():
            values: list[Value] = [None] * len(rows)
            for at, value in zip(sound, found.get(name, ()), strict=True):
                values[at] = value
            columns[name], types[name] = values, typed(kind)
    return pl.DataFrame(columns, schema=types)


def _joined(before: pl.DataFrame, now: pl.DataFrame) -> pl.DataFrame:
    """Scores of two times; a sample that either skipped has none."""
    fixed = before.select(
        "key", "place", *(pl.coalesce(now[name], before[name]).alias(name) for name in ("skipped", "detail"))
    )
    scores = {name: frame[name] for frame in (before, now) for name in frame.columns if name not in FIXED}
    sound = fixed["skipped"].is_null()
    return fixed.with_columns(pl.when(sound).then(values).alias(name) for name, values in scores.items())
