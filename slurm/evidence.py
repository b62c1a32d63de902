"""What the end of a log says, without the noise: exceptions with the frame of our code, other telling lines. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from slurm.causes import RANK, Cause, cause_of_error, cause_of_line

LONGEST = 400
"""Characters of a line that is shown."""

_START = "=== job "
"""What a job's process writes first at every start."""
_PROGRESS = re.compile(r"\bstep\b:? *\d+.*\bloss\b")
"""Whatever was complained of before training went on did not end it."""
_PREFIX = re.compile(r"^\[rank\d+\]: ?")
_TRACEBACK = re.compile(r"Traceback \(most recent call last\)")
_FRAME = re.compile(r'^  File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>.+)$')
_ERROR = re.compile(r"^[A-Za-z_][\w.]*(: |$)")
_NOISE = re.compile(
    r"^(submitit |srun: |slurmstepd|prx-scale: exit code |frame #\d+|Exception raised from|terminate called|$)"
    r"|Bypassing signal|destroy_process_group\(\) was not called"
)
_TASK_ENDED = re.compile(r"^srun: error: \S+: tasks? [\d,-]+: (?!Exited|Terminated)")
_CHAINED = (
    "During handling of the above exception",
    "The above exception was the direct cause",
)
_STAMP = re.compile(r"\b(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)[,.](\d{3})\b")
_OURS = re.compile(r"/(?:prx_scale|parallel|scaling|slurm|reports)/[^/]")
_THEIRS = re.compile(r"/(?:site|dist)-packages/(?!(?:prx_scale|parallel|scaling|slurm|reports)/)|/lib/python\d|^[^/]")


@dataclass(frozen=True, kw_only=True)
class Sign:
    """Something in a log that says why a run failed."""

    cause: Cause
    said: tuple[str, ...]
    frame: str = ""
    """Of an exception: file, line, function and source, of our code where it was there."""
    ours: bool = False
    """Whether the frame is of code that is ours or the user's."""
    time: str = ""
    """When, as the log says, sortable; empty where it does not."""

    @property
    def lines(self) -> tuple[str, ...]:
        """What is shown."""
        return (self.frame, *self.said) if self.frame else self.said


@dataclass(frozen=True, kw_only=True)
class Log:
    """The end of what a process printed."""

    name: str
    """Of the file."""
    rank: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Found:
    """The sign that explains a failure, and where it stands."""

    sign: Sign
    log: Log


def root(logs: Sequence[Log], first: int | None = None) -> Found | None:
    """What explains a failure, out of the logs of all processes: the process that failed first, not its peers.

    Args:
        logs: of one start.
        first: rank of the process that failed first, where the run's record says.
    """
    found = [Found(sign=sign, log=log) for log in logs if (sign := telling(log.text))]
    if not found:
        return None
    chosen = min(
        found, key=lambda each: (RANK[each.sign.cause], each.log.rank != first, each.sign.time or "9", each.log.rank)
    )
    if chosen.sign.cause is not Cause.PEER_DIED or not chosen.sign.frame:
        return chosen
    ended = next((line for log in logs for line in last_start(log.text.splitlines()) if _TASK_ENDED.search(line)), "")
    said = (ended, *chosen.sign.said) if ended and ended not in chosen.sign.said else chosen.sign.said
    return replace(chosen, sign=replace(chosen.sign, said=said))


def telling(text: str) -> Sign | None:
    """The most telling sign of a log: of those that explain the others the last exception, or the first line.

    Args:
        text: the end of the log.
    """
    lines = last_start([_PREFIX.sub("", line) if line.startswith("[rank") else line for line in text.splitlines()])
    signs = list(_signs(lines))
    if not signs:
        rest = [line for line in lines if not _NOISE.search(line)] or [
            line for line in lines if _TASK_ENDED.search(line)
        ]
        return Sign(cause=Cause.UNKNOWN, said=tuple(map(shortened, rest[-3:]))) if rest else None
    best = min(RANK[sign.cause] for sign in signs)
    chosen = [sign for sign in signs if RANK[sign.cause] == best]
    exceptions = [sign for sign in chosen if sign.frame]
    return replace(exceptions[-1] if exceptions else chosen[0], time=_first_time(lines))


def last_start(lines: Sequence[str]) -> list[str]:
    """The lines since the last start, and since training last went on.

    Args:
        lines: of a log.
    """
    begin = 0
    for number, line in enumerate(lines):
        if line.startswith(_START) or ("loss" in line and _PROGRESS.search(line)):
            begin = number + 1
    return list(lines[begin:])


def shortened(line: str) -> str:
    """A line with no more characters than are shown.

    Args:
        line: of a log.
    """
    return line.rstrip() if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."


def _first_time(lines: Sequence[str]) -> str:
    for line in lines:
        if ("ERROR" in line or "Error" in line) and (match := _STAMP.search(line)):
            return f"{match[1]} {match[2]}.{match[3]}"
    return ""


def _signs(lines: Sequence[str]) -> Iterator[Sign]:
    """Exceptions, chained ones as one, and other telling lines."""
    number, chain = 0, list[Sign]()
    while number < len(lines):
        if "Traceback" in lines[number] and _TRACEBACK.search(lines[number]):
            number, sign = _exception(lines, number + 1)
            chain = [*chain, sign] if sign else chain
            if sign and not _goes_on(lines, number):
                yield _of_chain(chain)
                chain = []
            continue
        cause = cause_of_line(lines[number])
        if cause is not Cause.UNKNOWN:
            yield Sign(cause=cause, said=(shortened(lines[number]),))
        number += 1
    if chain:
        yield _of_chain(chain)


def _exception(lines: Sequence[str], number: int) -> tuple[int, Sign | None]:
    """The exception of a traceback whose frames begin at a line, and the line after it."""
    frames: list[tuple[re.Match[str], str]] = []
    while number < len(lines) and (lines[number].startswith(" ") or not lines[number]):
        if match := _FRAME.match(lines[number]):
            following = lines[number + 1] if number + 1 < len(lines) else ""
            frames.append((match, following.strip() if following.startswith("    ") else ""))
        number += 1
    if number == len(lines) or not _ERROR.match(lines[number]):
        return number, None
    error, last = lines[number], number + 1
    while last < len(lines) and lines[last] and not _NOISE.search(lines[last]) and not _TRACEBACK.search(lines[last]):
        last += 1
    said = (error, *_last_error(lines[number + 1 : last]))
    frame, ours = _frame(frames)
    sign = Sign(cause=cause_of_error(error), said=tuple(map(shortened, said)), frame=frame, ours=ours)
    return number + 1, sign


def _last_error(lines: Sequence[str]) -> list[str]:
    """The line of an NCCL error's message that names the peer."""
    return [after for before, after in pairwise(lines) if before.startswith("Last error:")]


def _frame(frames: Sequence[tuple[re.Match[str], str]]) -> tuple[str, bool]:
    """The innermost frame of code that is ours or the user's, or else the innermost."""
    own = [frame for frame in frames if not _THEIRS.search(frame[0]["file"])]
    if not frames:
        return "", False
    match, source = (own or frames)[-1]
    file = match["file"]
    if ours := list(_OURS.finditer(file)):
        file = file[ours[-1].start() + 1 :]
    place = f"{file}:{match['line']} in {match['function']}"
    return (f"{place}: {source}" if source else place), bool(own)


def _goes_on(lines: Sequence[str], number: int) -> bool:
    """Whether another traceback belongs to the one before: its cause, its handling, or what a worker met."""
    for line in lines[number : number + 4]:
        if line.startswith(_CHAINED) or _TRACEBACK.search(line):
            return True
        if line and not line.startswith(" "):
            return False
    return False


def _of_chain(chain: Sequence[Sign]) -> Sign:
    """The exception of a chain that explains it, with the frame of our code that came nearest."""
    best = min(RANK[sign.cause] for sign in chain)
    chosen = [sign for sign in chain if RANK[sign.cause] == best][-1]
    own = chosen if chosen.ours else next((sign for sign in reversed(chain) if sign.ours), chosen)
    last = chain[-1].said
    said = chosen.said if chosen.said == last else (*chosen.said, *last)
    return replace(chosen, frame=own.frame, ours=own.ours, said=said)
