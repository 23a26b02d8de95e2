"""Tokens and logins: made, listed and revoked by who is on the host; a browser gets in by a link that is good once."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from locum.engine import views
from locum.engine.supervisor import Supervisor
from locum.errors import ConflictError
from locum.web.bodies import NewToken, read
from locum.web.endpoint import Scope, Told
from locum.web.gate import COOKIE
from locum.web.network import Network
from locum.web.problem import UnauthorizedError
from locum.web.tokens import CODE_MS, LOGIN_MS, Token
from locum.words import iso

_BROWSER = "browser"


class Logins:
    """The endpoints of tokens; each method is one endpoint."""

    def __init__(self, supervisor: Supervisor, network: Network) -> None:
        self.supervisor = supervisor
        self.network = network
        self.tokens = network.tokens

    async def listed(self, _: Request) -> dict[str, Any]:
        """Every token that is good, without its secret; the logins of browsers are among them."""
        return {"schema": views.SCHEMA, "tokens": [_token(each) for each in self.tokens.listed()]}

    async def create(self, request: Request) -> Told:
        """Make a token. Its secret is told here and never again."""
        order = await read(request, NewToken)
        made, secret = await self.tokens.create(order.name, Scope(order.scope), order.lasts_ms)
        return Told({"schema": views.SCHEMA, **_token(made), "token": secret, "url": self.network.url})

    async def revoke(self, request: Request) -> dict[str, Any]:
        """Make a token, by its id or its name, worthless at once."""
        return {"schema": views.SCHEMA, **_token(await self.tokens.revoke(request.path_params["token"]))}

    async def link(self, _: Request) -> dict[str, Any]:
        """A link that logs one browser in, once and soon."""
        if self.network.url is None:
            problem = self.network.problem
            raise ConflictError(
                problem.detail if problem else "the dashboard is not served: service.json has no `http.listen`",
                remedy=problem.remedy if problem else 'Add `"http": {"listen": "127.0.0.1:8321"}`, and ask again.',
            )
        query = urlencode({"code": self.tokens.code()})
        until_ms = self.supervisor.clock.now_ms() + CODE_MS
        return {"schema": views.SCHEMA, "url": f"{self.network.url}/login?{query}", "expires": iso(until_ms)}

    async def login(self, request: Request, *, code: str | None) -> Response:
        """Trade the code of a login link for a cookie, and go to the dashboard. A code is good once."""
        if request.method == "HEAD":
            return Response()
        if code is None or not self.tokens.redeem(code):
            raise UnauthorizedError(
                "that login link has been used, or is too old", remedy="Open the dashboard with `locum dashboard`."
            )
        _, secret = await self.tokens.create(_BROWSER, Scope.OPERATE, LOGIN_MS, browser=True)
        found = RedirectResponse("/", 303)
        secure = (self.network.url or "").startswith("https://")
        found.set_cookie(COOKIE, secret, LOGIN_MS // 1000, path="/", secure=secure, httponly=True, samesite="strict")
        return found

    async def logout(self, request: Request) -> Response:
        """Revoke the token that this is asked with, and take the cookie away."""
        token: Token | None = getattr(request.state, "token", None)
        if token is not None:
            await self.tokens.revoke(token.id, spared=request.state.life)
        found = RedirectResponse("/", 303)
        found.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return found


def _token(each: Token) -> dict[str, Any]:
    return {
        "id": each.id,
        "name": each.name,
        "scope": each.scope,
        "created": iso(each.created_ms),
        "used": iso(each.used_ms),
        "expires": iso(each.expires_ms),
        "browser": each.browser,
    }
