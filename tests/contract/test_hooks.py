"""One suite over the hooks of every agent: whatever is sent, hearing it is safe, repeatable and bounded."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from functools import cache
from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from locum.agents.base import Line, Mark, Signal, Source
from locum.agents.hooks import TEST_EVENT, Hooks, Moment, Stop, Told
from locum.agents.registry import AGENTS, hooks
from locum.errors import UsageError
from tests.contract.test_agents import JSON, is_sound, swapped
from tests.corpus.hooked import HOOKS, sessions

every_agent = pytest.mark.parametrize("agent", HOOKS.values(), ids=list(HOOKS))
NOW = Stop("the budget is spent", now=True)
SOON = Stop("the budget is spent")
BODY = {"hook_event_name": TEST_EVENT, "session_id": "s-1"}


@cache
def bodies() -> list[dict[str, Any]]:
    """Every hook any agent was recorded to send."""
    return [body for session in sessions() for body in session.bodies]


@cache
def rows() -> list[bytes]:
    """Every line of every recorded transcript."""
    return sorted({line.data for session in sessions() for line in session.lines()})


def is_bounded(told: Told) -> bool:
    """Nothing a store, a file system or a person could choke on."""
    texts = (told.event, told.session, told.turn, told.transcript, told.model or "")
    clean = all("\0" not in text and text.encode("utf-8", "strict") is not None for text in texts)
    short = max(map(len, (told.event, told.turn, told.model or ""))) <= 200 and len(told.transcript) <= 4096
    return clean and short and (told.signal is None or is_sound(told.signal))


def heard(agent: Hooks, body: dict[str, Any]) -> Told | None:
    """What `agent` is told; None when it refuses."""
    try:
        return agent.told(body)
    except UsageError:
        return None


@every_agent
@given(body=st.dictionaries(st.text(max_size=20), JSON, max_size=6))
def test_any_object_is_heard_or_refused(agent: Hooks, body: dict[str, Any]) -> None:
    """No JSON object raises anything but a usage error."""
    told = heard(agent, body)
    assert told is None or is_bounded(told)


@every_agent
@settings(max_examples=300)
@given(data=st.data())
def test_a_hook_with_values_of_any_type_is_heard_or_refused(agent: Hooks, data: st.DataObject) -> None:
    """A field of a real hook that is suddenly a list, a float, a surrogate or null raises nothing and stays bounded."""
    body = swapped(data.draw(st.sampled_from(bodies())), data.draw(JSON), data.draw(st.integers(0, 10_000)))
    told = heard(agent, body)
    if told is not None:
        assert is_bounded(told)
        for stop in (None, SOON, NOW):
            json.dumps(agent.answer(told, stop, "note"), allow_nan=False)


@every_agent
def test_hearing_is_a_function_of_the_body(agent: Hooks) -> None:
    """Every hook told twice, in any order, also those of another agent, tells the same; more keys change nothing."""
    forwards = [agent.told(body) for body in bodies()]
    assert list(reversed([agent.told(body) for body in reversed(bodies())])) == forwards
    assert [agent.told({**body, "new_key": {"of": ["a", "later", "version"]}}) for body in bodies()] == forwards
    assert all(is_bounded(told) for told in forwards)


@every_agent
@pytest.mark.parametrize("session", [None, "", "..", "../../etc/passwd", "*", "a/b", "-x", "s" * 129, 7, ["s"], "s\0"])
def test_a_session_that_is_no_id_is_refused(agent: Hooks, session: Any) -> None:
    """A session's id becomes a key and part of a file name; the error names what is missing."""
    with pytest.raises(UsageError, match="session_id"):
        agent.told({**BODY, "session_id": session})


@every_agent
@pytest.mark.parametrize("event", [None, "", 7, {}, "\0"])
def test_a_hook_without_an_event_is_refused(agent: Hooks, event: Any) -> None:
    """What is no hook of an agent is not taken for one; the error names what is missing."""
    with pytest.raises(UsageError, match="hook_event_name"):
        agent.told({**BODY, "hook_event_name": event})


@every_agent
@pytest.mark.parametrize("path", [None, 7, "", "relative.jsonl", "/a\0b", "/\ud800", "/" * 4097])
def test_a_transcript_that_can_be_no_file_is_none(agent: Hooks, path: Any) -> None:
    """The hook still counts; nobody tries to open what cannot be a path."""
    told = agent.told({**BODY, "transcript_path": path})
    assert told.transcript == ""
    assert agent.subagents(told) == ""


@every_agent
def test_an_unknown_event_is_only_noted(agent: Hooks) -> None:
    """Agents add events all the time; one that is not known stops nothing, and spends nothing."""
    told = agent.told({**BODY, "hook_event_name": "AfterWorldPeace"})
    assert told.moment is Moment.NOTE
    assert agent.answer(told, NOW, "note") == {}


@every_agent
def test_a_test_is_a_test_with_every_agent(agent: Hooks) -> None:
    """The event by which people try their set-up is known everywhere, and never answered by an adapter."""
    told = agent.told(BODY)
    assert (told.moment, told.session) == (Moment.TEST, "s-1")
    assert agent.answer(told, NOW, "note") == {}


@every_agent
def test_what_is_installed_is_needed(agent: Hooks) -> None:
    """Every hook is about something, none twice; prompts, tools and both ends are among them; no answer takes long."""
    moments = [agent.told({**BODY, "hook_event_name": hook.event}).moment for hook in agent.installed]
    assert Moment.NOTE not in moments
    assert {Moment.PROMPT, Moment.TOOL, Moment.DONE, Moment.OVER} <= set(moments)
    assert len({hook.event for hook in agent.installed}) == len(agent.installed)
    assert all(1 <= hook.seconds <= 10 for hook in agent.installed)


@every_agent
def test_an_entry_calls_the_command_for_as_long_as_agreed(agent: Hooks) -> None:
    """What is written into the settings is JSON with the command as it is, and a time in the agent's own unit."""
    unit = 1000 if agent.agent == "gemini" else 1
    for hook in agent.installed:
        entry = json.loads(json.dumps(agent.entry(hook, "locum-hook 'a b' \"$HOME\"")))
        (called,) = entry["hooks"]
        assert called["type"] == "command"
        assert called["command"] == "locum-hook 'a b' \"$HOME\""
        assert called["timeout"] == hook.seconds * unit
        assert entry.get("matcher") == hook.matcher


@every_agent
def test_a_stop_is_told_at_its_moment_and_says_why(agent: Hooks) -> None:
    """Prompts are stopped by any stop, tools only by one that says now, and nothing else by either."""
    for body in bodies():
        told = agent.told(body)
        for stop in (SOON, NOW):
            answer = agent.answer(told, stop)
            stops = told.moment is Moment.PROMPT or (stop.now and told.moment is Moment.TOOL)
            assert (stop.reason in json.dumps(answer)) is stops
            assert bool(answer) is stops


@every_agent
def test_a_note_is_shown_beside_a_stop(agent: Hooks) -> None:
    """A note never takes the place of a stop, nor a stop that of a note."""
    for hook in agent.installed:
        told = agent.told({**BODY, "hook_event_name": hook.event})
        note, stop = agent.answer(told, None, "look here"), agent.answer(told, NOW)
        assert note in ({"systemMessage": "look here"}, {})
        assert agent.answer(told, NOW, "look here") == {**stop, **note}
        assert bool(note) or told.moment in (Moment.SPENT, Moment.FAILED, Moment.OVER)


def test_a_stop_has_a_reason() -> None:
    """An empty reason would have Codex ignore the denial, so nobody can give one."""
    with pytest.raises(AssertionError):
        Stop(" ")


@every_agent
@given(name=st.text("ab*?[]-. ", min_size=1, max_size=12))
def test_a_pattern_finds_subagents_of_this_session_alone(agent: Hooks, name: str) -> None:
    """A transcript's path with wildcards in it does not widen the search beyond its own folder."""
    told = agent.told({**BODY, "transcript_path": f"/h/{name}/s-1.jsonl"})
    pattern = agent.subagents(told)
    if agent.agent == "codex":
        assert pattern == ""
        return
    assert fnmatchcase(f"/h/{name}/s-1/sub/a.jsonl", pattern) or fnmatchcase(f"/h/{name}/s-1/a.jsonl", pattern)
    assert not fnmatchcase("/h/other/s-1/sub/a.jsonl", pattern)
    assert not fnmatchcase(f"/h/{name}/s-2/sub/a.jsonl", pattern)
    assert PurePosixPath(pattern).is_absolute()


@every_agent
@given(data=st.binary(max_size=400), source=st.sampled_from(list(Source)))
def test_any_bytes_can_be_read(agent: Hooks, data: bytes, source: Source) -> None:
    """No bytes of a transcript raise, and what they tell is sound."""
    assert all(is_sound(item) for item in agent.read(Line(source, data)))


@every_agent
@settings(max_examples=200)
@given(data=st.data())
def test_broken_transcripts_can_be_read(agent: Hooks, data: st.DataObject) -> None:
    """Real rows, cut, with a byte flipped, or with a value of another type, raise nothing and stay sound."""
    row = data.draw(st.sampled_from(rows()))
    at = data.draw(st.integers(0, len(row)))
    flipped = bytearray(row)
    if row:
        flipped[at % len(row)] = data.draw(st.integers(0, 255))
    broken = [row[:at], bytes(flipped)]
    if row.startswith(b"{"):
        broken.append(json.dumps(swapped(json.loads(row), data.draw(JSON), at)).encode())
    for each in broken:
        assert all(is_sound(item) for item in agent.read(Line(Source.TRANSCRIPT, each, session="s-1", cut=True)))


@every_agent
@given(picks=st.lists(st.integers(0, 10**6), max_size=8), now_ms=st.integers(0, 4_102_444_800_000))
def test_any_signals_are_judged(agent: Hooks, picks: list[int], now_ms: int) -> None:
    """Signals in any order end in one failure with evidence, or in none; nothing told, or a good end last, is none."""
    heard = [told.signal for each in HOOKS.values() for body in bodies() if (told := each.told(body)).signal]
    signals = [heard[pick % len(heard)] for pick in picks]
    failure = agent.verdict(signals, now_ms, "Nowhere")
    assert failure is None or (failure.evidence and failure.rule and len(failure.evidence) <= 500)
    assert (failure is None) is (not signals)
    assert agent.verdict([*signals, Signal(Mark.DONE)], now_ms, "UTC") is None
    assert agent.verdict([Signal(Mark.LIMIT, "rejected", reset_ms=now_ms)], now_ms, "UTC") is None


def test_the_users_own_rules_judge_hooks_too() -> None:
    """Adapters of hooks read and judge through the agents they are given, not through some of their own."""

    class Seen:
        """An agent that remembers being asked."""

        asked = 0

        def read(self, _: Line) -> tuple[()]:
            self.asked += 1
            return ()

    agents: Any = {name: Seen() for name in AGENTS}
    for name, each in hooks(agents).items():
        each.read(Line(Source.TRANSCRIPT, b"{}"))
        assert name == each.agent
        assert name not in agents or agents[name].asked == 1
