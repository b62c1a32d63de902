"""What was left out: counted by reason and shard, listed in a file, and bounded."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from prx_scale.data.samples import Skipped
from prx_scale.errors import InputError

_NAMED = 3
_SHARDS = 10_000
_LISTED = 1_000_000


class SkipLog:
    """Counts samples that were left out and ends the work when they are too many.

    Args:
        max_skipped: share of all samples seen that may be left out.
        minimum: samples to see before the share counts.
        path: JSON-lines file that each one is added to, with key, shard, reason and detail; once, also where it comes
            again in a later epoch, or in work that goes on after a stop. At most a million are listed.
        source: name of the data, for messages.
    """

    def __init__(
        self, *, max_skipped: float = 0.05, minimum: int = 1000, path: Path | None = None, source: str = "data"
    ) -> None:
        self.max_skipped, self.minimum, self.path, self.source = max_skipped, minimum, path, source
        self.seen = 0
        self.reasons: Counter[str] = Counter()
        """Left out, by reason."""
        self.shards: Counter[str] = Counter()
        """Left out, by shard; of very many shards those with the most."""
        self._listed = set[int]() if path is None else _listed(path)
        self._file = None if path is None else path.open("a", encoding="utf-8", buffering=1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def skipped(self) -> int:
        """How many were left out."""
        return self.reasons.total()

    @property
    def share(self) -> float:
        """Left out, of all that were seen."""
        return self.skipped / max(self.seen, 1)

    def add(self, seen: int, skipped: Iterable[Skipped] = ()) -> None:
        """Count samples.

        Args:
            seen: how many were looked at, with those left out.
            skipped: those left out.

        Raises:
            InputError: the share of those left out has passed the bound.
        """
        self.seen += seen
        for each in skipped:
            self.reasons[str(each.reason)] += 1
            self.shards[each.shard] += 1
            self._list(each)
        if len(self.shards) > 2 * _SHARDS:
            self.shards = Counter(dict(self.shards.most_common(_SHARDS)))
        if self.seen >= self.minimum and self.share > self.max_skipped:
            raise InputError(self._too_many())

    def summary(self) -> str:
        """One line: how many, and why."""
        if not self.skipped:
            return f"{self.source}: none of {self.seen:,} samples left out"
        why = ", ".join(f"{count:,} {reason}" for reason, count in self.reasons.most_common())
        return f"{self.source}: {self.skipped:,} of {self.seen:,} samples left out: {why}"

    def close(self) -> None:
        """Close the list."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _list(self, each: Skipped) -> None:
        if self._file is None or len(self._listed) >= _LISTED or (name := _name(asdict(each))) in self._listed:
            return
        self._listed.add(name)
        self._file.write(json.dumps(asdict(each)) + "\n")

    def _too_many(self) -> str:
        worst = ", ".join(f"{shard} ({count:,})" for shard, count in self.shards.most_common(_NAMED))
        listed = f"; all are listed in {self.path}" if self.path else ""
        return (
            f"{self.summary()}; that is {self.share:.1%}, and at most {self.max_skipped:.1%} may be "
            f"(max_skipped); most of them in {worst}{listed}"
        )


def _listed(path: Path) -> set[int]:
    """What a list has; a last line that was cut short is taken away."""
    if not path.exists():
        return set()
    whole = path.read_bytes()
    if cut := whole[whole.rfind(b"\n") + 1 :]:
        os.truncate(path, len(whole) - len(cut))
    found = set[int]()
    for line in whole.split(b"\n")[:-1]:
        with suppress(ValueError, KeyError, TypeError):  # a line that cannot be read only lists its sample again
            found.add(_name(json.loads(line)))
    return found


def _name(row: Mapping[str, object]) -> int:
    """A number for a sample; of a million samples two share one with a probability of 3e-8."""
    return hash((row["shard"], row["key"], str(row["reason"])))
