"""The answers about tokens and logins, as types."""

from __future__ import annotations

from locum.web.shapes import Shape, Versioned


class Token(Shape):
    """A token for the network; `used` is when it was last."""

    id: str
    name: str
    scope: str
    created: str
    used: str | None
    expires: str | None
    browser: bool


class OneToken(Token):
    """A token as it was revoked."""

    schema: int


class MadeToken(OneToken):
    """A token as it was made: its secret is told only here. `url` is where it is good; null: nowhere yet."""

    token: str
    url: str | None


class AllTokens(Versioned):
    """Every token that is good."""

    tokens: list[Token]


class Link(Versioned):
    """A link that logs one browser in, once."""

    url: str
    expires: str
