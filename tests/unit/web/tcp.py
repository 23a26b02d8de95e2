"""A supervisor that listens over TCP, and requests to it byte by byte."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager

import anyio

from locum.web.app import build
from tests.unit.web.asgi import CONFIG, Caller, supervised


class Wire:
    """What is sent to a daemon that listens, as raw as it gets."""

    def __init__(self, boss, app):
        self.boss = boss
        self.app = app
        self.local = Caller(app)
        self.network = app.state.network

    @property
    def port(self):
        """Where it listens now."""
        return self.network.address[1]

    async def token(self, scope="operate", name="mine"):
        """A new token's secret."""
        status, made = await self.local.post("/tokens", {"name": name, "scope": scope})
        assert status == 201, made
        return made["token"]

    async def ask(self, method, path, token=None, body=None, **headers):
        """Status, headers and JSON (or text) of a request; an underscore in a header's name is a dash."""
        given = {"host": f"127.0.0.1:{self.port}", "connection": "close"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            given["authorization"] = f"Bearer {token}"
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        if body is not None:
            given["content-length"] = str(len(data))
        head = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value is not None)
        return parsed(await self.raw(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + data))

    async def raw(self, data, seconds=10.0):
        """All that is answered to some bytes, until the daemon closes."""
        with anyio.fail_after(seconds):
            async with await anyio.connect_tcp("127.0.0.1", self.port) as stream:
                await stream.send(data)
                return await rest(stream)


async def rest(stream):
    """What comes until the other side closes, however it does."""
    found = b""
    try:
        while True:
            found += await stream.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        return found


def parsed(answer):
    """Status, headers and body of one answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(": ")
        headers[name.lower()] = value
    if headers.get("transfer-encoding") == "chunked":
        body = unchunked(body)
    if "json" in headers.get("content-type", ""):
        return int(first.split()[1]), headers, json.loads(body)
    return int(first.split()[1]), headers, body.decode()


def unchunked(body):
    """A chunked body as one."""
    found = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        found, body = found + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return found


@asynccontextmanager
async def listening(folder, listen="127.0.0.1:0", **more):
    """A supervisor whose application listens over TCP."""
    async with supervised(folder, CONFIG | {"http": {"listen": listen, **more}}) as boss:
        app, stop = build(boss), anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(app.state.feed.run)
            tasks.start_soon(app.state.network.run, app, stop)
            try:
                with anyio.fail_after(5):
                    while app.state.network.address is None and app.state.network.problem is None:  # noqa: ASYNC110
                        await anyio.sleep(0.005)
                yield Wire(boss, app)
            finally:
                app.state.stopping.set()
                stop.set()
                boss.stop()
