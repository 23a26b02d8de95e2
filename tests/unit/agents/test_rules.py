"""Text rules: every shipped rule has a sentence it fits and a look-alike it must not fit."""

# ruff: noqa: RUF001 - vendors write typographic apostrophes, and so must we to test them

from __future__ import annotations

import pytest

from locum.agents.base import End
from locum.agents.judge import by_text
from locum.agents.rules import first_match, parse_rules, rules_for, shipped
from locum.errors import ConfigError
from locum.policy.failure import FailureKind

# rule id: (a sentence it fits, a look-alike that it must not fit)
TWINS = {
    "claude.server_limiting": (
        "API Error: Server is temporarily limiting requests (not your usage limit) · Rate limited",
        "The log has: API Error: Server is temporarily limiting requests",
    ),
    "claude.session_limit": (
        "You've hit your session limit · resets 12:50am (America/Los_Angeles)",
        'I told the user "You\'ve hit your session limit · resets 12:50am"',
    ),
    "claude.weekly_limit": (
        "You've hit your weekly limit · resets Nov 25, 4:39am (UTC)",
        "You've used 90% of your weekly limit · resets Nov 25, 4:39am (UTC)",
    ),
    "claude.model_limit": ("You've hit your Opus limit · resets 3pm (UTC)", "You've hit your Opus stride"),
    "claude.spend_limit": ("You've hit your monthly spend limit.", "Approaching your monthly spend limit."),
    "claude.limit": (
        "You’ve hit your limit · resets May 5 at 9pm (America/New_York)",
        "Warning: close to your usage limit · resets 3pm",
    ),
    "claude.api_limit": (
        "API Error: 400 You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC.",
        "You have reached your specified destination",
    ),
    "claude.credit": ("Credit balance is too low", "Your credit balance is fine"),
    "claude.not_logged_in": ("Not logged in · Please run /login", "The test checks for 'Not logged in'"),
    "claude.prompt_too_long": (
        "Prompt is too long · the request is ~214000 tokens",
        "The prompt is too long for a tweet",
    ),
    "claude.no_such_model": (
        "There's an issue with the selected model (x). It may not exist",
        "I think there's an issue with the selected model",
    ),
    "claude.no_connection": (
        "API Error: Unable to connect to API (ConnectionRefused)",
        "The client says: Unable to connect to API",
    ),
    "claude.timed_out": ("Request timed out", "The request timed out in my test"),
    "claude.unreadable_answer": ("API Error: Failed to parse JSON", "Failed to parse JSON in config.json"),
    "claude.overloaded": ("API Error: 529 Overloaded. This is a server-side issue", "It was overloaded: 529"),
    "claude.server_error": ("API Error: 500 Internal server error.", "I fixed the API error: 500 is now a 404"),
    "claude.rate_limit": (
        "API Error: Request rejected (429) · try again later",
        "Add a test for 'API Error: Request rejected (429)'",
    ),
    "claude.lost_session": (
        "No conversation found with session ID: 1-2",
        "grep: No conversation found with session ID",
    ),
    "claude.session_in_use": (
        "Error: Session ID 01a28285-a261-4f3e-833c-911e92bb8226 is already in use.",
        "The port behind Session ID 7 is already in use",
    ),
    "claude.bad_argument": ("error: unknown option '--nope'", "fatal error: unknown option"),
    "codex.lost_session": (
        "Error: thread/resume: thread/resume failed: no rollout found for thread id 01 (code -32600)",
        "2026-11-22T06:51:59Z ERROR codex_core::rollout::list: state db missing rollout path for thread 01",
    ),
    "codex.no_credit": (
        "Quota exceeded. Check your plan and billing details.",
        "Disk quota exceeded on /home",
    ),
    "codex.model_limit": (
        "You’ve hit your usage limit for gpt-5.1-codex-max. Try again at 9:41 AM.",
        "You’ve hit your usage limit. Upgrade to Pro",
    ),
    "codex.usage_limit": (
        "You've hit your usage limit. Upgrade to Pro or try again in 5 days 22 hours 11 minutes.",
        "The banner reads “You’ve hit your usage limit”",
    ),
    "codex.overloaded": (
        "Selected model is at capacity. Please try a different model.",
        "The selected model is at capacity in the mock",
    ),
    "codex.high_demand": (
        "We’re currently experiencing high demand, which may cause temporary errors.",
        "Say we're currently experiencing high demand",
    ),
    "codex.out_of_room": (
        "Codex ran out of room in the model's context window. Start a new thread",
        "If Codex ran out of room in the model's context window, compact",
    ),
    "codex.prompt_too_large": (
        "Error: turn/start: turn/start failed: Input exceeds the maximum length of 1048576 characters. (code -32602)",
        "ValueError: Input exceeds the maximum length of 80 characters",
    ),
    "codex.missing_key": ("Missing environment variable: `MOCK_KEY`.", "FAIL: Missing environment variable: HOME"),
    "codex.not_logged_in": ("ERROR: unexpected status 401 Unauthorized: bad key", "got unexpected status 401"),
    "codex.network": (
        "stream disconnected before completion: failed to lookup address information: Name does not resolve",
        "the client kept waiting for network",
    ),
    "codex.stream_cut": (
        "stream disconnected before completion: idle timeout waiting for SSE",
        "Falling back from WebSockets to HTTPS transport. stream disconnected before completion",
    ),
    "codex.server_error": ("ERROR: unexpected status 502 Bad Gateway", "unexpected status 402 Payment Required"),
    "codex.rate_limit": (
        "ERROR: exceeded retry limit, last status: 429 Too Many Requests",
        "ERROR: exceeded retry limit, last status: 503 Service Unavailable",
    ),
    "any.refused": (
        "I'm sorry, but I can't assist with that request.",
        "I can't help noticing that it was red before.",
    ),
    "codex.bad_argument": ("error: unexpected argument '--nope' found", "error: test failed"),
}
SHIPPED = {rule.id: rule for agent in ("claude-code", "codex") for rule in shipped(agent)}


def test_every_shipped_rule_has_its_twins() -> None:
    """A rule nobody shows a sentence for, and a look-alike for, does not ship."""
    assert set(TWINS) == set(SHIPPED)


@pytest.mark.parametrize("name", TWINS)
def test_a_rule_fits_its_sentence(name: str) -> None:
    """The sentence is found wherever the rule looks, on a later line too, and no rule before it takes it."""
    rule, sentence = SHIPPED[name], TWINS[name][0]
    for where in rule.where:
        found = first_match(shipped(rule.agent), where, f"some words before\n{sentence}\nand after")
        assert found is not None
        assert (found.rule.id, found.line) == (name, sentence)


@pytest.mark.parametrize("name", TWINS)
def test_a_rule_does_not_fit_its_look_alike(name: str) -> None:
    """A quotation, a warning or a neighbour's sentence is not a failure of this kind."""
    for where in SHIPPED[name].where:
        assert first_match([SHIPPED[name]], where, TWINS[name][1]) is None


def test_the_model_named_in_the_sentence_is_told() -> None:
    """A limit for one model names that model, in lower case."""
    opus = first_match(shipped("claude-code"), "message", TWINS["claude.model_limit"][0])
    assert opus is not None
    assert opus.model == "opus"
    codex = first_match(shipped("codex"), "message", TWINS["codex.model_limit"][0])
    assert codex is not None
    assert codex.model == "gpt-5.1-codex-max"


def test_a_server_error_vetoes_sentences_about_limits() -> None:
    """A failed server that talks of limits is not believed; other sentences still are."""
    rules = shipped("codex")
    assert first_match(rules, "message", TWINS["codex.usage_limit"][0], veto_limits=True) is None
    assert first_match(rules, "message", TWINS["codex.network"][0], veto_limits=True) is not None


def test_users_rules_come_first_and_only_for_their_agent() -> None:
    """A user's rule for an agent, or for all, goes ahead of the shipped ones; another agent's is left out."""
    own = parse_rules(
        [
            {"id": "mine", "kind": "network", "pattern": "Credit balance is too low"},
            {"id": "theirs", "agent": "codex", "kind": "network", "pattern": "x", "where": ["err"]},
        ],
    )
    found = first_match(rules_for("claude-code", own), "message", "Credit balance is too low")
    assert found is not None
    assert (found.rule.id, found.rule.kind) == ("mine", FailureKind.NETWORK)
    assert "theirs" not in {rule.id for rule in rules_for("claude-code", own)}
    assert {rule.id for rule in rules_for("command")} == {"any.refused"}


@pytest.mark.parametrize(
    "table",
    [
        {"kind": "network", "pattern": "x"},
        {"id": "a", "kind": "network"},
        {"id": "a", "kind": "network", "pattern": ""},
        {"id": "a", "kind": "sunspots", "pattern": "x"},
        {"id": "a", "kind": "network", "pattern": "("},
        {"id": "a", "kind": "network", "pattern": "x", "where": ["screen"]},
        {"id": "a", "kind": "network", "pattern": "x", "where": []},
        {"id": "a", "kind": "usage_limit", "pattern": "x", "window": "fortnight"},
        {"id": "a", "kind": "network", "pattern": "x", "patern": "y"},
    ],
)
def test_a_bad_rule_is_refused(table: dict[str, object]) -> None:
    """A rule that could never work is an error that names it, not silence."""
    with pytest.raises(ConfigError, match="signal rule"):
        parse_rules([table])


@pytest.mark.parametrize(("remedy", "tail"), [("do this", " - do this"), ("x" * 2_000, "x" * 490)])
def test_a_rules_remedy_ends_the_evidence(remedy: str, tail: str) -> None:
    """What to do stands after what happened, on one line, and never makes it longer than evidence may be."""
    own = parse_rules([{"id": "mine", "kind": "crash", "pattern": "the moon", "where": ["err"], "remedy": remedy}])
    told = by_text(own, End(1, 0, err_tail=f"the moon is full of {'y' * 600}\n"))
    assert told is not None
    assert len(told.evidence) == 500
    assert told.evidence.endswith(tail)
