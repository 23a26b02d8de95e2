"""One question to the daemon that is rehearsed with, without blocking the stand-ins that talk at the same time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio

from locum.errors import UnreachableError

Json = dict[str, Any]
LONGEST = 15.0
"""Seconds that an answer may take."""


async def ask(socket: Path, method: str, path: str, body: Json | None = None) -> tuple[int, Json]:
    """The status and the JSON of the answer.

    Raises:
        UnreachableError: nobody answers there, not in time, or not in HTTP.

    """
    data = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nhost: locum\r\nconnection: close\r\ncontent-length: {len(data)}\r\n"
    kind = "content-type: application/json\r\n" if data else ""
    try:
        with anyio.fail_after(LONGEST):
            stream = await anyio.connect_unix(socket)
            async with stream:
                await stream.send(f"{head}{kind}\r\n".encode() + data)
                told = b"".join([piece async for piece in stream])
        top, _, rest = told.partition(b"\r\n\r\n")
        return int(top.split(b" ", 2)[1]), json.loads(rest)
    except (OSError, TimeoutError, anyio.BrokenResourceError, ValueError, IndexError) as error:
        raise UnreachableError(f"the rehearsed daemon does not answer {method} {path} ({error!r})") from error
