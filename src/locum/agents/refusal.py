"""What a provider's refusal tells beside its sentence: its error code, how long to wait, when a window opens again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from locum.agents import lines
from locum.policy.failure import FailureKind

CODES: Mapping[str, FailureKind] = {
    "authentication_error": FailureKind.AUTH_ERROR,
    "billing_error": FailureKind.CREDIT_EXHAUSTED,
    "context_length_exceeded": FailureKind.CONTEXT_OVERFLOW,
    "insufficient_quota": FailureKind.CREDIT_EXHAUSTED,
    "invalid_api_key": FailureKind.AUTH_ERROR,
    "model_not_found": FailureKind.MODEL_UNAVAILABLE,
    "overloaded_error": FailureKind.OVERLOADED,
    "permission_error": FailureKind.AUTH_ERROR,
    "rate_limit_error": FailureKind.RATE_LIMIT,
    "rate_limit_exceeded": FailureKind.RATE_LIMIT,
    "server_is_overloaded": FailureKind.OVERLOADED,
    "usage_limit_reached": FailureKind.USAGE_LIMIT,
}
"""The `code` or `type` of a refusal that says more than its HTTP status."""
_WAITS = {"retry-after-ms": 1, "retry-after": 1_000}  # header -> milliseconds of its unit
_NUMBER = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,3})?")


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that was none. `rule` names the code that gave `kind`; `reset_ms` is epoch milliseconds."""

    kind: FailureKind | None = None
    rule: str = ""
    status: int | None = None
    reset_ms: int | None = None


def refusal(told: Mapping[str, Any], at_ms: int | None) -> Refusal:
    """What `statusCode`, `responseHeaders` and `responseBody` of `told` say; `at_ms` is when they came."""
    body = lines.parse(lines.text(told.get("responseBody")).encode()) or {}
    error = lines.table(body.get("error"))
    code = next((name for name in map(lines.key, (error.get("code"), error.get("type"))) if name in CODES), "")
    return Refusal(
        CODES.get(code),
        f"code:{code}" if code else "",
        lines.status(told.get("statusCode")),
        lines.epoch_ms(error.get("resets_at")) or _waited(lines.table(told.get("responseHeaders")), at_ms),
    )


@cache
def plugin(agent: str) -> Mapping[str, bytes]:
    """The files of our plugin for `agent`, by the names they must have; it begins in `locum.js`."""
    folder = files("locum.agents") / "plugins"
    return {"locum.js": (folder / f"{agent}.js").read_bytes(), "refusal.js": (folder / "refusal.js").read_bytes()}


def _waited(headers: Mapping[str, Any], at_ms: int | None) -> int | None:
    """When the wait that the headers ask for is over."""
    if at_ms is None:
        return None
    for name, unit in _WAITS.items():
        asked = lines.text(headers.get(name)).strip()
        if _NUMBER.fullmatch(asked):
            return at_ms + round(float(asked) * unit)
    return None
