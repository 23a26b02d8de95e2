"""Regular expressions that take linear time, whoever wrote them and whatever they are tried on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import re2

LARGEST = 1_000
"""Instructions of a compiled pattern. The time is at most this by the length of the text: 20 ms for 32 KB."""
REMEDY = "it takes RE2's expressions, which are Python's without look-around and back-references"
_MEMORY = 1 << 20


class PatternError(ValueError):
    """A text is no pattern that can be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Where a pattern fitted: the whole `line`, and the parts that its groups name."""

    line: str
    named: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern that is tried at the start of each line."""

    text: str
    _compiled: Any

    def find(self, data: bytes) -> Fit | None:
        """The first line of `data` (UTF-8; what is not fits no letter) that begins as the pattern says."""
        found = self._compiled.search(data)
        if found is None:
            return None
        start = found.start()
        line = data[start:].split(b"\n", 1)[0].decode("utf-8", "replace").strip()
        named = {name.decode(): part.decode("utf-8", "replace") for name, part in found.groupdict().items() if part}
        return Fit(line, named)


@cache
def pattern(text: str) -> Pattern:
    """`text` as a pattern.

    Raises:
        PatternError: it is no regular expression of this engine (RE2), is too large, or fits an empty line.

    """
    _compiled(text)  # by itself: what only reads well in brackets would get out of them
    compiled = _compiled(f"(?m)^(?:{text})")
    if compiled.programsize > LARGEST:
        raise PatternError("it is too large: repeat less in it")
    if compiled.search(b"") is not None:
        raise PatternError("it fits an empty line, and so every text")
    return Pattern(text, compiled)


def _compiled(text: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY
    try:
        return re2.compile(text.encode(), options=options)
    except UnicodeEncodeError as error:
        raise PatternError("it holds half a character") from error
    except re2.error as error:
        told = error.args[0] if error.args else b""
        raise PatternError(told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told)) from error
