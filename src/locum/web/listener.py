"""The Unix socket: bound so that nobody else can reach it, and served on the daemon's own event loop."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable, Generator
from pathlib import Path

import anyio
import structlog
import uvicorn
from starlette.applications import Starlette

from locum.errors import ConflictError, LocumError, StateError
from locum.web.connection import Connection, SocketConnection

log = structlog.get_logger(__name__)

LONGEST_PATH = 107
"""Bytes of a socket's path that the kernel takes."""

LOOK_EVERY_S = 2.0
"""How often the socket is looked for at its path."""

_PRIVATE = 0o177
_BACKLOG = 4096
_GRACE_S = 2
_TICK_S = 1


def bind(path: Path) -> socket.socket:
    """A listening socket at `path` that only this user can open; a dead daemon's socket is replaced.

    Raises StateError when the path is too long, is something else or cannot be made; ConflictError when another
    daemon answers there.
    """
    if len(os.fsencode(path)) > LONGEST_PATH:
        detail = f"the socket's path is longer than {LONGEST_PATH} bytes: {path}"
        raise StateError(detail, remedy="Choose a shorter one with --socket or $LOCUM_SOCKET.")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _clear(path)
        return _listen(path)
    except OSError as error:
        detail = f"the socket {path} cannot be made: {error.strerror}"
        raise StateError(detail, remedy="Choose another place with --socket or $LOCUM_SOCKET.") from error


def _clear(path: Path) -> None:
    """Make way at `path`, if what is there is a socket that nobody serves any more."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a link" if stat.S_ISLNK(mode) else "a file"
        detail = f"the socket belongs at {path}, but {kind} is there"
        raise StateError(detail, remedy="Move it away, or choose another place with --socket or $LOCUM_SOCKET.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        answer = probe.connect_ex(os.fspath(path))
    # A daemon too busy to accept (EAGAIN), or another user's (EACCES), is alive: only a refusal proves death.
    if answer not in (errno.ECONNREFUSED, errno.ENOENT):
        raise ConflictError(f"another daemon serves {path}", remedy="Stop it first, or give this one its own --state.")
    path.unlink(missing_ok=True)


def _listen(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(_PRIVATE)
        try:
            listening.bind(os.fspath(path))
        finally:
            os.umask(before)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


def identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of what is at `path`; None when nothing is."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino)


def remove(path: Path, mine: tuple[int, int] | None) -> None:
    """Take the socket away again, unless another daemon's has taken its place; `mine` is its `identity`."""
    if mine is not None and identity(path) == mine:
        path.unlink(missing_ok=True)


class _Server(uvicorn.Server):
    """A server that leaves signals to the daemon, and says when it takes requests."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], stop: anyio.Event) -> None:
        super().__init__(config)
        self.ready = ready
        self.stop = stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self.ready()

    async def main_loop(self) -> None:
        """Keep the time that answers are dated with, until told to stop. Its own loop would wake ten times a second."""
        while not await self.on_tick(0):
            with anyio.move_on_after(_TICK_S):
                await self.stop.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Capture nothing."""
        yield


async def keep(
    app: Starlette, path: Path, listening: socket.socket, ready: Callable[[], None], stop: anyio.Event
) -> None:
    """`serve`, and listen at `path` again whenever the socket there was taken away. Removes it in the end."""
    mine = identity(path)
    refused = ""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve, app, listening, ready, stop)
        try:
            while not stop.is_set():
                with anyio.move_on_after(LOOK_EVERY_S):
                    await stop.wait()
                if stop.is_set() or identity(path) == mine:
                    continue
                try:
                    again = bind(path)
                except LocumError as error:
                    if str(error) != refused:
                        log.error("socket_lost", error=str(error))  # noqa: TRY400 - a sentence, not a bug
                    refused = str(error)
                    continue
                mine, refused = identity(path), ""
                log.warning("socket_made_again", socket=str(path))
                tasks.start_soon(serve, app, again, _no_news, stop)
        finally:
            remove(path, mine)


def _no_news() -> None:
    """Ready a second time: nobody waits for that."""


async def serve(
    app: Starlette,
    listening: socket.socket,
    ready: Callable[[], None],
    stop: anyio.Event,
    connection: type[Connection] = SocketConnection,
    *,
    ends_streams: bool = True,
) -> None:
    """Answer on `listening` until `stop` is set; `ready` is called once requests are taken. Closes `listening`.

    `ends_streams`: with it all streams of the application end, and not only those over this socket.
    """
    config = uvicorn.Config(
        app,
        http=connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=_GRACE_S,
    )
    server = _Server(config, ready, stop)

    async def watch() -> None:
        await stop.wait()
        if ends_streams:
            app.state.stopping.set()
        server.should_exit = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        await server.serve([listening])
        tasks.cancel_scope.cancel()
