"""Which shards of a store one of several launches makes: a part of a SLURM array, or what is named by hand."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from prx_scale.errors import InputError

_PART = re.compile(r"(\d+)/(\d+)")


@dataclass(frozen=True, kw_only=True)
class Part:
    """Part `number` of `count`, from 1."""

    number: int = 1
    count: int = 1

    def shards(self, total: int) -> range:
        """Its shards: neighbours, so that it reads neighbouring data.

        Args:
            total: of the store.
        """
        return range((self.number - 1) * total // self.count, self.number * total // self.count)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def part_of(text: str, environment: Mapping[str, str]) -> Part:
    """The part that is asked for, else that of the SLURM array that this is a task of, else all of it.

    Args:
        text: as 3/8; empty where none is asked for.
        environment: variables that SLURM sets.

    Raises:
        InputError: no part, or the tasks of the array do not make up a whole.
    """
    if text:
        match = _PART.fullmatch(text.strip())
        number, count = (int(match[1]), int(match[2])) if match else (0, 0)
        if not 1 <= number <= count:
            raise InputError(f"--part: '{text}' is no part; write its number, from 1, and how many there are: 3/8")
        return Part(number=number, count=count)
    if "SLURM_ARRAY_TASK_ID" not in environment:
        return Part()
    return _of_array(environment)


def _of_array(environment: Mapping[str, str]) -> Part:
    names = ("ID", "MIN", "MAX", "COUNT")
    try:
        task, low, high, count = (int(environment[f"SLURM_ARRAY_TASK_{name}"]) for name in names)
        step = int(environment.get("SLURM_ARRAY_TASK_STEP", "1"))
    except (KeyError, ValueError) as error:
        raise InputError(f"SLURM's array variables cannot be read ({error}); name the part by --part") from error
    if step < 1 or (high - low) // step + 1 != count or (task - low) % step:
        raise InputError(
            f"task {task} of an array of {count} tasks from {low} to {high}: not all of them run, so the parts would "
            "not make up a whole; name the part by --part, as --part 3/8"
        )
    return Part(number=(task - low) // step + 1, count=count)
