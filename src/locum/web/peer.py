"""Who is calling, and what they may do."""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from locum.engine.proc import RUN_VARIABLE
from locum.engine.transcript import Caller
from locum.errors import ForbiddenError
from locum.web.problem import problem

_ROOT = 0
_DEEPEST = 512
_OPEN_TO_RUNS = re.compile(r"/tasks|/hooks/[^/]+")
"""What an agent may post: work for others, and what it has spent itself."""
_PEERCRED = struct.Struct("3i")


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end of the socket, as the kernel knows it."""

    pid: int
    uid: int


def peer_of(connection: socket.socket) -> Peer:
    """The peer of a connected Unix socket, at the time it connected."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
    pid, uid, _ = _PEERCRED.unpack(raw)
    return Peer(pid, uid)


class Network(Protocol):
    """What judges requests over the network."""

    async def serve(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on to `app`, or refuse it."""
        ...


class Door:
    """Lets in the daemon's own user and root, and keeps agents from steering the chains that run them.

    `running` tells the process ids of the agents now at work. What comes over the network (`state.network`) is `gate`'s
    to judge. A request that is neither from there nor from a known peer is refused.
    """

    def __init__(self, app: ASGIApp, running: Callable[[], Collection[int]], gate: Network) -> None:
        self.app = app
        self.running = running
        self.gate = gate
        self.inherited = os.environ.get(RUN_VARIABLE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401 or 403."""
        assert scope["type"] == "http", "nothing else is served, and nothing passes unchecked"
        state = scope.get("state", {})
        if state.get("network"):
            await self.gate.serve(self.app, scope, receive, send)
            return
        try:
            self.check(state.get("peer"), scope["method"], scope["path"])
        except ForbiddenError as error:
            await problem(error)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def check(self, peer: Peer | None, method: str, path: str) -> None:
        """Raise ForbiddenError unless `peer` may do this."""
        if peer is None:
            raise ForbiddenError("it is not known who asks")
        if peer.uid not in (_ROOT, os.geteuid()):
            remedy = f"Ask as the user the daemon runs as (uid {os.geteuid()}), or as root."
            raise ForbiddenError(f"this daemon belongs to another user (you are uid {peer.uid})", remedy=remedy)
        changing = method not in {"GET", "HEAD"} and not _OPEN_TO_RUNS.fullmatch(path)
        if changing and descends_from(peer.pid, frozenset(self.running()), self.inherited):
            raise ForbiddenError(
                "an agent may read and submit, but not change what it runs under",
                remedy="Run the command from a shell that no agent started.",
            )


def caller_of(peer: Peer, running: Mapping[str, int]) -> Caller:
    """What is to be known of who calls a hook. `running` are the process groups of the runs in progress."""
    pids = {pid: run for run, pid in running.items()}
    run = next((pids[each] for each in _above(peer.pid) if each in pids), None)
    marked = descends_from(peer.pid, pids.keys(), os.environ.get(RUN_VARIABLE))
    return Caller(peer.uid, environ_of(peer.pid), run, marked)


def descends_from(pid: int, running: Collection[int], inherited: str | None = None) -> bool:
    """Whether `pid` is, or comes from, one of the processes `running`, or carries the mark of a run.

    `inherited` is the mark that the daemon itself carries, when it was started inside another daemon's run.
    """
    if pid <= 0:
        return True  # from elsewhere: what cannot be looked at is not trusted
    for above in _above(pid):
        if above is None:
            return True  # gone already
        if above in running or environ_of(above).get(RUN_VARIABLE) not in (None, "", inherited):
            return True
    return False


def _above(pid: int) -> Iterator[int | None]:
    """A process and those it comes from, up to this daemon or the first; None where the line breaks off."""
    above: int | None = pid
    for _ in range(_DEEPEST):
        if above is not None and (above <= 1 or above == os.getpid()):
            return
        yield above
        if above is None:
            return
        above = _parent(above)
    yield None


def _parent(pid: int) -> int | None:
    """The parent's process id, 0 at the top; None when the process is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The program's name stands in parentheses and may hold anything, spaces and parentheses too.
    return int(stat.rpartition(b")")[2].split()[1])


def environ_of(pid: int) -> dict[str, str]:
    """The environment a process was started with; empty when it cannot be read."""
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    pairs = (os.fsdecode(each).partition("=") for each in environ.split(b"\0"))
    return {name: value for name, sign, value in pairs if sign}
