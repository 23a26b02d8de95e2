"""Gemini CLI's hooks: what each answer says, and how its chat log is counted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from locum.agents.base import Line, Mark, Signal, Source
from locum.agents.hooks import Hook, Moment, Stop
from locum.agents.registry import AGENTS, hooks
from locum.agents.replay import TRANSCRIPT, cases
from locum.policy.usage import Tokens, Usage

HOOKS = hooks(AGENTS)["gemini"]
NOW = Stop("the budget is spent", now=True)
USED = {"input": 2000, "output": 32, "cached": 800, "thoughts": 10, "tool": 0, "total": 2042}


def body(event: str, **more: Any) -> dict[str, Any]:
    """What Gemini CLI writes to a hook of `event`."""
    return {"hook_event_name": event, "session_id": "s-1", "timestamp": "2026-11-22T06:53:03.145Z", **more}


def message(**more: Any) -> dict[str, Any]:
    """One message of a chat log."""
    at = "2026-11-22T06:53:03.386Z"
    return {"id": "m-1", "timestamp": at, "type": "gemini", "tokens": USED, "model": "gemini-2.5-flash", **more}


def read(row: dict[str, Any], source: Source = Source.TRANSCRIPT) -> list[Usage | Signal]:
    """What one line of a chat log tells."""
    return list(HOOKS.read(Line(source, json.dumps(row).encode(), session="s-1")))


def counted(**used: Any) -> Tokens:
    """The tokens of a message that used so much."""
    (item,) = read(message(tokens=used))
    assert isinstance(item, Usage)
    return item.tokens


def test_each_stop_has_the_form_that_says_why() -> None:
    """A denied prompt or request ends the turn with its reason; a tool must be halted, or the model is asked again."""
    denied = {"decision": "deny", "reason": "the budget is spent"}
    assert HOOKS.answer(HOOKS.told(body("BeforeAgent")), Stop("the budget is spent")) == denied
    assert HOOKS.answer(HOOKS.told(body("BeforeModel")), NOW) == denied
    halted = {"continue": False, "stopReason": "the budget is spent", **denied}
    assert HOOKS.answer(HOOKS.told(body("BeforeTool")), NOW) == halted


@pytest.mark.parametrize("event", ["AfterAgent", "AfterModel", "AfterTool", "SessionEnd"])
def test_what_has_happened_is_not_undone(event: str) -> None:
    """A denied AfterAgent would be one more turn."""
    assert HOOKS.answer(HOOKS.told(body(event)), NOW) == {}


def test_the_model_is_known_where_it_is_asked() -> None:
    """Requests name it; it has no id for a turn."""
    told = HOOKS.told(body("BeforeModel", llm_request={"model": "gemini-2.5-flash"}))
    assert (told.moment, told.model, told.turn) == (Moment.TOOL, "gemini-2.5-flash", "")
    assert HOOKS.told(body("BeforeModel", llm_request=["x"])).model is None


def test_a_message_is_counted_by_type() -> None:
    """Cached input is taken out of the input, thoughts are output: the four types add up to the vendor's own total."""
    (item,) = read(message())
    assert item == Usage("m-1", Tokens(1200, 42, 800), "gemini-2.5-flash", "s-1", 1_795_330_383_386)
    assert Tokens(1200, 42, 800).total == USED["total"]


def test_what_tools_put_into_the_prompt_is_input() -> None:
    """The vendor counts it beside the prompt, and its total has both."""
    assert counted(input=100, cached=40, tool=7, output=1, thoughts=2, total=110) == Tokens(67, 3, 40)


@pytest.mark.parametrize("used", [{}, None, [], {"input": -1, "output": True, "cached": "9"}, {"total": 5}])
def test_counts_that_are_none_are_not_counted(used: Any) -> None:
    """Nothing is made up, and a message without tokens is no usage."""
    assert read(message(tokens=used)) == []


def test_more_cached_than_asked_is_never_less_than_nothing() -> None:
    """A count that cannot be does not take from others."""
    assert counted(input=5, cached=9, output=1) == Tokens(0, 1, 9)


@pytest.mark.parametrize("row", [message(type="user"), message(id=""), message(id=7), {"tokens": USED}])
def test_only_a_named_message_of_the_model_counts(row: dict[str, Any]) -> None:
    """What has no key could be counted twice; what people wrote costs nothing by itself."""
    assert read(row) == []


def test_a_repeated_message_is_the_same() -> None:
    """It is written again with each of its tool calls, and when the whole list is set anew: one key each time."""
    again = message(toolCalls=[{"id": "t", "status": "success"}])
    whole = {"$set": {"messages": [message(), message(id="m-2"), "x"], "lastUpdated": "x"}}
    assert [item.key for row in (message(), again, whole) for item in read(row)] == ["m-1", "m-1", "m-1", "m-2"]


def test_only_the_chat_log_is_read() -> None:
    """Its standard output tells sums, which are not counted."""
    assert read(message(), Source.OUT) == []


def test_no_failure_is_ever_claimed() -> None:
    """No row of any recorded chat log is evidence of one, and people are told that it is not known."""
    rows = [line for case in cases() if case.agent == "gemini" for line in case.lines(Source.TRANSCRIPT, TRANSCRIPT)]
    signals = [item for row in rows for item in HOOKS.read(row) if isinstance(item, Signal)]
    assert {signal.mark for signal in signals} == {Mark.SESSION}
    assert HOOKS.verdict(signals, 0, "UTC") is None
    assert "failed" in HOOKS.cannot


def test_subagents_lie_in_a_folder_named_by_the_session() -> None:
    """Beside the chat log, whose own name has only the beginning of the id."""
    told = HOOKS.told(body("AfterAgent", transcript_path="/h/.gemini/tmp/w/chats/session-2026-11-22T06-53-s.jsonl"))
    assert HOOKS.subagents(told) == "/h/.gemini/tmp/w/chats/s-1/*.jsonl"


def test_the_settings_have_gemini_clis_own_form() -> None:
    """Times are milliseconds, and the hook has a name by which people find it."""
    called = {"name": "locum", "type": "command", "command": "x", "timeout": 5000}
    assert HOOKS.entry(Hook("BeforeTool", 5, "*"), "x") == {"matcher": "*", "hooks": [called]}
    assert "AfterModel" not in {hook.event for hook in HOOKS.installed}  # called for every piece of a stream
