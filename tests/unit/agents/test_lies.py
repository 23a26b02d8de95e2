"""Runs that say they went well, and did not."""

# ruff: noqa: RUF001 - models write typographic apostrophes

from __future__ import annotations

import json

import pytest

from locum.agents.base import End, Line, Signal, Source, Success, Verdict
from locum.agents.registry import AGENTS, agents
from locum.agents.rules import parse_rules
from locum.policy.failure import Failure, FailureKind
from locum.policy.usage import Tokens

CLAUDE = AGENTS["claude-code"]
SPENT = {"input_tokens": 900, "output_tokens": 5}
TOOL = {"type": "assistant", "message": {"id": "m", "content": [{"type": "tool_use", "id": "t", "name": "Edit"}]}}


def result(said: str, usage: dict[str, int] | None = SPENT) -> dict[str, object]:
    """The last line of a Claude Code that says that all went well."""
    told = {"usage": usage} if usage is not None else {}
    return {"type": "result", "subtype": "success", "is_error": False, "num_turns": 1, "result": said, **told}


def judged(*events: dict[str, object], spent: int = 0) -> Verdict:
    """What a run that wrote these lines and ended with code 0 meant; `spent` is what the ledger holds for it."""
    lines = [Line(Source.OUT, json.dumps(event).encode()) for event in events]
    signals = [item for line in lines for item in CLAUDE.read(line) if isinstance(item, Signal)]
    return CLAUDE.verdict(End(0, 0, tokens=Tokens(spent)), signals)


def test_work_without_a_token_is_no_work() -> None:
    """A success that told zero tokens, and of which the ledger knows none, was never asked of a model."""
    told = judged(result("All done.", {"input_tokens": 0, "output_tokens": 0}))
    assert isinstance(told, Failure)
    assert (told.kind, told.rule) == (FailureKind.NO_RESULT, "done:no_tokens")
    assert "no token" in told.evidence


@pytest.mark.parametrize(("usage", "spent"), [({"input_tokens": 0}, 7), (None, 0), ({}, 0), (SPENT, 0)])
def test_a_count_that_is_unknown_is_not_zero(usage: dict[str, int] | None, spent: int) -> None:
    """A run whose messages were counted, or which told no count at all, is not called a lie for it."""
    assert isinstance(judged(result("All done.", usage), spent=spent), Success)


@pytest.mark.parametrize(
    "said",
    [
        "I'm sorry, but I can't assist with that request.",
        "I’m sorry, but I cannot help with that.",
        "Sorry, I can't help you with this task",
        "I am unable to fulfill this request.",
        "I'm not able to comply with this instruction.",
        "  I cannot assist with that.\n",
    ],
)
def test_a_refusal_is_no_result(said: str) -> None:
    """An answer that is a refusal and nothing else leaves the task undone, whatever the exit code says."""
    told = judged(result(said), spent=9)
    assert isinstance(told, Failure)
    assert (told.kind, told.rule) == (FailureKind.NO_RESULT, "any.refused")
    assert told.evidence == said.strip()


@pytest.mark.parametrize(
    "said",
    [
        "I can't help noticing that the tests were red before: they are green now.",
        "The bot now answers: I'm sorry, but I can't assist with that request.",
        'I added a test for "I cannot assist with that."',
        "I cannot assist with that.\nBut the rest is done.",
        "Done.\nI cannot assist with that.",
        "I cannot help with the deploy, since the credentials are missing here; the script is ready, so run it yourself.",
        "",
    ],
)
def test_an_answer_that_speaks_of_a_refusal_is_none(said: str) -> None:
    """A refusal that is quoted, or is a part of an answer, is the agent's own affair."""
    assert isinstance(judged(result(said), spent=9), Success)


def test_who_has_worked_may_refuse_the_rest() -> None:
    """After a tool call the same words say that something is left, not that nothing was done."""
    assert isinstance(judged(TOOL, result("I cannot assist with that."), spent=9), Success)


def test_a_rule_of_ones_own_may_read_the_whole_answer() -> None:
    """Somebody whose model refuses in other words can say so in service.json."""
    own = parse_rules(
        [{"id": "no", "agent": "claude-code", "kind": "no_result", "pattern": "Das geht nicht", "where": ["answer"]}]
    )
    agent = agents(own)["claude-code"]
    read = agent.read(Line(Source.OUT, json.dumps(result("Das geht nicht")).encode()))
    told = agent.verdict(End(0, 0, tokens=Tokens(1)), [each for each in read if isinstance(each, Signal)])
    assert isinstance(told, Failure)
    assert told.rule == "no"
