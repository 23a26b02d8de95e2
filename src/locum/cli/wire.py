"""Just enough HTTP/1.1 for one question on a Unix socket: the standard client takes longer to import than to answer."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

_LONGEST_LINE = 64 << 10


class WireError(Exception):
    """What came over the socket is not an answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer whose body is still to be read. `length` None: it comes in chunks, or until the end."""

    status: int
    stream: IO[bytes]
    length: int | None
    chunked: bool

    def body(self) -> bytes:
        """The whole body. Raises WireError when it was cut off."""
        return b"".join(self.pieces())

    def lines(self) -> Iterator[bytes]:
        """The body by lines, as they come; a last one without its newline is left out."""
        rest = b""
        for piece in self.pieces():
            *whole, rest = (rest + piece).split(b"\n")
            yield from whole

    def pieces(self) -> Iterator[bytes]:
        """The body as it comes, once. Raises WireError when it was cut off."""
        with self.stream as stream:
            if not self.chunked:
                yield _exactly(stream, self.length) if self.length is not None else stream.read()
                return
            while size := _number(_line(stream).split(b";")[0], 16):
                yield _exactly(stream, size)
                _line(stream)


def ask(connection: socket.socket, method: str, path: str, body: bytes | None) -> Answer:
    """Send one request and read the head of its answer. Raises WireError and OSError."""
    head = [f"{method} {path} HTTP/1.1", "host: locum", "connection: close"]
    if body is not None:
        head += ["content-type: application/json", f"content-length: {len(body)}"]
    # A large body may be refused before it has all been read: the answer then says why.
    with contextlib.suppress(BrokenPipeError):
        connection.sendall("\r\n".join([*head, "", ""]).encode("ascii") + (body or b""))
    stream = connection.makefile("rb")
    try:
        return _head(stream)
    except BaseException:
        stream.close()
        raise


def _head(stream: IO[bytes]) -> Answer:
    status = _number(b"".join(_line(stream).split(b" ", 2)[1:2]), 10)
    headers: dict[bytes, bytes] = {}
    while line := _line(stream):
        name, _, value = line.partition(b":")
        headers[name.strip().lower()] = value.strip().lower()
    length = headers.get(b"content-length")
    chunked = headers.get(b"transfer-encoding") == b"chunked"
    return Answer(status, stream, None if length is None else _number(length, 10), chunked)


def _line(stream: IO[bytes]) -> bytes:
    line = stream.readline(_LONGEST_LINE)
    if not line.endswith(b"\n"):
        raise WireError("the answer was cut off")
    return line.rstrip(b"\r\n")


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise WireError("the answer was cut off")
    return data


def _number(text: bytes, base: int) -> int:
    try:
        return int(text, base)
    except ValueError:
        raise WireError("that is no HTTP") from None
