"""What an agent's output looks like, without the values of one run: which events, which keys, which sentences."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

LONGEST_SENTENCE = 240
WORDS = frozenset({"type", "subtype", "status", "error", "code", "kind", "reason", "role", "level", "name"})
"""Keys whose short values are words of the agent's own, on which a verdict may rest."""
TELLING = re.compile(r"(?i)(?:error|reason|status|failure|fatal|retryable|exitcode|success)")
"""Keys of which that is true by their name."""
SENTENCES = frozenset({"message", "error", "errorMessage", "error_message", "result", "detail", "details", "text"})
"""Keys whose values are sentences, which rules of text are made for."""
_FRAME = re.compile(r"\s+at .+(?::\d+|<anonymous>|native)\W*$")
_WORD = re.compile(r"[A-Za-z][\w.:/-]{0,48}")
_VARIABLE = re.compile(r"[0-9a-f]{8,}|\d{3,}|^\d|[/\\]|^(?:mock|claude|gpt|gemini|text)-", re.IGNORECASE)
_MASKS = (
    (re.compile(r"\x1b\[[0-9;?]*[A-Za-z]"), ""),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22,}\b", re.IGNORECASE), "ID"),
    (re.compile(r"\b(?:[a-z]{2,9}[_-])(?=\w*\d)[0-9A-Za-z]{8,}\b"), "ID"),
    (re.compile(r"https?://[^\s\"')\]]+"), "URL"),
    (re.compile(r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?\b"), "TIME"),
    (re.compile(r"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\w*,? "), "DAY "),
    (
        re.compile(r"\b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\w*\.? \d{1,2}(?:st|nd|rd|th)?(?:,? \d{4})?"),
        "DATE",
    ),
    (re.compile(r"\b\d{1,2}(?::\d\d){0,2} ?[ap]m\b|\b\d{1,2}:\d\d(?::\d\d)?\b", re.IGNORECASE), "CLOCK"),
    (re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b", re.IGNORECASE), "ID"),
    (re.compile(r"(?:/[\w.@+-]+){2,}/?"), "PATH"),
    (re.compile(r"\d+(?:[.,]\d+)*"), "N"),
)


def shape_of(stream: str, data: bytes) -> frozenset[str]:
    """What was written into a stream: one entry for each event, key or sentence, however often it came."""
    return frozenset(f"{stream} {each}" for each in _stream(data))


def masked(sentence: str) -> str:
    """A sentence on one line without what differs from run to run: numbers, ids, times, places."""
    for pattern, name in _MASKS:
        sentence = pattern.sub(name, sentence)
    return " ".join(sentence.split())[:LONGEST_SENTENCE]


def _stream(data: bytes) -> Iterator[str]:
    whole = _json(data)
    if isinstance(whole, dict | list):  # one document, not one a line
        yield from _event(whole)
        return
    for line in data.decode(errors="replace").splitlines():
        event = _json(line.encode())
        if isinstance(event, dict | list):
            yield from _event(event)
        elif not _FRAME.match(line) and (text := masked(line)):  # where in its own code an agent was, is its own affair
            yield f"says {text!r}"


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _event(event: dict[str, Any] | list[Any]) -> Iterator[str]:
    if isinstance(event, list):
        for each in event:
            yield from _event(each) if isinstance(each, dict | list) else ()
        return
    name = _name(event)
    yield name
    for path, value in _leaves(event, ()):
        yield f"{name} {'.'.join(path)}"
        key = next((step for step in reversed(path) if step != "[]"), "")
        if _is_word(key, value):
            yield f"{name} {'.'.join(path)} = {value}"
        elif isinstance(value, str) and key in SENTENCES and value:
            yield f"{name} {'.'.join(path)} says {masked(value)!r}"


def _is_word(key: str, value: object) -> bool:
    """Whether a value is one of few that its key can have, so that it means something by itself."""
    if isinstance(value, str):
        return _tells(key) and _WORD.fullmatch(value) is not None and not _VARIABLE.search(value)
    return isinstance(value, bool) or (isinstance(value, int) and "status" in key.lower())


def _tells(key: str) -> bool:
    return key in WORDS or TELLING.search(key) is not None


def _name(event: Mapping[str, Any]) -> str:
    """What an event is called: its own type, and that of the thing in it."""
    inner = (event.get(key) for key in ("item", "part", "payload", "event", "data", "message", "assistantMessageEvent"))
    words = [event.get("type"), event.get("event"), event.get("subtype")]
    words += [each.get("type") or each.get("role") for each in inner if isinstance(each, dict)]
    return "/".join(each for each in words if isinstance(each, str) and _WORD.fullmatch(each)) or "(no type)"


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value that is no table and no list, and the way to it; names that differ from run to run are `*`."""
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from _leaves(each, (*path, "*" if _VARIABLE.search(key) else key))
    elif isinstance(value, list) and value:
        for each in value:
            yield from _leaves(each, (*path, "[]"))
    else:
        yield path, value
