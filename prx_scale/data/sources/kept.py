"""What is open or in memory in one process: the latest few, never handed to another process."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Kept(Generic[K, V]):
    """Values that are made when they are asked for; the longest unused give way.

    After a fork or in a pickle it is empty, so that no process uses handles of another.

    Args:
        most: how many, or how much if `weigh` is given.
        weigh: weight of a value; by default 1.
        drop: called with a value that gives way.
    """

    def __init__(
        self, most: int, weigh: Callable[[V], int] | None = None, drop: Callable[[V], object] | None = None
    ) -> None:
        self._most, self._weigh, self._drop = most, weigh, drop
        self._process = os.getpid()
        self._values: OrderedDict[K, V] = OrderedDict()
        self._weight = 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_values": OrderedDict(), "_weight": 0}

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value of a key.

        Args:
            key: names it.
            make: makes it where it is not there; what this raises is raised.
        """
        if self._process != os.getpid():
            # What was inherited stays referred to: its finalisers would close or delete what the parent still uses.
            self._inherited = self._values
            self._process, self._values, self._weight = os.getpid(), OrderedDict(), 0
        if key not in self._values:
            value = make()
            self._weight += self._weight_of(value)
            self._values[key] = value
            while self._weight > self._most and len(self._values) > 1:
                self.forget(next(iter(self._values)))
        self._values.move_to_end(key)
        return self._values[key]

    def forget(self, key: K) -> None:
        """Let a value go, if it is there."""
        if key not in self._values:
            return
        value = self._values.pop(key)
        self._weight -= self._weight_of(value)
        if self._drop is not None:
            self._drop(value)

    def __contains__(self, key: K) -> bool:
        return self._process == os.getpid() and key in self._values

    def _weight_of(self, value: V) -> int:
        return 1 if self._weigh is None else self._weigh(value)
