"""What model providers call their refusals, for agents that pass a provider's own words on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from locum.agents import lines
from locum.agents import refusal as refusals
from locum.policy.failure import FailureKind

CODES: Mapping[str, FailureKind] = {
    **refusals.CODES,
    "additional_spend_limit_reached": FailureKind.CREDIT_EXHAUSTED,
    "api_error": FailureKind.SERVER_ERROR,
    "model_max_prompt_tokens_exceeded": FailureKind.CONTEXT_OVERFLOW,
    "model_overloaded": FailureKind.OVERLOADED,
    "not_found_error": FailureKind.MODEL_UNAVAILABLE,
    "quota_exceeded": FailureKind.USAGE_LIMIT,
    "server_error": FailureKind.SERVER_ERROR,
}
"""As in a refusal that an agent passes on whole, with those that its status would tell as well, and GitHub's."""


def refusal(body: object) -> Mapping[str, Any]:
    """The error that a refused request was answered with, as JSON text or read already; {"message": …} for plain text.

    It may lie in an envelope (`{"error": {…}}`), as providers send it, or without.
    """
    if isinstance(body, str):
        try:
            body = json.loads(body)
        except (ValueError, RecursionError):
            return {"message": lines.text(body)}
    if isinstance(body, str):
        return {"message": lines.text(body)}
    told = lines.table(body)
    return lines.table(told.get("error")) or told


def kind_of(error: Mapping[str, Any]) -> FailureKind | None:
    """The kind that a refusal's own code names, or its type; None where neither says enough."""
    names = (lines.key(error.get("code")), lines.key(error.get("type")))
    return next((CODES[name] for name in names if name in CODES), None)


def reset_of(error: Mapping[str, Any], at_ms: int | None) -> int | None:
    """When a refusal says that it is over (epoch milliseconds); `at_ms` is when it was said."""
    told_ms = lines.epoch_ms(error.get("resets_at"))
    seconds = lines.epoch_ms(error.get("resets_in_seconds"))
    if told_ms is not None or seconds is None or at_ms is None:
        return told_ms
    return at_ms + seconds
