"""The way in over the network: a known host, no foreign page, a good token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from locum.config.http import HttpEntry, is_loopback
from locum.errors import ForbiddenError
from locum.web.endpoint import Scope
from locum.web.problem import UnauthorizedError
from locum.web.tokens import Token, Tokens

COOKIE = "locum_session"
OPEN = frozenset({"/healthz", "/login"})
"""What is answered without a token."""
READING = frozenset({"GET", "HEAD"})

HEADERS: Mapping[str, str] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""What every answer over the network says, unless it says something else of its own."""


class Gate:
    """Judges requests over the network; `http` is what service.json says of it now."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens

    def granted(self, http: HttpEntry | None, method: str, path: str, headers: Headers) -> Token | None:
        """Whose token it is; None where none is needed.

        Raises ForbiddenError for another host's name, a foreign page or a scope that does not reach that far, and
        UnauthorizedError without a good token.
        """
        host = _host(http, headers)
        _origin(headers, host)
        bearer = _bearer(headers)
        token = self._token(bearer or _cookie(headers))
        if token is None:
            if path in OPEN:
                return None
            raise UnauthorizedError(
                "that token is not good (any more)" if bearer else "a token is needed",
                remedy="Make one with `locum token create`, or open the dashboard with `locum dashboard`.",
            )
        if method not in READING:
            if token.scope is not Scope.OPERATE:
                raise ForbiddenError(f"the token {token.name} may only read", remedy="Use one with the scope operate.")
            if bearer is None and not _from_own_page(headers):
                raise ForbiddenError("it is not known which page sent this", remedy="Use the dashboard's own buttons.")
        return token

    def _token(self, secret: str | None) -> Token | None:
        return None if secret is None else self.tokens.find(secret)


def _host(http: HttpEntry | None, headers: Headers) -> str:
    """The host that was asked. Raises ForbiddenError for a name that is not ours: a page elsewhere may have made it
    lead here.
    """
    asked = headers.getlist("host")
    host = asked[0].lower() if len(asked) == 1 else ""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        name = ""
    ours = urlsplit(http.url).netloc.lower() if http and http.url else None
    if not (name and (is_loopback(name) or host == ours)):
        raise ForbiddenError(
            "this daemon does not go by that name", remedy="Ask for 127.0.0.1 or localhost, or name it in `http.url`."
        )
    return host


def _origin(headers: Headers, host: str) -> None:
    """Raise ForbiddenError for a request that another site's page has made."""
    origin = headers.get("origin")
    foreign = origin is not None and origin.lower() not in (f"http://{host}", f"https://{host}")
    if foreign or headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        # To follow a link to here is no harm: it is a page of its own, and its cookie does not come along.
        followed = headers.get("sec-fetch-mode") == "navigate" and origin is None
        if not followed:
            raise ForbiddenError("a page of another site has sent this", remedy="Nobody but our own page may.")


def _from_own_page(headers: Headers) -> bool:
    """Whether the browser itself says that one of our pages has sent this."""
    return "origin" in headers or headers.get("sec-fetch-site") == "same-origin"


def _bearer(headers: Headers) -> str | None:
    given = headers.get("authorization")
    if given is None:
        return None
    kind, _, secret = given.partition(" ")
    return secret.strip() if kind.lower() == "bearer" else ""


def _cookie(headers: Headers) -> str | None:
    for header in headers.getlist("cookie"):
        for each in header.split(";"):
            name, sign, value = each.strip().partition("=")
            if sign and name == COOKIE:
                return value
    return None


def guarded(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers of an answer, with those of `HEADERS` that it does not have of its own."""
    own = {name.lower() for name, _ in headers}
    return headers + [pair for pair in _RAW if pair[0] not in own]


_RAW: list[tuple[Any, Any]] = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
