"""A server on a Unix socket that takes any request whole and answers nothing, at once: `204 No Content`."""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import httptools
import uvloop

NOTHING = b"HTTP/1.1 204 No Content\r\n\r\n"


class Quiet(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to listen."""
        self.transport = cast("asyncio.Transport", transport)
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        """A request is whole."""
        self.transport.write(NOTHING)


async def serve(path: str) -> None:
    """Answer until killed."""
    server = await asyncio.get_running_loop().create_unix_server(Quiet, path)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
