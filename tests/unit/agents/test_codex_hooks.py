"""Codex's hooks: what each answer says, which failed requests end a turn, and what its rollout adds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from locum.agents.base import Line, Mark, Signal, Source
from locum.agents.hooks import Moment, Stop
from locum.agents.registry import AGENTS, agents, hooks
from locum.agents.rules import parse_rules
from locum.policy.failure import Failure, FailureKind
from tests.corpus.hooked import sessions
from tests.unit.agents.build import ENDED_MS

HOOKS = hooks(AGENTS)["codex"]
NOW = Stop("the budget is spent", now=True)


def body(event: str, **more: Any) -> dict[str, Any]:
    """What Codex writes to a hook of `event`."""
    return {"hook_event_name": event, "session_id": "t-1", "turn_id": "u-1", "model": "gpt-5", **more}


def row(payload: dict[str, Any], at: str = "2026-11-22T06:52:00Z", **more: Any) -> Line:
    """One line of a rollout."""
    told = {"timestamp": at, "type": "event_msg", "payload": payload}
    return Line(Source.TRANSCRIPT, json.dumps(told).encode(), **more)


def ended(error: dict[str, Any] | None = None) -> dict[str, Any]:
    """The end of a turn, as a rollout tells it."""
    return {"type": "task_complete", "turn_id": "u-1", **({"error": error} if error else {})}


def failed(kind: str = "server_overloaded") -> Line:
    """The end of a turn that failed."""
    return row(ended({"message": "m", "codex_error_info": kind}))


def judged(*lines: Line) -> Failure | None:
    """The failure that these lines of a rollout mean."""
    signals = [item for line in lines for item in HOOKS.read(line) if isinstance(item, Signal)]
    return HOOKS.verdict(signals, ENDED_MS, "UTC")


def test_a_tool_is_denied_and_nothing_more() -> None:
    """Codex throws an answer with `continue` away, and the tool runs: the denial must stand alone."""
    assert HOOKS.answer(HOOKS.told(body("PreToolUse")), NOW) == {
        "hookSpecificOutput": {
            "hookEventName": "PreToolUse",
            "permissionDecision": "deny",
            "permissionDecisionReason": "the budget is spent",
        }
    }


def test_a_prompt_is_blocked_with_its_reason() -> None:
    """The turn and the model are known with it."""
    told = HOOKS.told(body("UserPromptSubmit"))
    assert HOOKS.answer(told, Stop("no more")) == {"decision": "block", "reason": "no more"}
    assert (told.turn, told.model) == ("u-1", "gpt-5")


@pytest.mark.parametrize("event", ["Stop", "PostToolUse", "PostModelRequest", "SessionEnd"])
def test_what_has_happened_is_not_undone(event: str) -> None:
    """A blocked Stop would go on with the reason as a prompt, and a blocked result would hide it from the model."""
    assert HOOKS.answer(HOOKS.told(body(event)), NOW) == {}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("You\u2019ve hit your usage limit. Upgrade to Pro or try again at 9:41 AM.", FailureKind.USAGE_LIMIT),
        ("You\u2019ve hit your usage limit for gpt-5. Switch to another model.", FailureKind.USAGE_LIMIT),
        ("Quota exceeded. Check your plan and billing details.", FailureKind.CREDIT_EXHAUSTED),
    ],
)
def test_a_limit_is_told_at_once(error: str, kind: FailureKind) -> None:
    """Codex does not try a limit again, and no hook comes after it until the next prompt: so this one tells."""
    told = HOOKS.told(body("PostModelRequest", status="failed", error=error))
    assert told.moment is Moment.FAILED
    assert told.signal
    failure = HOOKS.verdict([told.signal], ENDED_MS, "UTC")
    assert failure
    assert failure.kind is kind
    assert (failure.reset_ms is not None) is ("9:41" in error)


@pytest.mark.parametrize(
    "error",
    [
        "stream disconnected before completion: stream closed before response.completed",
        "unexpected status 401 Unauthorized: Incorrect API key provided.",
        "exceeded retry limit, last status: 429 Too Many Requests",
        "We\u2019re currently experiencing high demand, which may cause temporary errors.",
        "Selected model is at capacity. Please try a different model.",
        "Reconnecting... 1/5 (You\u2019ve hit your usage limit.)",
        "something new",
        7,
    ],
)
def test_a_request_that_may_be_tried_again_is_no_failure_yet(error: Any) -> None:
    """A cut stream is told as failed and then tried again: to call that a failed turn would bump for nothing."""
    told = HOOKS.told(body("PostModelRequest", status="failed", error=error))
    assert (told.moment, told.signal) == (Moment.SPENT, None)


def test_the_users_own_rule_makes_a_limit() -> None:
    """Own text rules of service.json count here too."""
    own = parse_rules([{"id": "mine", "kind": "usage_limit", "pattern": "No more today"}])
    asked = body("PostModelRequest", status="failed", error="No more today")
    assert hooks(agents(own))["codex"].told(asked).moment is Moment.FAILED
    assert HOOKS.told(asked).moment is Moment.SPENT


def test_a_turn_that_went_well_ends_an_earlier_failure() -> None:
    """A rollout holds all turns of a session: what failed in one is over when a later one ends well."""
    assert judged(failed()) is not None
    assert judged(failed(), row(ended())) is None
    last = judged(row(ended()), failed("unauthorized"))
    assert last
    assert last.kind is FailureKind.AUTH_ERROR


def test_a_turn_before_the_run_began_tells_nothing() -> None:
    """A resumed rollout is read again from its start: neither old failures nor old ends count."""
    later = ENDED_MS + 86_400_000
    for payload in (ended(), ended({"message": "m", "codex_error_info": "unauthorized"})):
        assert HOOKS.read(row(payload, run_started_ms=later)) == ()
    assert [item.mark for item in HOOKS.read(row(ended())) if isinstance(item, Signal)] == [Mark.DONE]


def test_a_good_end_is_only_read_where_it_stands() -> None:
    """The words alone, in another row or in another place, are no end of a turn, nor is one with an odd error good."""
    assert HOOKS.read(row(ended() | {"error": "a word"})) == ()
    said = {"type": "agent_message", "message": '"task_complete"'}
    assert HOOKS.read(row(said)) == ()
    assert HOOKS.read(Line(Source.OUT, row(ended()).data)) == ()


def test_a_limit_told_twice_is_one_failure() -> None:
    """Hook and rollout tell the same: together they name its type, its window and the vendor's own reset."""
    (session,) = [each for each in sessions("codex") if each.name == "codex/hook.fail_limit"]
    (signal,) = [told.signal for told in session.told if told.signal]
    by_hook = HOOKS.verdict([signal], ENDED_MS, "UTC")
    both = session.failure()
    assert by_hook
    assert both
    assert by_hook.kind is both.kind is FailureKind.USAGE_LIMIT
    assert (by_hook.window, both.window) == (None, "five_hour")
    assert by_hook.reset_ms
    assert both.reset_ms
    assert 0 <= both.reset_ms - by_hook.reset_ms < 60_000


def test_people_are_told_what_cannot_be() -> None:
    """No halt in mid-turn, and hooks that are silently not run until they are trusted."""
    assert "halted" in HOOKS.cannot
    assert "trusted" in HOOKS.cannot
    (end,) = [hook for hook in HOOKS.installed if hook.event == "SessionEnd"]
    assert end.seconds <= 3
