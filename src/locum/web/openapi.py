"""The OpenAPI page, made of the same table as the routes: neither can say what the other does not do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from pydantic.json_schema import models_json_schema
from starlette.requests import Request

from locum import __version__
from locum.errors import ForbiddenError, LocumError, StateError, UsageError
from locum.web.endpoint import HOOK, JSON, SSE, Endpoint, Scope
from locum.web.problem import MEDIA_TYPE, TooLargeError, UnauthorizedError
from locum.web.shapes import Refusal

_REF = "#/components/schemas/{name}"
_ALWAYS: tuple[type[LocumError], ...] = (UnauthorizedError, ForbiddenError, StateError)
_ABOUT = (
    "The daemon that keeps coding agents working. What each key means is in docs/specs/json.md. Refusals are "
    "RFC 9457 problems with a stable `code`. On its Unix socket the daemon knows its caller by the kernel's word; "
    "over the network it asks for a token (`locum token create`)."
)


class Described:
    """The endpoint that describes the others. Over the network the page tells what is answered there, and to whom.

    Each of both is made when it is asked for first.
    """

    def __init__(self, table: Sequence[Endpoint]) -> None:
        self.table = table
        self._pages: dict[bool, bytes] = {}

    async def answer(self, request: Request) -> bytes:
        """The page itself: every path, what may be asked of it, and what it answers."""
        network = bool(getattr(request.state, "network", False))
        if network not in self._pages:
            self._pages[network] = msgspec.json.encode(page(self.table, network=network))
        return self._pages[network]


def page(table: Sequence[Endpoint], *, network: bool) -> dict[str, Any]:
    """The table as an OpenAPI 3.1 document: of what is answered over the network with a token, or on the socket."""
    table = [each for each in table if not (network and each.scope is Scope.LOCAL)]
    answers = [each.answer for each in table if each.answer is not None]
    schemas, components = msgspec.json.schema_components([*answers, Refusal], ref_template=_REF)
    refusal = schemas[-1]
    shown = iter(schemas)
    bodies = {each.body: None for each in table if each.body not in (None, HOOK)}
    models, defined = models_json_schema(
        [(body, "validation") for body in bodies], ref_template=_REF.replace("name", "model")
    )
    paths: dict[str, dict[str, Any]] = {}
    for each in table:
        schema = next(shown) if each.answer is not None else None
        body = {"type": "object"} if each.body == HOOK else models.get((each.body, "validation"))  # type: ignore[arg-type]
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each, schema, body, refusal, network=network)
    own = defined.get("$defs", {})
    assert not components.keys() & own.keys(), "a name means one thing"
    secured: dict[str, Any] = {"security": [{"token": []}]} if network else {}
    return {
        "openapi": "3.1.0",
        "info": {"title": "locum", "version": __version__, "description": _ABOUT},
        "paths": paths,
        **secured,
        "components": {
            "schemas": {**components, **own},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(each: Endpoint, schema: Any, body: Any, refusal: Any, *, network: bool) -> dict[str, Any]:
    lead, _, rest = (each.handler.__doc__ or "").partition("\n")
    steps = re.findall(r"\{(\w+)\}", each.path)
    told: dict[str, Any] = {
        "operationId": _name(each),
        "summary": lead.strip(),
        "description": " ".join(rest.split()),
        "x-scope": each.scope.value,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in steps
        ],
        "responses": _responses(each, schema, refusal, steps),
    }
    told["parameters"] += [
        {"name": query.name, "in": "query", "description": query.says, "schema": dict(query.schema)}
        for query in each.query
    ]
    if SSE in each.media:
        says = "The last id of the stream that came."
        told["parameters"].append(_header("Last-Event-ID", says, r"^([0-9]+-[0-9]+)?$"))
    if each.matched:
        told["parameters"].append(_header("If-Match", "The ETag of the chain: do it only while it has that."))
    if body is not None:
        told["requestBody"] = {"required": False, "content": {JSON: {"schema": body}}}
    if network and each.scope is Scope.OPEN:
        told["security"] = []
    return told


def _header(name: str, says: str, pattern: str | None = None) -> dict[str, Any]:
    schema = {"type": "string", **({"pattern": pattern} if pattern else {})}
    return {"name": name, "in": "header", "description": says, "schema": schema}


def _responses(each: Endpoint, schema: Any, refusal: Any, steps: Sequence[str]) -> dict[str, Any]:
    content = {JSON: {"schema": schema}} if schema is not None else {}
    content |= {media: {"schema": {"type": "string"}} for media in each.media}
    headers = {name: {"schema": {"type": "string"}} for name in each.headers}
    good: dict[str, Any] = {"description": each.status.phrase, "content": content}
    if headers:
        good["headers"] = headers
    errors = {*each.errors, *_ALWAYS}
    if each.query or each.body is not None:
        errors.add(UsageError)
    if each.body is not None:
        errors.add(TooLargeError)
    told = {str(each.status.value): good}
    for status in sorted({error.status for error in errors} | ({404} if steps else set())):
        codes = sorted({error.code for error in errors if error.status == status} or {"not_found"})
        told[str(status)] = {
            "description": f"{HTTPStatus(status).phrase}: {', '.join(codes)}",
            "content": {MEDIA_TYPE: {"schema": refusal}},
        }
    return told


def _name(each: Endpoint) -> str:
    return each.method.lower() + re.sub(r"\W+", "_", each.path).rstrip("_")
