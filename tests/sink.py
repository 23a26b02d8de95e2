"""A real HTTP server on loopback that takes notices, and can be as bad as any."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

LARGEST = 1 << 20


@dataclass(frozen=True)
class Post:
    """One request that came in."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def json(self) -> dict[str, Any]:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def id(self) -> str:
        """Which message it was."""
        return self.headers["webhook-id"]


Answer = Callable[[socket.socket, Post], None]


def answers(status: int = 204, body: bytes = b"", **headers: str) -> Answer:
    """A whole answer."""
    told = {name.replace("_", "-"): value for name, value in headers.items()} | {"content-length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    return lambda to, _: to.sendall(f"HTTP/1.1 {status} Said\r\n{head}\r\n".encode() + body)


@dataclass
class Sink:
    """Takes requests one connection after another, each in a thread; `answer` is what it does with the next."""

    answer: Answer = field(default_factory=answers)
    posts: list[Post] = field(default_factory=list)
    connections: int = 0

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._listener.getsockname()[1]
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def ids(self) -> list[str]:
        """The id of each request, in order."""
        return [post.id for post in self.posts]

    def channel(self, name: str = "ops", **more: Any) -> dict[str, Any]:
        """An entry of `notify` that leads here."""
        return {"name": name, "type": "webhook", "url": self.url, "allow_private": ["127.0.0.1"], **more}

    def wait(self, count: int, timeout: float = 10) -> list[Post]:
        """The requests, once there are so many."""
        end = time.monotonic() + timeout
        while len(self.posts) < count:
            assert time.monotonic() < end, f"{len(self.posts)} of {count} requests have come"
            time.sleep(0.005)
        return self.posts

    def close(self) -> None:
        """Take no more."""
        self._closed.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while not self._closed.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._take, args=(connection,), daemon=True).start()

    def _take(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(30)
            try:
                post = _read(connection)
                if post is not None:
                    self.posts.append(post)
                    self.answer(connection, post)
            except OSError:
                pass  # whoever asked has hung up


def _read(connection: socket.socket) -> Post | None:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", "0"))
    assert length < LARGEST
    while len(body) < length:
        more = connection.recv(65536)
        if not more:
            return None
        body += more
    return Post(first.split(" ")[1], headers, body, time.monotonic())


@contextmanager
def sink(answer: Answer | None = None) -> Iterator[Sink]:
    """A sink that is closed whatever happens."""
    made = Sink(answer or answers())
    try:
        yield made
    finally:
        made.close()
