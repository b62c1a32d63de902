"""What errors mean, as torch raises them."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException

from prx_scale.attempts import Ending
from prx_scale.errors import InputError
from prx_scale.owner import Superseded
from prx_scale.runs.info import State
from prx_scale.training.failures import Kind, PeerFailed, kind_of, words
from tests.prx_scale.training.studies import ENVIRONMENT, ROOT, free_ports

SECOND = datetime.timedelta(seconds=1)


def raised(what: Callable[[], object]) -> BaseException:
    try:
        what()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def test_a_server_that_is_not_there_may_be_there_next_time() -> None:
    (port,) = free_ports(1)
    error = raised(lambda: dist.TCPStore("127.0.0.1", port, is_master=False, timeout=SECOND))
    assert isinstance(error, dist.DistNetworkError)
    assert kind_of(error) is Kind.AGAIN


def test_a_peer_that_does_not_come_may_come_next_time() -> None:
    (port,) = free_ports(1)
    error = raised(lambda: dist.TCPStore("127.0.0.1", port, world_size=2, is_master=True, timeout=SECOND))
    assert isinstance(error, dist.DistStoreError)
    assert kind_of(error) is Kind.AGAIN


IN_COLLECTIVE = """
import datetime, os, sys, time
import torch, torch.distributed as dist
from prx_scale.training.failures import kind_of, words
rank, how = int(os.environ["RANK"]), sys.argv[1]
dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=60))
dist.barrier()
group = dist.new_group(timeout=datetime.timedelta(seconds=2))
data = torch.ones(4)
dist.all_reduce(data, group=group)
if rank == 1:
    if how == "killed":
        os.kill(os.getpid(), 9)
    time.sleep(3)
    os._exit(0)
try:
    if how == "misused":
        dist.all_reduce(data, op=dist._make_nccl_premul_sum(2.0), group=group)
    dist.all_reduce(data, group=group)
except RuntimeError as error:
    print(type(error).__name__, kind_of(error), words(error), flush=True)
os._exit(0)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("killed", "RuntimeError again RuntimeError: ["),
        ("late", "RuntimeError again RuntimeError: ["),
        ("misused", "RuntimeError for-good RuntimeError: Cannot use ReduceOp.PREMUL_SUM with Gloo"),
    ],
)
def test_collectives_of_gloo(how: str, said: str) -> None:
    (port,) = free_ports(1)
    shared = {**ENVIRONMENT, "PYTHONPATH": str(ROOT), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", IN_COLLECTIVE, how],
            env={**shared, "MASTER_PORT": str(port), "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for rank in range(2)
    ]
    first, _ = (rank.communicate(timeout=100)[0] for rank in ranks)
    assert first.startswith(said)


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        ("ncclRemoteError: A call failed possibly due to a network error or a remote process exiting", Kind.AGAIN),
        ("ncclUnhandledCudaError: Call to CUDA function failed.", Kind.AGAIN),
        ("ncclInvalidUsage: This usually reflects invalid usage of NCCL library.", Kind.FOR_GOOD),
    ],
)
def test_nccl_says_itself_what_is_a_mistake(result: str, kind: Kind) -> None:
    error = dist.DistBackendError(f"NCCL error in: ProcessGroupNCCL.cpp:3690, NCCL version 2.28\n{result}")
    assert kind_of(error) is kind


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        (lambda: torch.ones(2) @ torch.ones(3), Kind.FOR_GOOD),
        (lambda: torch.empty(1 << 62), Kind.FOR_GOOD),
        (lambda: [][1], Kind.FOR_GOOD),
        (lambda: Path("/nowhere/at/all").read_text(), Kind.FOR_GOOD),
        (lambda: os.write(-1, b""), Kind.FOR_GOOD),
    ],
)
def test_what_would_come_again_is_for_good(what: Callable[[], object], kind: Kind) -> None:
    error = raised(what)
    assert kind_of(error) is kind
    assert kind_of(error, asked_to_stop=True) is Kind.AGAIN


def test_memory_never_comes_back() -> None:
    assert kind_of(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")) is Kind.FOR_GOOD


def test_of_a_failed_save_the_process_that_failed_is_told() -> None:
    full, gone = OSError(28, "No space left on device"), ConnectionResetError("reset")
    frames = traceback.extract_stack()[:0]
    both = CheckpointException("write", {0: (gone, frames), 3: (full, frames)})
    assert (kind_of(both), words(both)) == (Kind.FOR_GOOD, "OSError: [Errno 28] No space left on device")
    assert kind_of(CheckpointException("write", {0: (gone, frames)})) is Kind.AGAIN


def test_words_are_type_and_first_line() -> None:
    assert words(ValueError("\n one\ntwo")) == "ValueError: one"
    assert words(KeyError()) == "KeyError"


def test_each_kind_has_its_code_state_and_cause() -> None:
    expected = {
        Kind.AGAIN: (75, State.INTERRUPTED, Ending.CONNECTION),
        Kind.FOR_GOOD: (1, State.FAILED, Ending.FAILED),
        Kind.BAD_INPUT: (2, State.INTERRUPTED, Ending.BAD_INPUT),
        Kind.SUPERSEDED: (1, None, Ending.SUPERSEDED),
    }
    assert {kind: (kind.exit_code, kind.state, kind.cause) for kind in Kind} == expected
    errors = {
        Kind.BAD_INPUT: InputError("no"),
        Kind.SUPERSEDED: Superseded("no"),
        Kind.AGAIN: PeerFailed("", Kind.AGAIN),
    }
    for kind, error in errors.items():
        assert kind_of(error, asked_to_stop=True) is kind
