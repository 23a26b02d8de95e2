"""Server-sent events at their reader's pace, and an end to those that nobody reads."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import anyio
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from locum.web.lines import gone, stopped

PATIENCE_S = 30.0
"""How long a reader may take nothing of what is ready for it, until it is hung up on."""


class Stream(Response):
    """`pieces` as they come, until they end, the reader goes away or reads no more, or `stopping` is set.

    No more than one piece waits for a reader: what it does not take in time is not kept for it.
    """

    media_type = "text/event-stream"

    def __init__(self, pieces: AsyncGenerator[bytes, None], stopping: anyio.Event) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self.pieces = pieces
        self.stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything."""
        heard = True
        async with anyio.create_task_group() as tasks, aclosing(self.pieces) as pieces:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            tasks.start_soon(gone, receive, tasks.cancel_scope)
            tasks.start_soon(stopped, self.stopping, tasks.cancel_scope)
            async for each in pieces:
                heard = await _sent(send, {"type": "http.response.body", "body": each, "more_body": True})
                if not heard:
                    break
            tasks.cancel_scope.cancel()
        if heard:
            heard = await _sent(send, {"type": "http.response.body", "body": b"", "more_body": False})
        if not heard and (hang_up := scope.get("state", {}).get("hang_up")):
            hang_up()
            while (await receive())["type"] != "http.disconnect":
                pass


async def _sent(send: Send, message: Message) -> bool:
    """Send a message; False when nobody has taken what was sent before for too long."""
    with anyio.move_on_after(PATIENCE_S) as patience:
        await send(message)
    return not patience.cancelled_caught
