"""Recorded runs of which no count can be read, as if their agent told it elsewhere, otherwise or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from locum.agents import lines
from locum.agents.base import Source
from locum.agents.replay import STREAMS, TRANSCRIPT, Case, Held

Mangle = Callable[[dict[str, Any]], dict[str, Any]]
BILLS = ("modelUsage", "properties", "stats", "tokens", "toolUsage", "uiEvent", "usage")
"""Under which names the agents tell what they have spent."""
MANGLED: dict[str, Mangle] = {
    "nothing": lambda _: {},
    "no number": lambda told: {name: each for name, each in told.items() if type(each) is not int},
    "other names": lambda told: {f"new_{name}": each for name, each in told.items()},
    "words": lambda told: {name: "many" if type(each) is int else each for name, each in told.items()},
    "half": lambda _: dict.fromkeys(("input", "inputTokens", "input_tokens", "input_token_count", "prompt_tokens"), 0),
}


def untold(value: Any, how: Mangle, *, within: bool = False) -> Any:
    """An event without what it tells of its cost."""
    if isinstance(value, list):
        return [untold(each, how, within=within) for each in value]
    if not isinstance(value, dict):
        return value
    within = within or value.get("type") == "usage"
    inner = {name: untold(each, how, within=within or name in BILLS) for name, each in value.items()}
    kept = {name: inner[name] for name in ("event.name", "type") if name in inner}  # what kind of event it is
    return kept | how(inner) if within else inner


def without_counts(case: Case, how: Mangle) -> Held:
    """A recorded run, all that it tells of its cost mangled."""
    files = {}
    for source, name in (*STREAMS, (Source.TRANSCRIPT, TRANSCRIPT)):
        events = [(line.data, lines.parse(line.data)) for line in case.lines(source, name)]
        files[name] = b"\n".join(
            data if event is None else json.dumps(untold(event, how)).encode() for data, event in events
        )
    return Held(case.folder, case.meta, case.expected, files)


CALLED_STREAM = ("claude-code", "gemini", "qwen")
"""Of which the recording of an answer is called after its format."""
