"""A supervisor with a real ledger, and requests to its application without a socket."""

from __future__ import annotations

import json
import os
from contextlib import asynccontextmanager

import anyio

from locum.agents.registry import AGENTS
from locum.clock import SystemClock
from locum.config.load import load
from locum.config.reload import Reloader
from locum.engine.process import SystemProcesses
from locum.engine.supervisor import Supervisor
from locum.store.ledger import Ledger
from locum.store.worker import InlineWorker
from locum.web.peer import Peer

ME = Peer(os.getpid(), os.geteuid())
CONFIG = {
    "usage_threshold_tokens": 5000,
    "failover": {
        "tiers": [
            {"name": "one", "agent": "command", "command": ["true"]},
            {"name": "two", "agent": "command", "command": ["true"]},
        ]
    },
    "chains": {"side": {"tiers": ["two"], "triggers": ["auth_error"]}},
}


@asynccontextmanager
async def supervised(folder, config=CONFIG):
    """A supervisor whose loop does not run: it takes orders, and starts nothing."""
    path = folder / "service.json"
    path.write_text(json.dumps(config))
    environ = {"HOME": str(folder), "TZ": "UTC"}
    loaded = load(path, environ)
    clock = SystemClock()
    ledger = await Ledger.open(folder / "locum.db", loaded.plan, clock.now_ms(), InlineWorker())
    try:
        yield Supervisor(
            ledger=ledger,
            reloader=Reloader(loaded, environ),
            agents_for=lambda _: AGENTS,
            clock=clock,
            processes=SystemProcesses(),
            state=folder,
            environ=environ,
        )
    finally:
        await ledger.close()


class Caller:
    """Asks an ASGI application as `peer`."""

    def __init__(self, app, peer=ME):
        self.app = app
        self.peer = peer

    async def get(self, path, query=""):
        """Status and JSON of a question."""
        return await self.ask("GET", path, query=query)

    async def post(self, path, body=None, headers=None):
        """Status and JSON of an order; `body` is bytes or what to write as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        return await self.ask("POST", path, data, headers=headers)

    async def ask(self, method, path, body=b"", query="", headers=None):
        """Status and JSON of any request."""
        messages = []
        await self.stream(method, path, messages.append, body, query, headers=headers)
        data = b"".join(message.get("body", b"") for message in messages)
        return messages[0]["status"], json.loads(data or b"null")

    async def stream(self, method, path, take, body=b"", query="", gone=None, headers=None, hang_up=None, deaf=False):
        """Hand every message of the answer to `take`; `gone` is set when the caller hangs up.

        `hang_up` is called when the server does; `deaf`: nothing of the body is ever taken.
        """
        state = {} if self.peer is None else {"peer": self.peer}
        state |= {"hang_up": hang_up} if hang_up else {}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
            "root_path": "",
            "state": state,
        }
        pieces = [body[at : at + 65536] for at in range(0, len(body), 65536)] or [b""]

        async def receive():
            if pieces:
                return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}
            await (gone or anyio.Event()).wait()
            return {"type": "http.disconnect"}

        async def send(message):
            if deaf and "body" in message:
                await anyio.sleep_forever()
            take(message)

        await self.app(scope, receive, send)
