"""service.json as it may be shown to anybody who may look: no secret in it, also none that was written in by hand."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

MASK = "********"

_SECRET = re.compile(r"(^|_)(secret|secrets|token|password|authorization|key)$", re.IGNORECASE)
_ADDRESS = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")


def concealed(value: Any, hide: Callable[[str], str] = str) -> Any:
    """A copy of what stands in service.json. Masked are the texts in `env` and `headers`, and whatever a key calls a
    secret; of an address only the host is left, since many hold a token in their path. References stay as they are:
    they name a secret and are none. Every other text passes through `hide`.
    """
    if isinstance(value, Mapping):
        return {name: _of(name, each, hide) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [concealed(each, hide) for each in value]
    if isinstance(value, str):
        return _address(value) if _ADDRESS.match(value) else hide(value)
    return value


def _of(name: str, value: Any, hide: Callable[[str], str]) -> Any:
    if name in ("env", "headers") and isinstance(value, Mapping):
        return {each: MASK if isinstance(text, str) else text for each, text in value.items()}
    if _SECRET.search(name):
        return _masked(value)
    return concealed(value, hide)


def _masked(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_masked(each) for each in value]
    return MASK if isinstance(value, str) else value


def _address(text: str) -> str:
    try:
        found = urlsplit(text)
        shown = f"{found.scheme}://{found.hostname or ''}" + (f":{found.port}" if found.port else "")
    except ValueError:
        return MASK
    more = found.path not in ("", "/") or found.query or found.fragment or found.username or found.password
    return f"{shown}/{MASK}" if more else shown
