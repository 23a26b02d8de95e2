"""TCP, when `http.listen` asks for it: opened, moved and closed as service.json says, and guarded by a gate."""

from __future__ import annotations

import errno
import socket
from functools import partial
from html import escape
from typing import Any

import anyio
import structlog
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from locum.config.http import HttpEntry, address_of
from locum.engine.supervisor import Supervisor
from locum.errors import ForbiddenError, LocumError
from locum.web.connection import NetworkConnection
from locum.web.gate import Gate, guarded
from locum.web.lines import stopped
from locum.web.listener import serve
from locum.web.problem import UnauthorizedError, problem
from locum.web.tokens import Tokens

log = structlog.get_logger(__name__)

AGAIN_S = 5.0
"""After how long an address that could not be had is tried again."""
_LOOK_S = 300.0
_BACKLOG = 512
_PAGE = "<!doctype html><html lang=en><meta charset=utf-8><title>locum</title><h1>{0}</h1><p>{1}</p></html>"
_WHY = {
    errno.EADDRINUSE: "another program listens there already",
    errno.EADDRNOTAVAIL: "this host has no such address",
    errno.EACCES: "this user may not listen on so low a port",
}


class ListenError(LocumError):
    """The address in `http.listen` cannot be listened on."""

    code = "listen"
    exit_code = 1
    status = 409


class Network:
    """The face over TCP. `address` is where it listens now, `problem` why it does not although it shall."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        self.tokens = Tokens(supervisor.state / "tokens.json", supervisor.clock, supervisor.worker)
        self.gate = Gate(self.tokens)
        self.address: tuple[str, int] | None = None
        self.problem: ListenError | None = None
        self.refused = 0
        """How many requests the gate has refused."""

    @property
    def wanted(self) -> HttpEntry | None:
        """What service.json says now."""
        return self.supervisor.loaded.service.http

    @property
    def url(self) -> str | None:
        """Where a browser reaches it; None while it does not listen."""
        if self.address is None:
            return None
        if self.wanted is not None and self.wanted.url:
            return self.wanted.url
        host, port = self.address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def standing(self) -> dict[str, Any]:
        """How it stands, for the status."""
        return {
            "listen": self.wanted.listen if self.wanted else None,
            "url": self.url,
            "problem": str(self.problem) if self.problem else None,
        }

    async def run(self, app: Starlette, stop: anyio.Event) -> None:
        """Listen as service.json says, whenever that changes, until `stop`."""
        while not stop.is_set():
            wanted = self._listens
            if wanted is None:
                self.problem = None
                await self._changed(wanted, stop)
            else:
                await self._listen(app, wanted, stop)

    @property
    def _listens(self) -> str | None:
        return self.wanted.listen if self.wanted else None

    async def _listen(self, app: Starlette, wanted: str, stop: anyio.Event) -> None:
        """Listen on an address until another is wanted; where it cannot be had, say so and wait a while."""
        try:
            listening = bind(wanted)
        except ListenError as error:
            if str(error) != str(self.problem):
                log.error("cannot_listen", listen=wanted, error=str(error))  # noqa: TRY400 - a sentence, not a bug
            self.problem = error
            with anyio.move_on_after(AGAIN_S):
                await self._changed(wanted, stop)
            return
        self.problem, over = None, anyio.Event()
        self.address = listening.getsockname()[:2]
        log.info("listening", url=self.url)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(serve, app, listening, _no_news, over, NetworkConnection, ends_streams=False))
                await self._changed(wanted, stop)
                over.set()
        finally:
            self.address = None

    async def _changed(self, wanted: str | None, stop: anyio.Event) -> None:
        """Return when service.json wants another address, or `stop` is set."""
        bell = self.supervisor.bell
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stopped, stop, tasks.cancel_scope)
            while wanted == self._listens:
                await bell.wait(bell.heard(), _LOOK_S)
            tasks.cancel_scope.cancel()

    async def serve(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request over the network on to `app`, or refuse it; either way with strict headers."""

        async def strict(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": guarded(list(message["headers"]))}
            await send(message)

        try:
            token = self.gate.granted(self.wanted, scope["method"], scope["path"], Headers(scope=scope))
        except (ForbiddenError, UnauthorizedError) as error:
            self.refused += 1
            await _refused(error, scope)(scope, receive, strict)
            return
        scope["state"]["token"] = token
        if token is None:
            await app(scope, receive, strict)
            return
        with self.tokens.life(token) as life:
            scope["state"]["life"] = life
            await app(scope, receive, strict)
        if life.cancelled_caught:
            scope["state"]["hang_up"]()
            while (await receive())["type"] != "http.disconnect":
                pass
        await self.tokens.save_uses()


def bind(listen: str) -> socket.socket:
    """A listening socket at an address such as `127.0.0.1:8321`. Raises ListenError, saying what stands in the way."""
    host, port = address_of(listen)
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        why = _WHY.get(error.errno or 0, error.strerror)
        remedy = f"Choose another `http.listen`; until then it is tried again every {AGAIN_S:g} s."
        raise ListenError(f"nothing can listen at {listen}: {why}", remedy=remedy) from error
    return listening


def _refused(error: ForbiddenError | UnauthorizedError, scope: Scope) -> Response:
    """The refusal; a browser that opens the dashboard without a login reads how to get one."""
    asks = {"www-authenticate": "Bearer"} if isinstance(error, UnauthorizedError) else {}
    if "text/html" in Headers(scope=scope).get("accept", ""):
        return HTMLResponse(_PAGE.format(*map(escape, error.sentences())), error.status, headers=asks)
    told = problem(error)
    told.headers.update(asks)
    return told


def _no_news() -> None:
    """Ready: nobody waits for that."""
