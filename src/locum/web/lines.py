"""A response that goes on: one JSON object a line, for as long as there is something to tell."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send


class Lines(Response):
    """Newline-delimited JSON at the reader's pace: the next object is not asked for before the last is sent.

    Each has the keys of `common` beside its own. It ends when `objects` do, when the reader goes
    away, or when `stopping` is set.
    """

    media_type = "application/x-ndjson"

    def __init__(
        self, common: Mapping[str, Any], objects: AsyncGenerator[dict[str, Any], None], stopping: anyio.Event
    ) -> None:
        super().__init__()
        del self.headers["content-length"]
        self.common = common
        self.objects = objects
        self.stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's shape
        """Send everything."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with anyio.create_task_group() as tasks, aclosing(self.objects) as objects:
            tasks.start_soon(gone, receive, tasks.cancel_scope)
            tasks.start_soon(stopped, self.stopping, tasks.cancel_scope)
            async for each in objects:
                line = json.dumps({**self.common, **each}, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
                await send({"type": "http.response.body", "body": line, "more_body": True})
            tasks.cancel_scope.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def gone(receive: Receive, scope: anyio.CancelScope) -> None:
    """Cancel the scope when the caller has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def stopped(stopping: anyio.Event, scope: anyio.CancelScope) -> None:
    """Cancel the scope when the daemon stops."""
    await stopping.wait()
    scope.cancel()
