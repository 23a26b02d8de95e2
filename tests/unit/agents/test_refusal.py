"""What a provider's refusal tells beside its sentence."""

from __future__ import annotations

import json
from typing import Any

import pytest

from locum.agents.refusal import Refusal, plugin, refusal
from locum.policy.failure import FailureKind

AT = 1_795_360_000_000


def told(status: int = 429, headers: dict[str, Any] | None = None, **error: Any) -> Refusal:
    """What a refusal tells whose body holds `error`."""
    return refusal(
        {"statusCode": status, "responseHeaders": headers or {}, "responseBody": json.dumps({"error": error})}, AT
    )


@pytest.mark.parametrize(
    ("error", "kind", "rule"),
    [
        ({"code": "insufficient_quota"}, FailureKind.CREDIT_EXHAUSTED, "code:insufficient_quota"),
        ({"type": "overloaded_error"}, FailureKind.OVERLOADED, "code:overloaded_error"),
        (
            {"type": "invalid_request_error", "code": "invalid_api_key"},
            FailureKind.AUTH_ERROR,
            "code:invalid_api_key",
        ),
        ({"type": "tokens", "code": None}, None, ""),
        ({"code": "a_new_code"}, None, ""),
    ],
)
def test_the_code_names_the_kind(error: dict[str, Any], kind: FailureKind | None, rule: str) -> None:
    """A code or a type that is known decides; one that is not leaves it to the status and the sentence."""
    assert told(**error) == Refusal(kind, rule, 429)


@pytest.mark.parametrize(
    ("headers", "waits"),
    [
        ({"retry-after": "30"}, 30_000),
        ({"retry-after": "2678400"}, 2_678_400_000),
        ({"retry-after": "1.5"}, 1_500),
        ({"retry-after-ms": "250", "retry-after": "1"}, 250),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "9" * 40}, None),
        ({"retry-after": 30}, None),
        ({}, None),
    ],
)
def test_the_wait_that_is_asked_for_ends_then(headers: dict[str, Any], waits: int | None) -> None:
    """Seconds or milliseconds count from the answer; what is no such number is no wait."""
    assert told(headers=headers).reset_ms == (waits and AT + waits)


def test_a_windows_own_reset_is_preferred() -> None:
    """A moment that the vendor names is better than a wait that a proxy made up."""
    assert told(headers={"retry-after": "1"}, resets_at=1_795_370_000).reset_ms == 1_795_370_000_000


@pytest.mark.parametrize("body", ["", "<html>", "[]", '{"error": []}', '{"error": {"code": []}}', None, 5])
def test_any_body_can_be_read(body: object) -> None:
    """A refusal without a body of the usual form still has its status."""
    assert refusal({"statusCode": 503, "responseBody": body}, None) == Refusal(status=503)


@pytest.mark.parametrize("agent", ["opencode", "pi"])
def test_a_plugin_is_whole(agent: str) -> None:
    """What it imports from beside it is there under that very name."""
    files = plugin(agent)
    assert set(files) == {"locum.js", "refusal.js"}
    assert b'from "./refusal.js"' in files["locum.js"]
