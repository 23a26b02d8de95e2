"""Reading one line of JSON that a program wrote, trusting nothing about it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from locum.policy.usage import Tokens

_MOST_TOKENS = 2**53
_LONGEST_KEY = 200
_SESSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_NOTHING: Mapping[str, Any] = {}


def parse(data: bytes) -> Mapping[str, Any] | None:
    """The JSON object a line holds, or None when it holds anything else."""
    if not data.lstrip().startswith(b"{"):
        return None
    try:
        value = json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def holds(data: bytes, names: tuple[bytes, ...]) -> bool:
    """Whether a line holds one of `names`: far quicker than to parse it. Without names any line may tell something."""
    for name in names:  # a generator takes longer than to look
        if name in data:
            return True
    return not names


def table(value: object) -> Mapping[str, Any]:
    """`value` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else _NOTHING


def items(value: object) -> list[Mapping[str, Any]]:
    """The JSON objects of `value` if it is an array, else none."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def text(value: object) -> str:
    """`value` if it is a string, without NULs and lone surrogates, which no store takes; else ""."""
    if not isinstance(value, str):
        return ""
    if value.isascii() and "\0" not in value:
        return value  # nearly always, and quicker
    return value.encode("utf-8", "replace").decode().replace("\0", "")


def key(value: object) -> str:
    """A message's name, short enough to be a key; "" when there is none."""
    return text(value)[:_LONGEST_KEY]


def count(value: object) -> int:
    """A number of tokens; anything that is not one counts as 0."""
    return value if type(value) is int and 0 <= value < _MOST_TOKENS else 0


def counts(used: Mapping[str, Any], *names: str) -> bool:
    """Whether each of these is told as a number of tokens: a count that is not told is not zero."""
    return all(type(value) is int and 0 <= value < _MOST_TOKENS for value in map(used.get, names))


def tokens(asked: object, answered: object, cache_read: object, cache_write: object = 0) -> Tokens:
    """Tokens by type, of a vendor that counts what was cached into what was asked."""
    read, written = count(cache_read), count(cache_write)
    return Tokens(max(0, count(asked) - read - written), count(answered), read, written)


def status(value: object) -> int | None:
    """An HTTP status, or None."""
    return value if type(value) is int and 100 <= value <= 999 else None


def percent(value: object, whole: float = 100) -> float | None:
    """How much of `whole` a number is, in percent and rounded to a tenth, or None for what can be no such share.

    A little more than all may be used, where a vendor counts afterwards; above twice as much it is another measure.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 2 * whole:
        return None
    return round(value / whole * 100, 1)


def epoch_ms(value: object) -> int | None:
    """Epoch milliseconds from epoch seconds, or None for what cannot be a moment in this age."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 10**11:
        return None
    return round(value * 1_000)


def stamp_ms(value: object) -> int | None:
    """Epoch milliseconds as a program wrote them, or None for what cannot be a moment in this age."""
    return value if type(value) is int and 0 < value < 10**14 else None


def moment_ms(value: object) -> int | None:
    """Epoch milliseconds from an ISO 8601 text (UTC when it names no zone), or None."""
    try:
        moment = datetime.fromisoformat(text(value))
        return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000)
    except (ValueError, OverflowError, OSError):
        return None


def session(value: object) -> str:
    """A session id that is safe as an argument and as a part of a file name; "" for any other."""
    return value if isinstance(value, str) and _SESSION.fullmatch(value) else ""
