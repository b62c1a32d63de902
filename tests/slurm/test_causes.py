"""Why runs fail, by their logs. `logs/` has what real jobs of two processes left that failed so; those of GPUs, of a
quota and of cgroups, which no test machine has, are written in the words of NCCL, torch, Lmod and slurmstepd."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from slurm.causes import Cause, cause_of_reason, rank_of_reason
from slurm.evidence import Log, root, telling
from slurm.failures import diagnose, shortened_runs

LOGS = Path(__file__).parent / "logs"

EXPECTED: dict[str, tuple[Cause, str, str]] = {
    "bad_image": (
        Cause.BAD_DATA,
        "prx_scale/failing.py:54 in bad_image: Image.open",
        "PIL.UnidentifiedImageError: cannot",
    ),
    "bad_tar": (Cause.BAD_DATA, "prx_scale/failing.py:64 in bad_tar", "tarfile.ReadError: file could not be opened"),
    "cancelled": (Cause.CANCELLED, "", "*** JOB 57 ON n1 CANCELLED"),
    "chained": (
        Cause.BAD_DATA,
        "prx_scale/failing.py:54 in bad_image",
        "sample 17 of shard-000002.tar could not be read",
    ),
    "cuda_memory": (Cause.GPU_MEMORY, "prx_scale/models/functional.py:61 in attention", "torch.OutOfMemoryError: CUDA"),
    "disk_dcp": (Cause.DISK, "prx_scale/failing.py:106 in disk_dcp: dcp.save", "OSError: [Errno 28] No space left"),
    "disk_torch": (Cause.DISK, "prx_scale/failing.py:101 in disk_torch: torch.save", "unexpected pos 704 vs 598"),
    "disk_write": (Cause.DISK, "prx_scale/failing.py:97 in disk_write", "OSError: [Errno 28] No space left on device"),
    "forbidden": (Cause.BAD_INPUT, "prx_scale/failing.py:154 in forbidden", "PermissionError: [Errno 13]"),
    "gloo_peer": (Cause.PEER_DIED, "prx_scale/failing.py:30 in gloo_peer", "srun: error: n1: task 1: Killed"),
    "gloo_timeout": (Cause.COMMUNICATION, "prx_scale/failing.py:21 in gloo_timeout", "Timed out waiting 4000ms"),
    "gpu_fault": (Cause.GPU_FAULT, "prx_scale/training/trainer.py:98 in train_step", "uncorrectable ECC error"),
    "input_error": (Cause.BAD_INPUT, "", "error: /home/ada/no-study: no such file"),
    "json_bad": (
        Cause.BAD_DATA,
        "prx_scale/failing.py:90 in json_bad",
        "json.decoder.JSONDecodeError: Expecting value",
    ),
    "lone_failure": (Cause.BAD_DATA, "prx_scale/failing.py:54 in bad_image", "PIL.UnidentifiedImageError: cannot"),
    "memory_numpy": (Cause.HOST_MEMORY, "prx_scale/failing.py:43 in memory_numpy", "Unable to allocate 256. TiB"),
    "memory_python": (Cause.HOST_MEMORY, "prx_scale/failing.py:47 in memory_python", "MemoryError"),
    "memory_torch": (Cause.HOST_MEMORY, "prx_scale/failing.py:39 in memory_torch", "can't allocate memory"),
    "missing_file": (Cause.BAD_INPUT, "prx_scale/failing.py:150 in missing_file", "'/data/images/shard-000123.tar'"),
    "names": (Cause.RENDEZVOUS, "", "network addresses of (gpu017, 41123) cannot be retrieved"),
    "nccl_peer": (Cause.PEER_DIED, "prx_scale/training/trainer.py:98", "closed by remote peer gpu018<41232>"),
    "nccl_watchdog": (Cause.COMMUNICATION, "", "OpType=_REDUCE_SCATTER_BASE"),
    "no_driver": (Cause.MISSING, "prx_scale/failing.py:139 in no_driver", "Torch not compiled with CUDA enabled"),
    "no_first": (
        Cause.RENDEZVOUS,
        "prx_scale/failing.py:132 in no_first",
        "timed out after 4000ms while trying to connect",
    ),
    "no_library": (
        Cause.MISSING,
        "prx_scale/failing.py:143 in no_library",
        "libcudart.so.99: cannot open shared object",
    ),
    "no_module": (Cause.MISSING, "prx_scale/failing.py:135 in no_module", "No module named 'torch_that_is_not_there'"),
    "no_submitit": (Cause.MISSING, "", "Error while finding module specification for 'submitit.core._submit'"),
    "no_name": (Cause.RENDEZVOUS, "prx_scale/failing.py:120 in no_name", "connect to (node-that-is-not-there, 37187)"),
    "no_peer": (Cause.RENDEZVOUS, "prx_scale/failing.py:126 in no_peer", "1/2 clients joined"),
    "no_python": (
        Cause.MISSING,
        "",
        'Lmod has detected the following error: The following module(s) are unknown: "cuda',
    ),
    "node_lost": (Cause.PEER_DIED, "", "Timed out waiting for job step to complete"),
    "node_unreachable": (Cause.PEER_DIED, "", "failed on node n2: Communication connection failure"),
    "not_finite": (Cause.NOT_FINITE, "prx_scale/failing.py:158 in not_finite", "not finite at step 40"),
    "oom_kill": (Cause.HOST_MEMORY, "", "Detected 1 oom_kill event in StepId=815.0"),
    "oom_kill_21": (Cause.HOST_MEMORY, "", "killed by the cgroup out-of-memory handler"),
    "parquet_bad": (Cause.BAD_DATA, "prx_scale/failing.py:94 in parquet_bad", "Parquet magic bytes not found"),
    "port_in_use": (Cause.RENDEZVOUS, "prx_scale/failing.py:11", "ddress already in use"),
    "quota": (Cause.DISK, "prx_scale/runs.py:211 in append_lines", "OSError: [Errno 122] Disk quota exceeded"),
    "segfault": (Cause.UNKNOWN, "", "srun: error: n2: tasks 0-1: Segmentation fault"),
    "time_limit": (Cause.TIME_LIMIT, "", "DUE TO TIME LIMIT"),
    "truncated_image": (Cause.BAD_DATA, "prx_scale/failing.py:60 in truncated_image", "image file is truncated"),
    "worker_bad_image": (Cause.BAD_DATA, "prx_scale/failing.py:54 in bad_image", "cannot identify image file"),
    "worker_killed": (Cause.HOST_MEMORY, "prx_scale/failing.py:86 in worker_killed", "is killed by signal: Killed"),
}
"""Cause, beginning of the frame that is shown, and what must be among the lines."""


def logs_of(name: str) -> list[Log]:
    """What the processes of a failed job printed."""
    parts = re.split(r"^##### rank (\d+)\n", (LOGS / f"{name}.txt").read_text(), flags=re.MULTILINE)[1:]
    return [Log(name=rank, rank=int(rank), text=text) for rank, text in zip(parts[::2], parts[1::2], strict=True)]


def test_every_log_is_expected() -> None:
    assert sorted(EXPECTED) == sorted(file.stem for file in LOGS.glob("*.txt"))


@pytest.mark.parametrize("name", EXPECTED)
def test_cause_frame_and_last_useful_lines(name: str) -> None:
    cause, frame, words = EXPECTED[name]
    found = root(logs_of(name))
    assert found is not None
    assert found.sign.cause is cause
    assert found.sign.frame.startswith(frame) and bool(found.sign.frame) == bool(frame)
    assert any(words in line for line in found.sign.lines)
    assert len(found.sign.lines) <= 4 and all(len(line) <= 400 for line in found.sign.lines)
    assert not any(line.startswith("submitit") or "Force Terminated" in line for line in found.sign.lines)


def test_the_process_that_failed_first_is_the_root_whatever_the_others_say() -> None:
    logs = logs_of("lone_failure")
    alone = {log.rank: telling(log.text) for log in logs}
    assert alone[0] and alone[0].cause is Cause.PEER_DIED
    found = root(logs)
    assert found and found.log.rank == 1


def test_of_equal_complaints_the_earlier_counts_unless_the_record_names_a_process() -> None:
    logs = logs_of("memory_python")
    found = root(logs)
    assert found and found.log.rank == 1  # three milliseconds ahead of rank 0
    named = root(logs, first=0)
    assert named and named.log.rank == 0


def test_only_the_last_start_counts() -> None:
    (first, *_), (second, *_) = logs_of("disk_write"), logs_of("bad_image")
    sign = telling(first.text + second.text)
    assert sign and sign.cause is Cause.BAD_DATA


def test_what_training_survived_is_no_cause() -> None:
    (first, *_), (second, *_) = logs_of("bad_image"), logs_of("gloo_timeout")
    body = second.text.partition("\n")[2]
    went_on = telling(f"{first.text}d1-s0 step 40/100 loss 0.5012 310 images/s\n{body}")
    assert went_on and went_on.cause is Cause.COMMUNICATION
    did_not = telling(first.text + body)
    assert did_not and did_not.cause is Cause.BAD_DATA


def test_quiet_logs_say_nothing() -> None:
    assert telling("") is None
    assert telling("=== job 3, first start, rank 0 on n1, now\nsubmitit INFO (x) - Starting\n") is None
    sign = telling("=== job 3, first start, rank 0 on n1, now\nwhat is this\n")
    assert sign and (sign.cause, sign.lines) == (Cause.UNKNOWN, ("what is this",))


FRUITLESS = "started 3 times from step 0 without reaching a new checkpoint; the last one ended: "


@pytest.mark.parametrize(
    ("reason", "cause", "rank"),
    [
        ("the training loss was not finite at step 40; the last good step is 30", Cause.NOT_FINITE, None),
        ("OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB (rank 5 on gpu017)", Cause.GPU_MEMORY, 5),
        ("OSError: [Errno 28] No space left on device", Cause.DISK, None),
        ("rank 3 (process 71 on gpu2) died: its process is gone; the same command goes on", Cause.PEER_DIED, 3),
        ("rank 3 (process 71 on gpu2) failed: UnidentifiedImageError: cannot identify", Cause.BAD_DATA, 3),
        ("preempted too often: 21 restarts, 20 of them preemptions; raise", Cause.PREEMPTED, None),
        ("restarted too often: 21 restarts, after 12 peer-died, 9 preempted; raise", Cause.CRASH_LOOP, None),
        (f"{FRUITLESS}time limit of 0:10:00: SIGUSR2 after 0:08:00", Cause.TIME_LIMIT, None),
        (f"{FRUITLESS}preempted: SIGUSR2 after 0:00:30", Cause.PREEMPTED, None),
        (f"{FRUITLESS}killed: its end was not recorded", Cause.CRASH_LOOP, None),
        (
            f"{FRUITLESS}RuntimeError: [x/gloo/y.cc:78] Timed out waiting 4000ms for recv operation",
            Cause.COMMUNICATION,
            None,
        ),
        ("job 12 ended: FAILED, exit code 1", Cause.UNKNOWN, None),
    ],
)
def test_reasons_of_records(reason: str, cause: Cause, rank: int | None) -> None:
    assert cause_of_reason(reason) is cause
    assert rank_of_reason(reason) == rank


@pytest.mark.parametrize(
    ("state", "reason", "log", "cause"),
    [
        ("OUT_OF_MEMORY", "job 7 ended: OUT_OF_MEMORY", None, Cause.HOST_MEMORY),
        ("TIMEOUT", "job 7 ended: TIMEOUT", "gloo_peer", Cause.TIME_LIMIT),
        ("TIMEOUT", "job 7 ended: TIMEOUT", "names", Cause.RENDEZVOUS),
        ("NODE_FAIL", "job 7 ended: NODE_FAIL", None, Cause.PEER_DIED),
        ("FAILED", f"{FRUITLESS}killed: its end was not recorded", "cuda_memory", Cause.GPU_MEMORY),
        ("FAILED", f"{FRUITLESS}killed: its end was not recorded", "segfault", Cause.CRASH_LOOP),
        ("FAILED", "preempted too often: 21 restarts, 20 of them preemptions", "gloo_peer", Cause.PREEMPTED),
        ("FAILED", "job 7 ended: FAILED, exit code 1", "no_module", Cause.MISSING),
        (None, "the training loss was not finite at step 4; the last good step is 3", None, Cause.NOT_FINITE),
        (None, None, None, Cause.UNKNOWN),
    ],
)
def test_job_record_and_logs_together(state: str | None, reason: str | None, log: str | None, cause: Cause) -> None:
    found, lines = diagnose(state, reason, root(logs_of(log)) if log else None)
    assert found is cause
    assert bool(lines) == bool(reason or log)


def test_every_cause_has_advice() -> None:
    assert all(cause.advice.endswith(".") for cause in Cause)
    assert len({cause.advice for cause in Cause}) == len(Cause)


def test_runs_are_shortened() -> None:
    assert shortened_runs(["a", "b"]) == "a, b"
    assert shortened_runs(list("abcdefg")) == "a, b, c and 4 more"
