"""Claude Code's hooks: what each answer says, and what the failures tell that no recording shows."""

from __future__ import annotations

from typing import Any

import pytest

from locum.agents.base import Line, Source
from locum.agents.hooks import Hook, Moment, Stop
from locum.agents.registry import AGENTS, agents, hooks
from locum.agents.rules import parse_rules
from locum.policy.failure import Failure, FailureKind
from tests.unit.agents.build import ENDED_MS

HOOKS = hooks(AGENTS)["claude-code"]
NOW = Stop("the budget is spent", now=True)


def body(event: str, **more: Any) -> dict[str, Any]:
    """What Claude Code writes to a hook of `event`."""
    return {"hook_event_name": event, "session_id": "s-1", "prompt_id": "p-1", **more}


def failed(adapter: Any = HOOKS, **more: Any) -> Failure:
    """The failure that a StopFailure means."""
    told = adapter.told(body("StopFailure", **more))
    assert told.moment is Moment.FAILED
    verdict = adapter.verdict([told.signal], ENDED_MS, "UTC")
    assert isinstance(verdict, Failure)
    return verdict


def test_a_blocked_prompt_gives_its_reason() -> None:
    """`block` erases the prompt and gives it back to its author; `continue: false` would leave it in the session."""
    told = HOOKS.told(body("UserPromptSubmit", prompt="say done"))
    assert HOOKS.answer(told, NOW) == {"decision": "block", "reason": "the budget is spent"}
    assert (told.turn, told.signal) == ("p-1", None)


def test_a_halt_denies_the_tool_and_then_does_not_go_on() -> None:
    """The two steps of a halt are answers to two hooks: in one answer the denial would undo the halt."""
    denied = HOOKS.answer(HOOKS.told(body("PreToolUse")), NOW)
    assert denied == {
        "hookSpecificOutput": {
            "hookEventName": "PreToolUse",
            "permissionDecision": "deny",
            "permissionDecisionReason": "the budget is spent",
        }
    }
    halted = HOOKS.answer(HOOKS.told(body("PostToolBatch")), NOW)
    assert halted == {"continue": False, "stopReason": "the budget is spent"}


@pytest.mark.parametrize("event", ["Stop", "SubagentStop", "PostToolUse"])
def test_a_turn_that_ends_is_left_to_end(event: str) -> None:
    """`block` would make a Stop go on with its reason as a prompt: nothing that ends is answered but by a note."""
    assert HOOKS.answer(HOOKS.told(body(event)), NOW) == {}
    assert HOOKS.answer(HOOKS.told(body(event)), NOW, "90 % used") == {"systemMessage": "90 % used"}


def test_a_note_is_not_sent_where_nobody_reads_it() -> None:
    """What these two answer is ignored."""
    for event in ("StopFailure", "SessionEnd"):
        assert HOOKS.answer(HOOKS.told(body(event)), None, "note") == {}


@pytest.mark.parametrize(
    ("told", "kind", "rule"),
    [
        ({"error": "server_error", "last_assistant_message": "API Error: 529 Overloaded."}, "overloaded", "status:529"),
        ({"error": "unknown", "error_details": "503 {}"}, "server_error", "status:503"),
        ({"error": "unknown", "error_details": '413 {"error":{"message":"no"}}'}, "context_overflow", "status:413"),
        ({"error": "overloaded"}, "overloaded", "error:overloaded"),
        ({"error": "oauth_org_not_allowed"}, "auth_error", "error:oauth_org_not_allowed"),
        (
            {"error": "invalid_request", "error_details": '400 {"error":{"message":"prompt is too long: 2 > 1"}}'},
            "context_overflow",
            "error_details:prompt_too_long",
        ),
        (
            {"error": "invalid_request", "last_assistant_message": "Prompt is too long · try less"},
            "context_overflow",
            "claude.prompt_too_long",
        ),
        (
            {"error": "rate_limit", "error_details": "429 {", "last_assistant_message": "x"},
            "rate_limit",
            "error:rate_limit",
        ),
        ({"error": "a_new_one"}, "unknown", "error:a_new_one"),
        ({}, "unknown", "error:unknown"),
    ],
)
def test_a_failure_is_named_by_status_type_or_sentence(told: dict[str, Any], kind: str, rule: str) -> None:
    """What is more precise decides; a type nobody knows yet is unknown and not taken for a limit."""
    failure = failed(**told)
    assert (failure.kind, failure.rule) == (kind, rule)


def test_the_provider_is_quoted_when_the_agent_says_nothing() -> None:
    """People read the message of the body, not the whole of it, and whatever there is when it is no body."""
    said = failed(error="unknown", error_details='400 {"error":{"message":"no such tool"}}')
    assert said.evidence == "no such tool"
    assert failed(error="unknown", error_details="socket closed").evidence == "socket closed"


@pytest.mark.parametrize(
    ("window", "text"), [("five_hour", "session limit"), ("seven_day", "weekly limit"), ("seven_day", "Opus limit")]
)
def test_a_limit_says_when_it_is_over(window: str, text: str) -> None:
    """A subscription's limit comes as `rate_limit` with a sentence: window, reset and model are read from that."""
    failure = failed(error="rate_limit", last_assistant_message=f"You've hit your {text} · resets 9:39am (UTC)")
    assert (failure.kind, failure.window) == (FailureKind.USAGE_LIMIT, window)
    assert failure.reset_ms == ENDED_MS - ENDED_MS % 86_400_000 + (9 * 60 + 39) * 60_000
    assert failure.model == ("opus" if "Opus" in text else None)


def test_the_users_own_rule_names_a_failure() -> None:
    """Own text rules of service.json count for hooks as they do for runs."""
    own = parse_rules([{"id": "mine", "kind": "credit_exhausted", "pattern": "The till is empty"}])
    mine = hooks(agents(own))["claude-code"]
    told = {"error": "rate_limit", "last_assistant_message": "The till is empty"}
    assert (failed(mine, **told).kind, failed(mine, **told).rule) == ("credit_exhausted", "mine")
    assert failed(**told).kind == "rate_limit"


def test_transcripts_are_read_as_those_of_a_run() -> None:
    """One row, one key: the message's id, whoever started the agent."""
    row = b'{"type":"assistant","sessionId":"s-1","message":{"id":"m","model":"x","usage":{"input_tokens":3}}}'
    line = Line(Source.TRANSCRIPT, row)
    assert HOOKS.read(line) == AGENTS["claude-code"].read(line) != ()


def test_subagents_lie_beside_the_session() -> None:
    """A session's folder has its transcript's name; without a transcript nothing is looked for."""
    told = HOOKS.told(body("SubagentStop", transcript_path="/h/.claude/projects/-w/s-1.jsonl"))
    assert HOOKS.subagents(told) == "/h/.claude/projects/-w/s-1/**/*.jsonl"
    assert HOOKS.subagents(HOOKS.told(body("SubagentStop", transcript_path="/etc/passwd"))) == ""


def test_the_settings_have_claude_codes_own_form() -> None:
    """A group for its event, with seconds; a matcher only where there are tools."""
    called = {"type": "command", "command": "x", "timeout": 5}
    assert HOOKS.entry(Hook("PreToolUse", 5, "*"), "x") == {"matcher": "*", "hooks": [called]}
    assert HOOKS.entry(Hook("Stop", 5), "x") == {"hooks": [called]}
