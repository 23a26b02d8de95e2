"""Who is calling, and what they may do."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from locum.engine.process import RUN_VARIABLE
from locum.errors import ForbiddenError
from locum.web.problem import problem

_ROOT = 0
_DEEPEST = 512
_OPEN_TO_RUNS = frozenset({"/tasks"})
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


class Door:
    """Lets in the daemon's own user and root, and keeps agents from steering the chains that run them.

    `running` tells the process ids of the agents now at work. A request without a known peer is refused.
    """

    def __init__(self, app: ASGIApp, running: Callable[[], Collection[int]]) -> None:
        self.app = app
        self.running = running
        self.inherited = os.environ.get(RUN_VARIABLE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 403."""
        assert scope["type"] == "http", "nothing else is served, and nothing passes unchecked"
        try:
            self.check(scope.get("state", {}).get("peer"), scope["method"], scope["path"])
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
        changing = method not in {"GET", "HEAD"} and path not in _OPEN_TO_RUNS
        if changing and descends_from(peer.pid, frozenset(self.running()), self.inherited):
            raise ForbiddenError(
                "an agent may read and submit, but not change what it runs under",
                remedy="Run the command from a shell that no agent started.",
            )


def descends_from(pid: int, running: Collection[int], inherited: str | None = None) -> bool:
    """Whether `pid` is, or comes from, one of the processes `running`, or carries the mark of a run.

    `inherited` is the mark that the daemon itself carries, when it was started inside another daemon's run.
    """
    above: int | None = pid or None
    for _ in range(_DEEPEST):
        if above is None:
            return True  # gone already, or from elsewhere: what cannot be looked at is not trusted
        if above <= 1 or above == os.getpid():
            return False
        if above in running or _mark(above) not in (None, "", inherited):
            return True
        above = _parent(above)
    return True


def _parent(pid: int) -> int | None:
    """The parent's process id, 0 at the top; None when the process is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The program's name stands in parentheses and may hold anything, spaces and parentheses too.
    return int(stat.rpartition(b")")[2].split()[1])


def _mark(pid: int) -> str | None:
    """The run that the process says it belongs to."""
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    prefix = f"{RUN_VARIABLE}=".encode()
    return next((os.fsdecode(each[len(prefix) :]) for each in environ.split(b"\0") if each.startswith(prefix)), None)
