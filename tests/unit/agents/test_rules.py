"""Text rules: how they are read, asked and refused; what each is for is proved in test_proof.py."""

# ruff: noqa: RUF001 - vendors write typographic apostrophes, and so must we to test them

from __future__ import annotations

import pytest

from locum.agents.base import End
from locum.agents.judge import by_text
from locum.agents.rules import first_match, parse_rules, rules_for, shipped
from locum.errors import ConfigError
from locum.policy.failure import FailureKind

OPUS = "You've hit your Opus limit · resets 3pm (UTC)"
CODEX_MODEL = "You’ve hit your usage limit for gpt-5.1-codex-max. Try again at 9:41 AM."
CODEX_LIMIT = "You've hit your usage limit. Upgrade to Pro or try again in 5 days 22 hours 11 minutes."
CODEX_NETWORK = "stream disconnected before completion: failed to lookup address information: Name does not resolve"


def test_the_model_named_in_the_sentence_is_told() -> None:
    """A limit for one model names that model, in lower case."""
    opus = first_match(shipped("claude-code"), "message", OPUS)
    assert opus is not None
    assert opus.model == "opus"
    codex = first_match(shipped("codex"), "message", CODEX_MODEL)
    assert codex is not None
    assert codex.model == "gpt-5.1-codex-max"


def test_a_server_error_vetoes_sentences_about_limits() -> None:
    """A failed server that talks of limits is not believed; other sentences still are."""
    rules = shipped("codex")
    assert first_match(rules, "message", CODEX_LIMIT, veto_limits=True) is None
    assert first_match(rules, "message", CODEX_NETWORK, veto_limits=True) is not None


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
    assert {rule.id for rule in rules_for("command")} == {"any.refused", "auggie.not_logged_in", "droid.not_logged_in"}


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
