"""The only place that talks to the network outside: one POST to a checked address, bounded in time and size."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol

import anyio
import httptools
from anyio.abc import ByteStream
from anyio.streams.tls import TLSStream

from locum.policy.address import Allowed, Url

SECONDS = 15.0
"""How long one POST may take in all."""
LINGER = 1.0
"""Seconds that are waited for the rest of an answer whose status is known."""
LARGEST_ANSWER = 64 << 10
"""Bytes of an answer that are read at most."""
KEPT = 2 << 10
"""Bytes of its body that are kept: its beginning."""


class NotSentError(Exception):
    """Why a request was not sent, or not answered: one sentence without secrets."""


class RefusedError(NotSentError):
    """Where the request was to go, nothing is sent."""


class Net(Protocol):
    """Names and connections."""

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """The addresses of a host. Raises OSError."""
        ...

    async def connect(self, address: str, port: int, tls: str | None) -> ByteStream:
        """A connection to exactly that address; `tls` is the name that its certificate must have. Raises OSError."""
        ...


class SystemNet:
    """The host's network."""

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """The addresses of a host, as the host's resolver knows them."""
        found = await anyio.getaddrinfo(host, port, type=1)  # 1: streams
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    async def connect(self, address: str, port: int, tls: str | None) -> ByteStream:
        """A connection to that address."""
        stream = await anyio.connect_tcp(address, port)
        if tls is None:
            return stream
        try:
            return await TLSStream.wrap(
                stream, server_side=False, hostname=tls, ssl_context=_trust(), standard_compatible=False
            )
        except BaseException:
            await anyio.aclose_forcefully(stream)
            raise


@cache
def _trust() -> ssl.SSLContext:
    """The host's certificates, read when they are needed first."""
    return ssl.create_default_context()


@dataclass(slots=True)
class Reply:
    """The answer to a POST, as far as it was read; also what the parser of it fills in."""

    status: int = 0
    retry_after: str | None = None
    body: bytearray = field(default_factory=bytearray)
    complete: bool = False
    parser: httptools.HttpResponseParser | None = None

    def on_message_begin(self) -> None:
        """A new answer: those of status 100 to 199 only announce another."""
        self.retry_after = None

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        if name.lower() == b"retry-after":
            self.retry_after = value.decode("latin-1").strip()

    def on_headers_complete(self) -> None:
        """The status is known."""
        assert self.parser is not None, "it parses"
        code = self.parser.get_status_code()
        self.status = code if code >= 200 else 0

    def on_body(self, data: bytes) -> None:
        """Some of the body."""
        self.body += data[: KEPT - len(self.body)]

    def on_message_complete(self) -> None:
        """The answer is over, unless it only announced another."""
        self.complete = self.status > 0

    @property
    def line(self) -> str:
        """The first line of the body that says something."""
        lines = (line.strip() for line in self.body.decode("utf-8", "replace").splitlines())
        return next((line for line in lines if line), "")


async def post(
    net: Net, url: Url, headers: Mapping[str, str], body: bytes, allowed: Allowed, seconds: float = SECONDS
) -> Reply:
    """POST `body`, once, to an address that may be sent to; redirects are answers like any other.

    Raises:
        RefusedError: the host, or an address it leads to, is not public and not allowed.
        NotSentError: it could not be reached, or has not answered in time.

    """
    reply = Reply()
    with anyio.move_on_after(seconds):
        addresses = await _checked(net, url, allowed)
        stream = await _connected(net, url, addresses)
        try:
            await stream.send(_request(url, headers, body))
            await _read(stream, reply)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as error:
            if not reply.status:
                raise NotSentError(f"the connection broke ({_why(error)})") from error
        except httptools.HttpParserError as error:
            raise NotSentError("what came back is no HTTP") from error
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.aclose_forcefully(stream)
    if not reply.status:
        raise NotSentError(f"no answer came within {seconds:g} s")
    return reply


async def _checked(net: Net, url: Url, allowed: Allowed) -> Sequence[str]:
    """The addresses of a host: all of them may be connected to, or none."""
    try:
        addresses = [url.host] if url.is_address else await net.resolve(url.host, url.port)
    except OSError as error:
        raise NotSentError(f"{url.host} cannot be resolved ({_why(error)})") from error
    if not addresses:
        raise NotSentError(f"{url.host} has no address")
    for address in addresses:
        if why := allowed.refusal(url.host, address):
            raise RefusedError(f"{why}; name it in `allow_private` if it shall be sent to")
    return addresses


async def _connected(net: Net, url: Url, addresses: Sequence[str]) -> ByteStream:
    """A connection to the first of the checked addresses that takes one. No name is asked for again."""
    trouble: list[str] = []
    for address in addresses:
        try:
            with anyio.fail_after(SECONDS / (len(addresses) + 1)):  # one that is silent leaves time for the others
                return await net.connect(address, url.port, url.host if url.scheme == "https" else None)
        except (OSError, anyio.BrokenResourceError, anyio.EndOfStream) as error:
            trouble.append(f"{address}: {_why(error)}")
    raise NotSentError(f"{url.host} cannot be connected to ({'; '.join(trouble)})")


def _request(url: Url, headers: Mapping[str, str], body: bytes) -> bytes:
    told = {"host": url.authority, **headers, "content-length": str(len(body)), "connection": "close"}
    head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    return f"POST {url.target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body


async def _read(stream: ByteStream, reply: Reply) -> None:
    """Read until the answer is over, is known to be long, or says no more."""
    parser = reply.parser = httptools.HttpResponseParser(reply)
    taken = 0
    with anyio.CancelScope() as scope:
        while not reply.complete and taken < LARGEST_ANSWER:
            try:
                data = await stream.receive()
            except anyio.EndOfStream:
                break
            taken += len(data)
            parser.feed_data(data)
            if reply.status and scope.deadline == float("inf"):
                scope.deadline = anyio.current_time() + LINGER
    if not reply.status:
        raise NotSentError(
            "the connection was closed before an answer" if taken < LARGEST_ANSWER else "the answer has no end"
        )


def _why(error: BaseException) -> str:
    """What an error of the system says, in its own few words."""
    causes = [error, error.__cause__, *getattr(error.__cause__, "exceptions", ())]
    told = [getattr(each, "strerror", None) for each in causes] + [str(error)]
    return next((text for text in told if text), type(error).__name__)[:200]
