"""Small things that the tests of the configuration share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from locum.config.load import Loaded, load_bytes
from locum.config.place import Place
from locum.config.problem import InvalidConfigError, Problem

PLACE = Place(Path("/etc/locum"), Path("/home/x"), "Europe/Madrid")
TWO = [{"name": "a", "agent": "claude-code"}, {"name": "b", "agent": "codex"}]


def loaded(value: Any, place: Place = PLACE) -> Loaded:
    """What a file with `value` means."""
    return load_bytes(Path("service.json"), json.dumps(value).encode(), place)


def service(tiers: list[Any] | None = None, **more: Any) -> dict[str, Any]:
    """The plain values of a small valid file."""
    return {"failover": {"tiers": TWO if tiers is None else tiers}, **more}


def problems(value: Any) -> tuple[Problem, ...]:
    """What is wrong with a file (text, bytes or plain values); nothing when it is valid."""
    data = (
        value if isinstance(value, bytes) else value.encode() if isinstance(value, str) else json.dumps(value).encode()
    )
    try:
        load_bytes(Path("service.json"), data, PLACE)
    except InvalidConfigError as error:
        return error.problems
    return ()
