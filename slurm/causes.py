"""Why runs fail, by the words of their logs, and what helps. Pure."""

from __future__ import annotations

import re
from enum import StrEnum


class Cause(StrEnum):
    """Why a run failed, in the words of a heading."""

    GPU_MEMORY = "out of GPU memory"
    HOST_MEMORY = "out of host memory"
    GPU_FAULT = "a GPU failed"
    NOT_FINITE = "loss not finite"
    BAD_DATA = "bad data"
    DISK = "disk full, or not writing"
    MISSING = "missing module or environment"
    BAD_INPUT = "bad input"
    RENDEZVOUS = "processes did not find each other"
    TIME_LIMIT = "time limit too short"
    PREEMPTED = "preempted too often"
    CRASH_LOOP = "restarted too often"
    COMMUNICATION = "communication timed out"
    PEER_DIED = "a process or node died"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"

    @property
    def advice(self) -> str:
        """A sentence on what helps."""
        return _ADVICE[self]


_ADVICE = {
    Cause.GPU_MEMORY: "Lower [parallel] micro_batch, set checkpointing, or spread over more GPUs; `prx-scale plan` "
    "says what fits.",
    Cause.HOST_MEMORY: "Ask for more with [slurm] mem, or start fewer processes a node.",
    Cause.GPU_FAULT: "Tell the cluster's administrators which node, and keep off it with [slurm] exclude.",
    Cause.NOT_FINITE: "Lower [training] lr or raise warmup; with precision float8 try bfloat16.",
    Cause.BAD_DATA: "Mend or remove the file that is named, then `prx-scale retry`.",
    Cause.DISK: "Make room or raise the quota ([checkpoint] keep bounds what stays), then `prx-scale retry`.",
    Cause.MISSING: "Load what is missing in [slurm] setup, or name the right interpreter in [slurm] python.",
    Cause.BAD_INPUT: "Mend what the message names, then `prx-scale retry`.",
    Cause.RENDEZVOUS: "Node names must resolve on every node, and no other job may hold the port; see what the first "
    "node's log says.",
    Cause.TIME_LIMIT: "Raise [slurm] time, or lower [checkpoint] every so that each start gets further.",
    Cause.PREEMPTED: "Raise [slurm] max_restarts, lower [checkpoint] every, or use a partition or qos that is not "
    "preempted.",
    Cause.CRASH_LOOP: "Read the log of the last start; when it is mended, `prx-scale retry`.",
    Cause.COMMUNICATION: "A process hung or the network stalled: look for the process whose log ends earliest, then "
    "`prx-scale retry`.",
    Cause.PEER_DIED: "`prx-scale retry`; where it is always the same node, keep off it with [slurm] exclude.",
    Cause.CANCELLED: "`prx-scale sweep` launches it again.",
    Cause.UNKNOWN: "Read the whole log.",
}

RANK = {
    **dict.fromkeys((Cause.GPU_FAULT, Cause.GPU_MEMORY, Cause.HOST_MEMORY, Cause.NOT_FINITE, Cause.BAD_DATA), 0),
    **dict.fromkeys((Cause.DISK, Cause.MISSING, Cause.BAD_INPUT), 0),
    Cause.RENDEZVOUS: 1,
    Cause.TIME_LIMIT: 2,
    Cause.PREEMPTED: 2,
    Cause.CRASH_LOOP: 2,
    Cause.COMMUNICATION: 3,
    Cause.CANCELLED: 4,
    Cause.PEER_DIED: 5,
    Cause.UNKNOWN: 6,
}
"""Which of several explains the others: the lowest. Processes that lose their peer complain too, and later."""


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns))


ERRORS: tuple[tuple[Cause, re.Pattern[str]], ...] = (
    (
        Cause.GPU_MEMORY,
        _any(
            r"^(torch\.)?(cuda\.)?OutOfMemoryError\b",
            r"(CUDA|HIP|XPU) (error: )?out of memory",
            r"_STATUS_ALLOC_FAILED",
        ),
    ),
    (
        Cause.HOST_MEMORY,
        _any(
            *(r"^MemoryError\b", r"_ArrayMemoryError\b", r"Cannot allocate memory", r"can't allocate memory"),
            *(r"killed by signal: Killed", r"insufficient shared memory", r"std::bad_alloc"),
        ),
    ),
    (
        Cause.GPU_FAULT,
        _any(
            *(
                r"uncorrectable (NVLink|ECC) error",
                r"GPU (is lost|has fallen off the bus)",
                r"unspecified launch failure",
            ),
            *(r"CUDA error: (hardware|device-side|misaligned|unknown error)", r"CUDA error: no CUDA-capable device"),
            r"illegal (memory access|instruction)",
        ),
    ),
    (Cause.NOT_FINITE, _any(r"NonFiniteLoss\b", r"loss (was|is) not finite")),
    (
        Cause.DISK,
        _any(
            *(r"No space left on device", r"Disk quota exceeded", r"Read-only file system", r"Input/output error"),
            *(r"Stale file handle", r"PytorchStreamWriter failed", r"inline_container\.cc.*unexpected pos"),
            r"basic_ios::clear: iostream error",
        ),
    ),
    (
        Cause.MISSING,
        _any(
            *(r"^(ModuleNotFoundError|ImportError)\b", r"cannot open shared object file", r"No module named"),
            *(r"not compiled with CUDA", r"Found no NVIDIA driver", r"driver version is insufficient"),
            r"driver on your system is too old",
        ),
    ),
    (
        Cause.BAD_DATA,
        _any(
            *(r"UnidentifiedImageError\b", r"image file is truncated", r"broken data stream", r"DecompressionBomb"),
            *(r"tarfile\.\w*Error\b", r"^(zlib|lzma)\.\w*[eE]rror\b", r"BadGzipFile\b", r"BadZipFile\b"),
            *(
                r"^EOFError: Compressed file ended",
                r"JSONDecodeError\b",
                r"^Unicode(De|En)codeError\b",
                r"ArrowInvalid\b",
            ),
            r"SafetensorError\b",
        ),
    ),
    (
        Cause.RENDEZVOUS,
        _any(
            *(r"EADDRINUSE", r"[Aa]ddress already in use", r"[Nn]ame or service not known", r"cannot be retrieved"),
            *(r"Temporary failure in name resolution", r"The client socket has (timed out|failed to connect)"),
            *(r"waiting for clients", r"store based barrier", r"^torch\.distributed\.Dist(Network|Store)Error\b"),
            r"Dist(Network|Store)Error: .*(timed out|timeout)",
        ),
    ),
    (Cause.BAD_INPUT, _any(r"InputError\b", r"^(FileNotFoundError|PermissionError|NotADirectoryError)\b")),
    (
        Cause.COMMUNICATION,
        _any(
            *(r"Watchdog caught collective operation timeout", r"Timed out waiting \d+ ?ms for (recv|send) operation"),
            *(r"watchdog thread terminated", r"ncclTimeout", r"collective operation timeout"),
        ),
    ),
    (
        Cause.PEER_DIED,
        _any(
            *(
                r"[Cc]onnection (was )?(closed|reset|aborted) by (remote )?peer",
                r"remote process exited",
                r"ncclRemoteError",
            ),
            *(
                r"ncclSystemError",
                r"Broken pipe",
                r"/gloo/transport/",
                r"connectFullMesh",
                r"failed to recv, got 0 bytes",
            ),
            *(
                r"communicator was aborted",
                r"died: its process is gone",
                r"ChildFailedError\b",
                r"^ConnectionResetError\b",
            ),
        ),
    ),
)
"""What the line of an exception says; the first that matches counts."""

LINES: tuple[tuple[Cause, re.Pattern[str]], ...] = (
    (
        Cause.HOST_MEMORY,
        _any(
            *(r"oom[-_ ]kill", r"out-of-memory handler", r"error: \S+: tasks? [\d,-]+: Out Of Memory"),
            r"exceeded (job |step )?memory limit",
        ),
    ),
    (Cause.RENDEZVOUS, _any(r"network addresses of .* cannot be retrieved", r"The client socket has timed out")),
    (Cause.TIME_LIMIT, _any(r"DUE TO TIME LIMIT")),
    (Cause.PREEMPTED, _any(r"DUE TO PREEMPTION")),
    (Cause.CRASH_LOOP, _any(r"^prx-scale: exit code \d+ after \d+ restarts")),
    (Cause.CANCELLED, _any(r"error: \*\*\* JOB \S+ ON \S+ CANCELLED AT \S+ \*\*\*")),
    (Cause.COMMUNICATION, _any(r"Watchdog caught collective operation timeout")),
    (
        Cause.PEER_DIED,
        _any(
            *(r"DUE TO NODE FAILURE", r"error: Node failure on", r"Communication connection failure"),
            *(r"Timed out waiting for job step to complete", r"rank \d+ \(process \d+ on \S+\) (died|failed)"),
        ),
    ),
    (
        Cause.MISSING,
        _any(
            *(
                r"Lmod has detected the following error",
                r"error while loading shared libraries",
                r": command not found$",
                r"Error while finding module specification",
                r": No module named ",
            ),
            *(r"execve\(\): .*No such file or directory", r"[Cc]ouldn't chdir to", r"Unable to locate a modulefile"),
        ),
    ),
    (Cause.BAD_INPUT, _any(r"^error: ")),
)
"""What lines say that are no exception's: of srun, slurmstepd, the shell and libraries."""


_ANY_LINE = re.compile("|".join(pattern.pattern for _, pattern in LINES))


def cause_of_error(line: str) -> Cause:
    """What an exception's last line says.

    Args:
        line: type and message, as Python prints them.
    """
    return next((cause for cause, pattern in ERRORS if pattern.search(line)), Cause.UNKNOWN)


def cause_of_line(line: str) -> Cause:
    """What a line says that is not an exception's.

    Args:
        line: of a log.
    """
    if not _ANY_LINE.search(line):  # nearly all lines
        return Cause.UNKNOWN
    return next((cause for cause, pattern in LINES if pattern.search(line)), Cause.UNKNOWN)


BY_STATE = {
    "OUT_OF_MEMORY": Cause.HOST_MEMORY,
    "TIMEOUT": Cause.TIME_LIMIT,
    "DEADLINE": Cause.TIME_LIMIT,
    "NODE_FAIL": Cause.PEER_DIED,
    "BOOT_FAIL": Cause.PEER_DIED,
    "PREEMPTED": Cause.PREEMPTED,
    "CANCELLED": Cause.CANCELLED,
}
"""What the state says in which SLURM leaves a job."""

_GIVEN_UP = re.compile(r"started (?:once|\d+ times) from step \d+ without .*; the last one ended: (.*)", re.DOTALL)
_WHO = re.compile(r"\(rank (\d+) on \S+\)|^rank (\d+) \(process ")
_OF_A_PEER = re.compile(r"rank \d+ \(process \d+ on \S+\) failed: (.*)", re.DOTALL)


def cause_of_reason(reason: str) -> Cause:
    """What the reason says that a run's record gives.

    Args:
        reason: in words.
    """
    if reason.startswith("preempted too often"):
        return Cause.PREEMPTED
    if reason.startswith("restarted too often"):
        return Cause.CRASH_LOOP
    if match := _GIVEN_UP.search(reason):
        return _given_up(match[1])
    if match := _OF_A_PEER.search(reason):
        return cause_of_error(match[1])
    return cause_of_error(reason)


def rank_of_reason(reason: str) -> int | None:
    """The process that failed first, where the reason in a run's record names it.

    Args:
        reason: in words.
    """
    match = _WHO.search(reason)
    return int(match[1] or match[2]) if match else None


def _given_up(last: str) -> Cause:
    if last.startswith("time limit"):
        return Cause.TIME_LIMIT
    if last.startswith("preempted"):
        return Cause.PREEMPTED
    found = cause_of_reason(last)
    return Cause.CRASH_LOOP if found is Cause.UNKNOWN else found
