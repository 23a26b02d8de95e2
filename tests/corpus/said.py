"""Runs for rules of text: each agent is told, word for word, what it makes the sentence of. `-m tests.corpus.said`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.acceptance.provider import Provider
from tests.acceptance.provider_steps import Refusal, Step
from tests.corpus.record import TOLD, Play, record

GONE = "bbbbbbbb-2222-4333-8444-555555555555"
"""A session that nobody has."""
NOBODY = "http://127.0.0.1:9"
"""Where nobody listens."""
DAY_S = 86_400


def _refused(status: int, error: Mapping[str, Any], headers: Mapping[str, str] | None = None, **more: Any) -> Play:
    body = {"type": "error", "error": error}
    return Play((Step("refuse", refusal=Refusal(status, body, headers or {})),), **more)


def _github(status: int, code: str, wait_s: int = 0, **more: Any) -> Play:
    """GitHub names a code and no sentence: that is Copilot's own."""
    headers = {"retry-after": str(wait_s)} if wait_s else {}
    return _refused(status, {"code": code}, headers, github=True, **more)


def _claude(status: int, kind: str, message: str, **more: Any) -> Play:
    return _refused(status, {"type": kind, "message": message}, **more)


def _window(claim: str, wait_s: int, **overage: str) -> Play:
    """A subscription's window that is spent, whichever it is."""
    reset = {"status": "rejected", "representative-claim": claim, "reset": f"+{wait_s}"}
    told = reset | {f"overage-{name.replace('_', '-')}": value for name, value in overage.items()}
    headers = {f"anthropic-ratelimit-unified-{name}": value for name, value in told.items()}
    message = "This request would exceed your account's rate limit. Please try again later."
    return _claude(429, "rate_limit_error", message, headers=headers | {"x-should-retry": "false"}, oauth=True)


def _openai(status: int, kind: str, message: str, code: str | None = None) -> Play:
    return _refused(status, {"message": message, "type": kind, "param": None, "code": code})


def _google(status: int, name: str, message: str) -> Play:
    return _refused(status, {"code": status, "message": message, "status": name})


_NO_MONEY = _openai(
    429,
    "insufficient_quota",
    "You exceeded your current quota, please check your plan and billing details.",
    "insufficient_quota",
)
SAID: Mapping[str, Mapping[str, Play]] = {
    "copilot": {
        "lost_session": Play(resume=GONE),
        "bad_argument": Play(args=("--nope",)),
        "month_spent": _github(402, "quota_exceeded"),
        "no_credit": _github(402, "additional_spend_limit_reached"),
        "own_limit": _github(402, "session_quota_exceeded"),
        "session_limit": _github(429, "user_global_rate_limited", 2 * 3_600),
        "stream_cut": Play((Step("bad_json"),)),
        "provider_credit": _claude(400, "invalid_request_error", "Your credit balance is too low to access the API."),
        "too_long": Play(prompt="word " * 180_000),
        # It asks whether to go on with another model, also when it was told to ask nobody.
        "weekly_limit": _github(429, "user_weekly_rate_limited", 2 * DAY_S, patience_s=20),
    },
    "claude-code": {
        "server_limiting": _claude(429, "rate_limit_error", "Rate limited", oauth=True),
        "weekly_limit": _window("seven_day", 3 * DAY_S),
        "opus_limit": _window("seven_day_opus", 2 * DAY_S),
        "limit": _window("overage", 7_200, status="rejected"),
        "spend_limit": _window("overage", DAY_S, status="rejected", disabled_reason="org_spend_cap_reached"),
        "out_of_credits": _window("overage", DAY_S, status="rejected", disabled_reason="out_of_credits"),
        "api_limit": _claude(
            400,
            "invalid_request_error",
            "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC.",
        ),
        "disabled": _claude(400, "invalid_request_error", "This organization has been disabled."),
        "no_subscription": _claude(
            403,
            "permission_error",
            "OAuth authentication is currently not allowed for this organization.",
            oauth=True,
        ),
        "session_in_use": Play(again=True),
    },
    "gemini": {
        "capacity_soon": _google(
            429,
            "RESOURCE_EXHAUSTED",
            "You have exhausted your capacity on this model. Your quota will reset after 5s.",
        ),
        "capacity": _google(
            429,
            "RESOURCE_EXHAUSTED",
            "You have exhausted your capacity on this model. Your quota will reset after 8h44m7s.",
        ),
        "model_day": _google(
            429,
            "RESOURCE_EXHAUSTED",
            "Quota exceeded for quota metric 'Gemini 2.5 Pro Requests' and limit 'Gemini 2.5 Pro Requests per day per user "
            "per tier' of service 'cloudcode-pa.googleapis.com' for consumer 'project_number:1'.",
        ),
        "account_day": _google(
            429,
            "RESOURCE_EXHAUSTED",
            "Quota exceeded for quota metric 'StreamGenerateContent Requests' and limit 'StreamGenerateContent Requests "
            "per day per user per tier' of service 'cloudcode-pa.googleapis.com' for consumer 'project_number:1'.",
        ),
        "no_such_model": Play((Step("not_found"),)),
        "lost_session": Play(resume=GONE),
        "session_in_use": Play(again=True),
        "bad_argument": Play(args=("--nonsense",)),
    },
    "codex": {
        "no_credit": Play((Step("credit"),)),
        "prompt_too_large": Play(prompt="word " * 220_000),
        "throttle": Play(
            (
                Step(
                    "error_stream",
                    refusal=Refusal(
                        200,
                        {
                            "type": "response.failed",
                            "response": {
                                "id": "resp_1",
                                "object": "response",
                                "status": "failed",
                                "error": {
                                    "code": "rate_limit_exceeded",
                                    "message": "Rate limit reached for gpt-5 in organization org-mock on tokens per min "
                                    "(TPM): Limit 30000, Used 29000, Requested 5000. Please try again in 28s.",
                                },
                            },
                        },
                    ),
                ),
            )
        ),
    },
    "qwen": {
        "no_credit": _NO_MONEY,
        "retry_soon": _openai(
            429,
            "insufficient_quota",
            "You exceeded your current quota, please check your plan and billing details. Please retry in 30s.",
        ),
        "lost_session": Play(resume=GONE),
        "session_in_use": Play(again=True),
        "turns": Play((Step("tools", tokens=TOLD),), args=("--max-session-turns", "1")),
        "bad_argument": Play(args=("--nonsense",)),
    },
    "aider": {
        "no_credit": _NO_MONEY,
        "no_connection": Play(url=NOBODY),
        "forbidden": Play((Step("forbidden"),)),
        "bad_argument": Play(args=("--nope",)),
    },
    "opencode": {
        "plan_limit": _openai(
            429,
            "usage_limit",
            "Usage limit reached. It will reset in 3 hours 20 minutes. To continue using this model now, enable usage "
            "from your available balance - https://opencode.ai/workspace/wrk_1/go",
        ),
        "free_limit": _openai(429, "FreeUsageLimitError", "Free usage exceeded, subscribe to Go"),
    },
}
"""What is recorded as said.NAME: for each agent, by the name of the rule it is for."""


def main(argv: Sequence[str] | None = None) -> int:
    """Record them anew, one after the other; 2: it was asked for what is not there."""
    parser = argparse.ArgumentParser(prog="said", description=__doc__)
    parser.add_argument("agent", choices=list(SAID))
    parser.add_argument("names", nargs="*", help="left out: all of them")
    parser.add_argument("--into", type=Path, help="where the recordings go, to be looked at and taken over")
    asked = parser.parse_args(argv)
    plays = SAID[asked.agent]
    if unknown := sorted(set(asked.names) - set(plays)):
        print(f"said: there is no {', '.join(unknown)}; there are {', '.join(plays)}", file=sys.stderr)
        return 2
    with Provider() as provider:
        for name in asked.names or plays:
            into = asked.into or Path(tempfile.mkdtemp())
            case = record(asked.agent, name, provider, into, plays[name])
            print(f"{case.folder}: {case.expected}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
