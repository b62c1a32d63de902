"""Who has died, as the other processes hear it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from parallel.liveness import Connection, Death, _first_message

SCRIPT = """
import os, sys, threading, time
import torch.distributed as dist
from parallel.liveness import watched
dist.init_process_group("gloo")
rank, how = dist.get_rank(), sys.argv[1]
def end(death, write):
    print(f"{rank} hears: {death}; kind: {death.kind}; writes: {write}", flush=True)
    os._exit(7)
def tell(error):
    print(f"{rank} tells", flush=True)
    return f"{type(error).__name__}: {error}", "its own"
with watched(end, tell):
    dist.barrier()
    if how == "leave" or rank == int(sys.argv[2]):
        if how == "kill":
            os.kill(os.getpid(), 9)
        if how == "raise":
            raise ValueError("out of something")
        if how == "fail":
            raise RuntimeError("as a collective does")
    else:
        time.sleep(30)
print(f"{rank} is done", flush=True)
dist.destroy_process_group()
os._exit(0)
"""


def outcome(how: str, tmp_path: Path, victim: int = 2, world: int = 3) -> list[tuple[int, str]]:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    ranks = [
        subprocess.Popen(
            [sys.executable, str(script), how, str(victim)],
            env={
                **os.environ,
                "RANK": str(rank),
                "WORLD_SIZE": str(world),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for rank in range(world)
    ]
    outputs = [rank.communicate(timeout=120)[0] for rank in ranks]
    return [(rank.returncode, output) for rank, output in zip(ranks, outputs, strict=True)]


@pytest.mark.slow
def test_a_killed_process_is_named_to_all_others(tmp_path: Path) -> None:
    zero, one, two = outcome("kill", tmp_path)
    assert two[0] == -9
    for rank, (code, output) in enumerate((zero, one)):
        assert code == 7
        assert output.startswith(f"{rank} hears: rank 2 (process ") and "died: its process is gone" in output
        assert output.rstrip().endswith(f"writes: {rank == 0}")


@pytest.mark.slow
def test_an_error_is_told_with_its_message_and_kind(tmp_path: Path) -> None:
    zero, one, two = outcome("raise", tmp_path)
    assert two == (1, "2 tells\n")
    for rank, (code, output) in enumerate((zero, one)):
        assert code == 7 and "failed: ValueError: out of something; kind: its own" in output
        assert output.rstrip().endswith(f"writes: {rank == 0}")


@pytest.mark.slow
def test_an_error_of_the_first_is_its_own_to_write_down(tmp_path: Path) -> None:
    zero, one, two = outcome("fail", tmp_path, victim=0)
    assert zero == (1, "0 tells\n")
    for code, output in (one, two):
        assert code == 7 and output.rstrip().endswith("kind: its own; writes: False")


@pytest.mark.slow
def test_who_leaves_on_purpose_is_not_missed(tmp_path: Path) -> None:
    assert [code for code, _ in outcome("leave", tmp_path)] == [0, 0, 0]


def test_messages_come_whole_however_the_bytes_are_cut() -> None:
    near, far = socket.socketpair()
    # TCP options do not apply to a local pair, and are not what is tested.
    connection = Connection.__new__(Connection)
    connection.sock, connection._rest, connection.peer = far, b"", {}
    near.sendall(b'{"a": 1}\n{"b"')
    assert connection.receive() == [{"a": 1}]
    near.sendall(b": 2}\n")
    assert connection.receive() == [{"b": 2}]
    near.close()
    assert connection.receive() is None


def test_a_death_reads_as_a_sentence() -> None:
    death = Death(rank=3, host="node7", pid=12, reason="died: its process is gone")
    assert str(death) == "rank 3 (process 12 on node7) died: its process is gone"


def greeted(*pieces: bytes) -> object:
    """What a listener takes for the first message of one who sends these pieces."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stranger = socket.create_connection(listener.getsockname())
        connection = Connection(listener.accept()[0])
    sender = threading.Thread(target=lambda: [(stranger.sendall(piece), time.sleep(0.05)) for piece in pieces])
    sender.start()
    try:
        return _first_message(connection)
    finally:
        sender.join()
        stranger.close()
        connection.sock.close()


def test_a_greeting_in_pieces_is_understood_and_a_stranger_harms_nobody() -> None:
    assert greeted(b'{"hello": "to', b'ken"}\n') == {"hello": "token"}
    assert greeted(b"GET / HTTP/1.1\r\n\r\n") is None
    assert greeted(b"17\n") == 17
