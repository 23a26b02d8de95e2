"""JSON text edited in place: what is not edited stays as it was written, byte for byte."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

At = tuple[str | int, ...]
"""Where a value stands: the keys and indices that lead to it."""

INDENT = "  "
"""The indentation of a text that shows none of its own."""

_SPACE = re.compile(r"[ \t\r\n]*")
_LEAD = re.compile(r"\ufeff?[ \t\r\n]*")
_FIRST_INDENT = re.compile(r"[{\[][ \t]*\r?\n([ \t]+)\S")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


@dataclass(frozen=True, slots=True)
class _Element:
    """A member of an object or an item of a list: `begin` is where its key (or the item) starts, `value` its value."""

    step: str | int
    begin: int
    value: int
    end: int


def parsed(text: str) -> Any:
    """The value of a whole text. Raises ValueError when it is not JSON, RecursionError when it is too deep."""
    value, end = _DECODER.raw_decode(text, _start(text))
    if _skip(text, end) != len(text):
        raise ValueError("there is more after the end")
    return value


def appended(text: str, at: At, value: Any, key: str | None = None) -> str:
    """The text with `value` as the last item of the list at `at`, or as the last member, `key`, of the object there."""
    start = _find(text, at).value
    elements = list(_elements(text, start))
    unit, newline = _indent(text), "\r\n" if "\r\n" in text else "\n"
    name = "" if key is None else f"{json.dumps(key, ensure_ascii=False)}: "
    lead = text[start + 1 : elements[0].begin] if elements else newline
    if "\n" not in lead:  # all in one line, and so it stays
        end = elements[-1].end
        return f"{text[:end]}, {name}{json.dumps(value, ensure_ascii=False)}{text[end:]}"
    inner = lead.rpartition("\n")[2] if elements else unit * (len(at) + 1)
    lines = json.dumps(value, ensure_ascii=False, indent=unit).replace("\n", newline + inner)
    added = f"{newline}{inner}{name}{lines}"
    if elements:
        end = elements[-1].end
        return f"{text[:end]},{added}{text[end:]}"
    return f"{text[: start + 1]}{added}{newline}{unit * len(at)}{text[_skip(text, start + 1) :]}"


def removed(text: str, at: At) -> str:
    """The text without the value at `at`; lists and objects that are empty then go too, all but the whole itself."""
    assert at, "the whole is not removed"
    *above, step = at
    start = _find(text, tuple(above)).value
    elements = list(_elements(text, start))
    place = max(number for number, each in enumerate(elements) if each.step == step)
    if len(elements) == 1:
        if above:
            return removed(text, tuple(above))
        return text[: start + 1] + text[_skip(text, elements[0].end) :]
    if place == len(elements) - 1:
        return text[: elements[place - 1].end] + text[elements[place].end :]
    return text[: elements[place].begin] + text[elements[place + 1].begin :]


def _find(text: str, at: At) -> _Element:
    """The element at `at`; of a key that is given twice the last one counts, as it does for programs."""
    start = _start(text)
    found = _Element("", start, start, len(text))
    for step in at:
        found = [each for each in _elements(text, found.value) if each.step == step][-1]
    return found


def _elements(text: str, start: int) -> Iterator[_Element]:
    """What is in the list or object that begins at `start`; the text is known to be JSON."""
    assert text[start] in "[{", "only lists and objects have something in them"
    number, place = 0, _skip(text, start + 1)
    while text[place] not in "]}":
        begin, step = place, number
        if text[start] == "{":
            step, place = _DECODER.raw_decode(text, place)
            place = _skip(text, _skip(text, place) + 1)
        _, end = _DECODER.raw_decode(text, place)
        yield _Element(step, begin, place, end)
        number, place = number + 1, _skip(text, end)
        if text[place] == ",":
            place = _skip(text, place + 1)


def _indent(text: str) -> str:
    found = _FIRST_INDENT.match(text, _start(text))
    return found[1] if found else INDENT


def _start(text: str) -> int:
    found = _LEAD.match(text)
    assert found is not None, "the pattern also matches nothing"
    return found.end()


def _skip(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    assert found is not None, "the pattern also matches nothing"
    return found.end()
