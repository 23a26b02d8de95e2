"""The mock provider's HTTP server: loopback only, HTTP/1.1, and every thread of it ends when it is closed."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.acceptance.provider_steps import Event


class Server(ThreadingHTTPServer):
    """Knows its open connections, so that closing it ends the threads that wait on them."""

    daemon_threads = False  # only then does server_close() join them
    request_queue_size = 128

    def __init__(self, respond: Callable[[Exchange], None]) -> None:
        self.respond = respond
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), Exchange)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Note a new connection, then start its thread."""
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection that ends by itself."""
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Agents are killed in the middle of everything here: a lost connection is no news."""

    def disconnect_all(self) -> None:
        """Wake every thread that reads from or writes to a client."""
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


class Exchange(BaseHTTPRequestHandler):
    """One connection: parses requests, hands each to the server's `respond`, and knows how to answer."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server
    body: Mapping[str, Any]

    def do_POST(self) -> None:
        """Read the body, then answer."""
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            parsed = json.loads(raw or b"{}")
        except ValueError:
            parsed = {}
        self.body = parsed if isinstance(parsed, dict) else {}
        self._respond()

    def do_GET(self) -> None:
        """Answer; there is no body."""
        self.body = {}
        self._respond()

    def do_HEAD(self) -> None:
        """Answer as a GET; the body stays here."""
        self.do_GET()

    def _respond(self) -> None:
        try:
            self.server.respond(self)
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
        """Stay quiet: `Provider.requests` is the log."""

    @property
    def key(self) -> str:
        """The API key or token that came with the request, or an empty string."""
        bearer = (self.headers.get("authorization") or "").removeprefix("Bearer ").strip()
        return self.headers.get("x-api-key") or self.headers.get("x-goog-api-key") or bearer

    def send_json(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        """A whole JSON answer."""
        self.send_bytes(status, json.dumps(body).encode(), "application/json", headers)

    def send_bytes(
        self, status: int, payload: bytes, content_type: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """A whole answer of any type; a HEAD gets its headers only."""
        self.send_response(status)
        self._send_headers({"content-type": content_type, "content-length": str(len(payload)), **(headers or {})})
        if self.command != "HEAD":
            self.wfile.write(payload)

    def start_events(self, headers: Mapping[str, str]) -> None:
        """The headers of an event stream."""
        self.send_response(200)
        self._send_headers({"content-type": "text/event-stream", "transfer-encoding": "chunked", **headers})

    def send_events(self, events: Sequence[Event], *, named: bool = True) -> None:
        """Some events, each one chunk."""
        for name, data in events:
            head = f"event: {name}\n" if named else ""
            payload = f"{head}data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(payload), payload))

    def end_events(self) -> None:
        """The end that tells a whole stream from a cut one."""
        self.wfile.write(b"0\r\n\r\n")

    def is_abandoned(self) -> bool:
        """Whether the other side has hung up, so that nothing sent from here on is read by anyone."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)

    def abort(self) -> None:
        """Drop the connection in the middle of whatever was said."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _send_headers(self, headers: Mapping[str, str]) -> None:
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
