"""What may stand behind the question mark of a path, and how it is read."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from starlette.requests import Request

from locum.errors import UsageError
from locum.words import from_iso

LIMIT, MOST = 50, 1000
"""How many rows a page has where nobody says, and at most."""

LARGEST = (1 << 63) - 1
"""The largest number that the ledger can hold."""

LONGEST = 200
"""Characters of a name."""


@dataclass(frozen=True, slots=True)
class Query:
    """One parameter; left out, it is `default`."""

    name: str
    says: str
    default: Any = None

    @property
    def key(self) -> str:
        """What a handler calls it."""
        return self.name

    @property
    def schema(self) -> Mapping[str, Any]:
        """As JSON Schema."""
        return {"type": "string", "maxLength": LONGEST}

    def read(self, request: Request) -> Any:
        """Its value. Raises UsageError for one that makes no sense."""
        text = request.query_params.get(self.name)
        return self.default if text is None else self.parsed(text)

    def parsed(self, text: str) -> Any:
        """The value that is written as `text`. Raises UsageError."""
        if len(text) > LONGEST:
            raise UsageError(f"`{self.name}` is longer than {LONGEST} characters", remedy="Write the name alone.")
        return text


@dataclass(frozen=True, slots=True)
class Number(Query):
    """A whole number from `least` to `most`."""

    most: int = LARGEST
    least: int = 0

    @property
    def schema(self) -> Mapping[str, Any]:
        """As JSON Schema."""
        default = {} if self.default is None else {"default": self.default}
        return {"type": "integer", "minimum": self.least, "maximum": self.most, **default}

    def parsed(self, text: str) -> int:
        """The number. Raises UsageError."""
        if not text.isascii() or not text.isdecimal() or len(text) > 19 or not self.least <= int(text) <= self.most:
            up_to = "" if self.most == LARGEST else f" up to {self.most:,}"
            remedy = f"Write it in plain digits: {self.name}=10."
            raise UsageError(f"`{self.name}` must be a whole number{up_to}", remedy=remedy)
        return int(text)


@dataclass(frozen=True, slots=True)
class Flag(Query):
    """true or false."""

    @property
    def schema(self) -> Mapping[str, Any]:
        """As JSON Schema."""
        return {"type": "boolean", "default": self.default}

    def parsed(self, text: str) -> bool:
        """Which of both. Raises UsageError."""
        if text not in ("true", "false"):
            raise UsageError(f"`{self.name}` must be true or false", remedy=f"Write {self.name}=true.")
        return text == "true"


@dataclass(frozen=True, slots=True)
class Choice(Query):
    """One of `choices`."""

    choices: Sequence[str] = ()

    @property
    def schema(self) -> Mapping[str, Any]:
        """As JSON Schema."""
        default = {} if self.default is None else {"default": self.default}
        return {"type": "string", "enum": [str(each) for each in self.choices], **default}

    def parsed(self, text: str) -> str:
        """Which of them. Raises UsageError."""
        if text not in self.choices:
            raise UsageError(f"there is no such {self.name}", remedy=f"Use one of {', '.join(self.choices)}.")
        return text


@dataclass(frozen=True, slots=True)
class Choices(Choice):
    """Any of `choices`: it may be given several times; left out, all of them."""

    @property
    def schema(self) -> Mapping[str, Any]:
        """As JSON Schema."""
        return {"type": "array", "items": {"type": "string", "enum": [str(each) for each in self.choices]}}

    def read(self, request: Request) -> Any:
        """Those that were given, None for none. Raises UsageError."""
        return tuple(map(self.parsed, request.query_params.getlist(self.name))) or None


@dataclass(frozen=True, slots=True)
class Moment(Query):
    """A moment in ISO 8601 with its time zone, read as epoch milliseconds."""

    @property
    def schema(self) -> Mapping[str, Any]:
        """As JSON Schema."""
        return {"type": "string", "format": "date-time"}

    def parsed(self, text: str) -> int:
        """Epoch milliseconds. Raises UsageError."""
        try:
            found = from_iso(text) if datetime.fromisoformat(text).tzinfo else None
        except (ValueError, OverflowError):
            found = None
        if found is None:
            remedy = f"Write it as {self.name}=2026-01-31T05:00:00Z."
            raise UsageError(f"`{self.name}` must be a moment with its time zone", remedy=remedy)
        return max(0, found)


@dataclass(frozen=True, slots=True)
class Cursor(Query):
    """Where the next page begins: what an answer told as `next`. Opaque, and good only for the list that told it."""

    name: str = "cursor"
    says: str = "The `next` of the page before: what follows it."
    default: Any = None
    of: str = ""

    def parsed(self, text: str) -> str:
        """What `cursor` was made of. Raises UsageError."""
        try:
            kind, sign, place = base64.b64decode(text, b"-_", validate=True).decode("ascii").partition(":")
        except (binascii.Error, ValueError):
            kind = sign = place = ""
        if kind != self.of or not sign or not place:
            raise UsageError("that is no `cursor` of this list", remedy="Use what a page told as `next`, as it is.")
        return place


def cursor(of: str, place: object) -> str:
    """What `Cursor` reads, for the list `of`."""
    return base64.urlsafe_b64encode(f"{of}:{place}".encode("ascii")).decode("ascii")


class RowCursor(Cursor):
    """A cursor whose place is a row's number."""

    def parsed(self, text: str) -> Any:
        """The row. Raises UsageError."""
        return Number(self.name, "").parsed(super().parsed(text))


limit = Number("limit", "How many at most.", LIMIT, MOST)
chain = Query("chain", "Only of this chain.")
after = Number("after", "The row (`seq`) behind which to begin.", 0)
