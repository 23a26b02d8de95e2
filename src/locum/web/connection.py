"""One connection: who is at its other end, and bounds on how long and how large what it sends may be."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from locum.web.peer import peer_of
from locum.web.problem import MEDIA_TYPE

HEAD_S = 10.0
"""How long the head of a request may take to come, from the beginning of the connection or of the request."""
BODY_S = 60.0
"""How long its body may take."""
PATIENCE_S = 30.0
"""How long who asks over the network may take nothing of an answer that is more than a buffer full."""
LARGEST_HEAD = 32 << 10
"""Bytes of a request's first line and headers."""
MOST_CONNECTIONS = 700
"""Over the network, at a time; the next are closed as they come."""


class Connection(HttpToolsProtocol):
    """A request that does not come in time, or has no end of headers, is refused, and its connection closed."""

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._timer: Any = None
        self._head = self._fed = 0
        self._in_head = False
        self._refusal: HTTPStatus | None = None
        self.app_state = {**self.app_state, "hang_up": transport.abort}
        self._within(HEAD_S, self._late)

    def data_received(self, data: bytes) -> None:
        """Read what has come, as far as it is not too much."""
        super().data_received(data)
        if self._in_head:
            self._fed += len(data)  # a name or a value without end is not seen by what counts them
            if self._fed > LARGEST_HEAD:
                self._refusal = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
                self.send_400_response("")
        idle = self._timer is None and self.timeout_keep_alive_task is None
        if idle and (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing():
            self._within(HEAD_S, self._late)  # nothing but line ends between two requests

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._head, self._fed, self._in_head = 0, 0, True
        self._within(HEAD_S, self._late)

    def on_url(self, url: bytes) -> None:
        """Some of the path."""
        self._counted(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        self._counted(len(name) + len(value) + len(": \r\n"))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there; now the body."""
        self._in_head = False
        self._within(BODY_S, self._late)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """All of it is there."""
        self._no_timer()
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._no_timer()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request, or too much of one, and close."""
        if self.transport.is_closing():
            return
        status = self._refusal or HTTPStatus.BAD_REQUEST
        self._refuse(
            status, msg if status is HTTPStatus.BAD_REQUEST else f"A request's head has at most {LARGEST_HEAD:,} bytes."
        )

    def _counted(self, size: int) -> None:
        """Count what the parser has read of a head. Raises ValueError, which ends the parsing, when it is too much."""
        self._head += size
        if self._head > LARGEST_HEAD:
            self._refusal = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            raise ValueError("the head is too large")

    def _late(self) -> None:
        """The request has not come in time."""
        self._timer = None
        if self.transport.is_closing():
            return
        if self._in_head and not (self.cycle and not self.cycle.response_complete):
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "The request did not come in time.")
        else:
            self.transport.abort()

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        told = {"type": "about:blank", "title": status.phrase, "status": status.value, "code": "http"}
        body = json.dumps({**told, "detail": detail, "remedy": ""}).encode()
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n"
        self.transport.write(f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)
        self.transport.close()

    def _within(self, seconds: float, otherwise: Callable[[], None]) -> None:
        self._no_timer()
        self._timer = self.loop.call_later(seconds, otherwise)

    def _no_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class SocketConnection(Connection):
    """One on the Unix socket: the application is told who is at the other end, in the scope's `state`."""

    def connection_made(self, transport: Any) -> None:
        """Ask the kernel once a connection."""
        super().connection_made(transport)
        found = transport.get_extra_info("socket")
        with socket.fromfd(found.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            self.app_state = {**self.app_state, "peer": peer_of(connection)}


class NetworkConnection(Connection):
    """One over the network: the application is told that it is; too many are too many, and who does not read goes."""

    def connection_made(self, transport: Any) -> None:
        """Let it in, if there is room."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "network": True}
        self._stalled: Any = None
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()

    def pause_writing(self) -> None:
        """A buffer full waits for the other side."""
        super().pause_writing()
        self._wait(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """It was taken."""
        super().resume_writing()
        self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self, left: int) -> None:
        self._stop_waiting()
        self._stalled = self.loop.call_later(PATIENCE_S, self._look, left)

    def _look(self, before: int) -> None:
        """Hang up on who has taken nothing since."""
        left = self.transport.get_write_buffer_size()
        if left >= before:
            self.transport.abort()
        else:
            self._wait(left)

    def _stop_waiting(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
