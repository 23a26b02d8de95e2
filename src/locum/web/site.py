"""The endpoints of the page: itself, what it is made of, and what the agents at work say."""

from __future__ import annotations

import gzip
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from locum.engine import views
from locum.engine.lately import lately
from locum.engine.supervisor import Supervisor
from locum.errors import NotFoundError
from locum.page.assets import ASSETS, FOREVER
from locum.page.scene import LINES
from locum.page.whole import whole
from locum.page.work import Where
from locum.web.endpoint import Scope
from locum.web.look import look

HTML = "text/html; charset=utf-8"


class Site:
    """Each method is one endpoint."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor

    async def page(self, request: Request, **asked: str | None) -> Response:
        """The dashboard as it is now."""
        where = Where(*(asked[name] or "" for name in ("chain", "tasks", "cursor", "task")))
        seen = await look(self.supervisor, where, steers=_steers(request))
        body = whole(seen, request.cookies.get("theme", "")).encode("utf-8", "replace")
        return _sent(request, body, None, HTML, "no-store")

    async def asset(self, request: Request) -> Response:
        """A file that the page is made of."""
        name = request.path_params["name"]
        found = ASSETS.files.get(name)
        if found is None:
            raise NotFoundError(f"the page has no file {name}", remedy="Load the page again.")
        current = request.path_params["version"] == ASSETS.version
        return _sent(request, found.body, found.packed, found.media, FOREVER if current else "no-store")

    async def said(self, request: Request, *, after: int) -> dict[str, Any]:
        """What the agent at work on a task has said behind a byte of its output, in lines for people."""
        runs = await self.supervisor.ledger.runs(request.path_params["id"])
        if not runs:
            raise NotFoundError(f"task {request.path_params['id']} has no attempt yet", remedy="Ask again later.")
        found = lately(self.supervisor, runs[-1], after, LINES)
        return {"schema": views.SCHEMA, "run": runs[-1].number, "lines": found.lines, "after": found.after}


def _steers(request: Request) -> bool:
    """Whether who asks may change something: not with a token that may only read."""
    token = getattr(request.state, "token", None)
    return token is None or token.scope == Scope.OPERATE


def _sent(request: Request, body: bytes, packed: bytes | None, media: str, keep: str) -> Response:
    """An answer, compressed for who takes that."""
    headers = {"cache-control": keep, "vary": "accept-encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(
            gzip.compress(body, 5, mtime=0) if packed is None else packed,
            headers={**headers, "content-encoding": "gzip"},
            media_type=media,
        )
    return Response(body, headers=headers, media_type=media)
