"""What an endpoint is: a path, what may be asked, what is answered. Routes and the OpenAPI page are made of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from locum.errors import ForbiddenError, LocumError
from locum.web.bodies import Body
from locum.web.query import Query

JSON = "application/json"
SSE = "text/event-stream"
PLAIN = "text/plain"
NDJSON = "application/x-ndjson"
HOOK: Literal["hook"] = "hook"
"""The body of an agent's own hook: any JSON object."""


class Scope(StrEnum):
    """Who may ask over the network. What is `LOCAL` is answered on the socket only, `OPEN` without a token."""

    READ = "read"
    OPERATE = "operate"
    LOCAL = "local"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Told:
    """An answer with more to it than its value: headers, or another status than the endpoint's."""

    value: Any
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[..., Awaitable[Any]]
"""Takes the request and, by name, what its query asks; returns what is to be encoded, a `Told`, or a whole response."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one path. `answer` is the type of a JSON answer: what it does not describe is never sent.

    `media` are the media types of answers that are no JSON, `body` the order that may be sent with it, `errors` the
    refusals of its own, `headers` what its answers may carry beside the usual, and `matched`: it heeds If-Match.
    """

    method: str
    path: str
    handler: Handler
    answer: Any = None
    scope: Scope = Scope.READ
    query: Sequence[Query] = ()
    body: type[Body] | Literal["hook"] | None = None
    status: HTTPStatus = HTTPStatus.OK
    media: Sequence[str] = ()
    errors: Sequence[type[LocumError]] = ()
    headers: Sequence[str] = ()
    matched: bool = False

    @property
    def route(self) -> Route:
        """The same for the router."""
        return Route(self.path, self.respond, methods=[self.method])

    async def respond(self, request: Request) -> Response:
        """Read what is asked, have it answered, and encode that. Raises UsageError for a query that makes no sense."""
        if self.scope is Scope.LOCAL and getattr(request.state, "network", False):
            raise ForbiddenError("that is answered on the daemon's socket only", remedy="Ask on its own host.")
        asked = {each.key: each.read(request) for each in self.query}
        told = await self.handler(request, **asked)
        if isinstance(told, Response):
            return told
        value, headers = (told.value, told.headers) if isinstance(told, Told) else (told, {})
        body = value if isinstance(value, bytes) else encode(value, self.answer)
        return Response(body, self.status, headers, JSON)


def encode(value: Any, shape: Any) -> bytes:
    """`value` as the JSON of `shape`. Raises msgspec.ValidationError where it has other keys or types."""
    return msgspec.json.encode(msgspec.convert(value, shape, from_attributes=False))
