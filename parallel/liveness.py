"""Who of a run's processes has died, told to all others at once.

A collective whose peer is gone fails without saying which, or waits for its timeout. Beside the process group, every
process therefore holds a connection to the one of rank 0. The kernel closes it when a process ends, however it ends,
and keep-alive probes do when a whole machine is gone. Rank 0 tells the others; when rank 0 itself dies, all of them see
that. A process that leaves on purpose says so first, and one that ends with an error of its own says which.
"""

from __future__ import annotations

import json
import os
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

import torch.distributed as dist

PROBE_AFTER_SECONDS, PROBE_EVERY_SECONDS, PROBES = 10, 5, 4
"""A machine that answers nothing for half a minute is gone."""
HELLO_SECONDS = 10.0
"""How long one who connects may take to say who it is."""
VERDICT_SECONDS = 5.0
"""How long a process whose collective failed waits to hear who died."""
WRITING_SECONDS = 1.0
"""How long a death may take to be written down."""
DIED = "died"
"""The kind of a death without a word."""


@dataclass(frozen=True, kw_only=True)
class Death:
    """A process that ended without saying so, or with an error."""

    rank: int
    host: str
    pid: int
    reason: str
    kind: str = DIED
    """Of an error, what the process that met it calls it."""

    def __str__(self) -> str:
        return f"rank {self.rank} (process {self.pid} on {self.host}) {self.reason}"


class Connection:
    """One end of a connection that carries a JSON object a line."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("KEEPIDLE", PROBE_AFTER_SECONDS), ("KEEPINTVL", PROBE_EVERY_SECONDS), ("KEEPCNT", PROBES)):
            if hasattr(socket, f"TCP_{name}"):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, f"TCP_{name}"), value)
        self.sock = sock
        self.peer: dict[str, Any] = {}
        self._rest = b""

    def send(self, message: dict[str, Any]) -> None:
        """Send, unless the other end is gone already."""
        with suppress(OSError):
            self.sock.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> list[dict[str, Any]] | None:
        """The messages that have arrived in full; None when the other end is gone."""
        try:
            data = self.sock.recv(65536)
        except OSError:
            data = b""
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines]


class Liveness:
    """Watches over the processes of the default process group, in a thread of its own."""

    def __init__(self, on_death: Callable[[Death], None], on_error: Callable[[BaseException], tuple[str, str]]) -> None:
        """Args: as those of `watched`, called at most one of them, and once; on_death from the watching thread."""
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self._on_death, self._on_error = on_death, on_error
        self._verdict = threading.Event()
        self._settling = threading.Lock()
        self._first_gone = threading.Event()
        self._leaving = threading.Event()
        self._me = {"rank": self.rank, "host": socket.gethostname(), "pid": os.getpid()}
        self._selector = selectors.DefaultSelector()
        self._connections: dict[int, Connection] = {}
        self._token = ""
        if self.world > 1:
            self._open()
            self._thread = threading.Thread(target=self._watch, name="liveness", daemon=True)
            self._thread.start()

    def _open(self) -> None:
        host = os.environ["MASTER_ADDR"]
        listener = _listen(host) if self.rank == 0 else None
        told: list[Any] = [(listener.getsockname()[1], secrets.token_hex(16), self._me) if listener else None]
        dist.broadcast_object_list(told, src=0)
        port, self._token, first = told[0]
        if listener:
            self._selector.register(listener, selectors.EVENT_READ, None)
            return
        connection = Connection(socket.create_connection((host, port), timeout=60))
        connection.sock.settimeout(None)
        connection.send({"hello": self._token, **self._me})
        self._add(connection, first)

    def _add(self, connection: Connection, peer: dict[str, Any]) -> None:
        connection.peer = peer
        self._connections[peer["rank"]] = connection
        self._selector.register(connection.sock, selectors.EVENT_READ, connection)

    def _watch(self) -> None:
        while not self._verdict.is_set():
            for key, _ in self._selector.select():
                if key.data is None:
                    self._greet(key.fileobj.accept()[0])  # type: ignore[union-attr]
                else:
                    self._hear(key.data)

    def _greet(self, sock: socket.socket) -> None:
        connection = Connection(sock)
        hello = _first_message(connection)
        if not isinstance(hello, dict) or hello.get("hello") != self._token:
            sock.close()  # a stranger
            return
        self._add(connection, {name: hello[name] for name in self._me})

    def _hear(self, connection: Connection) -> None:
        messages = connection.receive()
        if messages is None:
            self._drop(connection)
            if connection.peer["rank"] == 0:
                self._first_gone.set()
            if not self._leaving.is_set():
                self._decide(Death(**connection.peer, reason="died: its process is gone"))
        for message in messages or []:
            if "death" in message:
                self._decide(Death(**message["death"]))
            elif "failed" in message:
                reason = f"failed: {message['failed']}"
                self._decide(Death(**connection.peer, reason=reason, kind=message["kind"]))
            elif "bye" in message:
                self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        if self._connections.pop(connection.peer["rank"], None):
            self._selector.unregister(connection.sock)

    def _decide(self, death: Death) -> None:
        with self._settling:
            if self._verdict.is_set() or self._leaving.is_set():
                return
            self._verdict.set()
        self._tell({"death": asdict(death)})
        if not self.writes(death):
            self._let_write(death)
        self._on_death(death)

    def _let_write(self, death: Death) -> None:
        """Stay until who writes a death down has ended: a launcher may kill all others once one has gone."""
        if death.rank == 0:
            time.sleep(WRITING_SECONDS)  # to rank 1 there is no connection
        elif 0 in self._connections:
            _until_gone(self._connections[0].sock, VERDICT_SECONDS)

    def _tell(self, message: dict[str, Any]) -> None:
        for connection in list(self._connections.values()):
            connection.send(message)

    def writes(self, death: Death) -> bool:
        """Whether this process is the one that writes a death down: the lowest rank that is left.

        An error of rank 0 it has written down itself.
        """
        if death.rank == 0:
            return self.rank == 1 and death.kind == DIED
        return self.rank == 0

    def leave(self) -> None:
        """Say good-bye: what ends from now on has done its work."""
        if self._settle():
            self._tell({"bye": True})

    def fail(self, error: BaseException) -> None:
        """After an error: wait to hear whether it is another's death; if not, tell the others that it is this one's."""
        if self.world > 1 and _may_be_of_a_death(error):
            self._verdict.wait(VERDICT_SECONDS)
        if self._settle():
            failed, kind = self._on_error(error)
            self._tell({"failed": failed, "kind": kind})
            if self.rank != 0 and self.world > 1:
                self._first_gone.wait(VERDICT_SECONDS)  # it writes this down

    def _settle(self) -> bool:
        """From now on no death concerns this process; False where one has ended it already."""
        with self._settling:
            if not self._verdict.is_set():
                self._leaving.set()
                return True
        self._thread.join(VERDICT_SECONDS)  # it writes the death down and ends the process
        return False


def _may_be_of_a_death(error: BaseException) -> bool:
    """Collectives raise RuntimeError, sockets OSError; a failed save of a checkpoint is no Exception at all."""
    return isinstance(error, (RuntimeError, OSError)) or not isinstance(error, Exception)


def _until_gone(sock: socket.socket, seconds: float) -> None:
    """Wait until the other end of a connection is gone, or so long."""
    deadline = time.monotonic() + seconds
    with suppress(OSError):
        while (left := deadline - time.monotonic()) > 0:
            sock.settimeout(left)
            if not sock.recv(65536):
                return


def _first_message(connection: Connection) -> Any:
    """What the other end says first, however it is cut; None where that takes too long or is no JSON."""
    connection.sock.settimeout(HELLO_SECONDS)
    try:
        messages = connection.receive()
        while messages == []:
            messages = connection.receive()
    except ValueError:
        return None
    connection.sock.settimeout(None)
    return messages[0] if messages else None


def _listen(host: str) -> socket.socket:
    try:
        return socket.create_server((host, 0), backlog=4096)
    except OSError:  # the name leads here, but is no address of this machine
        return socket.create_server(("", 0), backlog=4096)


@contextmanager
def watched(
    on_death: Callable[[Death, bool], None], on_error: Callable[[BaseException], tuple[str, str]]
) -> Generator[None]:
    """While it lasts, the death of any process of the default group is told to this one.

    Args:
        on_death: is given the death, and whether this process is the one to write it down; should end the process, as
            its main thread may be waiting for the dead one.
        on_error: is given an error of this process that is not the consequence of a death, before the others hear of
            it; returns what they are told, in words and as the kind of their `Death`.
    """

    def decide(death: Death) -> None:
        on_death(death, liveness.writes(death))

    liveness = Liveness(decide, on_error)
    try:
        yield
    except BaseException as error:
        liveness.fail(error)
        raise
    liveness.leave()
