"""What providers call their refusals: their codes, their envelopes, and when they say it is over."""

from __future__ import annotations

import pytest

from locum.agents.vendors import kind_of, refusal, reset_of
from locum.policy.failure import FailureKind

BODY = '{"message":"The usage limit has been reached","type":"usage_limit_reached","code":null,"resets_at":1795341009}'


@pytest.mark.parametrize("body", [BODY, f'{{"error":{BODY}}}', {"error": {"type": "usage_limit_reached"}}])
def test_a_refusal_is_read_in_its_envelope_or_without(body: object) -> None:
    """Providers send it in one; agents pass either on, as text or read."""
    assert kind_of(refusal(body)) is FailureKind.USAGE_LIMIT


@pytest.mark.parametrize("body", ["Bad Gateway", '"Bad Gateway"', "[1]", "", None, 7, "[" * 100_000])
def test_a_refusal_that_is_none_tells_nothing_but_its_text(body: object) -> None:
    """A proxy's page, a list, nothing at all, a bomb: no kind, no reset, no exception."""
    told = refusal(body)
    assert kind_of(told) is None
    assert reset_of(told, 1_000) is None
    assert ("Bad Gateway" in str(told.get("message"))) is ("Bad Gateway" in str(body))


def test_the_code_says_more_than_the_type() -> None:
    """OpenAI's type is `invalid_request_error` for a wrong key and for a long prompt alike."""
    wrong = {"type": "rate_limit_error", "code": "insufficient_quota"}
    assert kind_of(wrong) is FailureKind.CREDIT_EXHAUSTED
    assert kind_of({"type": "invalid_request_error", "code": None}) is None


@pytest.mark.parametrize(
    ("error", "reset_ms"),
    [
        ({"resets_at": 1_795_341_009, "resets_in_seconds": 10}, 1_795_341_009_000),
        ({"resets_in_seconds": 10_800}, 1_795_330_209_000 + 10_800_000),
        ({"resets_at": "soon"}, None),
        ({"resets_in_seconds": -1}, None),
    ],
)
def test_the_moment_is_preferred_to_the_wait(error: dict[str, object], reset_ms: int | None) -> None:
    """A moment does not depend on when it was said; a wait does."""
    assert reset_of(error, 1_795_330_209_000) == reset_ms


def test_a_wait_from_an_unknown_moment_is_none() -> None:
    """Three hours from nobody knows when is not a reset."""
    assert reset_of({"resets_in_seconds": 10_800}, None) is None
