"""One suite over every agent: whatever a program prints, reading it is safe, repeatable and bounded."""

from __future__ import annotations

import json
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from locum.agents import lines
from locum.agents.base import Agent, End, Launch, Line, Mark, Seat, Signal, Source, Success
from locum.agents.registry import AGENTS
from locum.policy.failure import Failure, FailureKind
from locum.policy.usage import NO_TOKENS, Usage
from tests.corpus.mangled import CALLED_STREAM, MANGLED, without_counts
from tests.corpus.replay import Case, cases

every_agent = pytest.mark.parametrize("agent", AGENTS.values(), ids=list(AGENTS))
SOURCES = list(Source)
UNTOLD = {
    "aider/nokey",
    *(
        f"command/{name}"
        for name in ("amp.nologin", "auggie.nologin", "cline.nologin", "droid.nologin", "example.nokey")
    ),
}
"""The recorded runs of which nobody can say what they spent."""
PROTOCOL = [
    b'{"type":"usage","id":"m1","model":"x","input":900,"output":200,"cache_read":0,"cache_write":0}',
    b'{"type":"failure","kind":"auth_error","message":"m","reset_at":"2026-01-01T00:00:00Z"}',
    b'{"type":"result","status":"ok","session":"s"}',
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@cache
def recorded() -> list[tuple[Source, bytes]]:
    """Every distinct line any agent ever wrote in the corpus, and the protocol's own."""
    names = ((Source.OUT, "stdout"), (Source.ERR, "stderr"), (Source.TRANSCRIPT, "transcript.jsonl"))
    seen = {(line.source, line.data) for case in cases() for source, name in names for line in case.lines(source, name)}
    return sorted(seen | {(Source.OUT, line) for line in PROTOCOL})


@cache
def events() -> list[tuple[Source, bytes]]:
    """Those that are events."""
    return [known for known in recorded() if lines.parse(known[1])]


def is_sound(item: Usage | Signal, agent: str = "") -> bool:
    """Nothing a store, an argv or a person could choke on."""
    texts = [value for value in msgspec.structs.asdict(item).values() if isinstance(value, str)]
    texts_are_clean = all("\0" not in text and text.encode("utf-8", "strict") is not None for text in texts)
    if isinstance(item, Usage):
        counts = bool(item.tokens) or agent == "command"  # whose program may say that it spent nothing
        return texts_are_clean and 0 < len(item.key) <= 400 and counts and min(item.tokens) >= 0
    named = item.mark is not Mark.SESSION or (item.text[0].isalnum() and "/" not in item.text)
    return texts_are_clean and named and (item.reset_ms is None or item.reset_ms > -(10**15))


def swapped(value: Any, replacement: Any, at: int) -> Any:
    """`value` with one of its inner values, chosen by `at`, replaced."""
    if isinstance(value, dict) and value:
        key = sorted(value)[at % len(value)]
        inner = swapped(value[key], replacement, at // len(value)) if at % 2 else replacement
        return value | {key: inner}
    if isinstance(value, list) and value:
        place = at % len(value)
        return [*value[:place], swapped(value[place], replacement, at // len(value)), *value[place + 1 :]]
    return replacement


@every_agent
@given(data=st.binary(max_size=400), source=st.sampled_from(SOURCES))
def test_any_bytes_can_be_read(agent: Agent, data: bytes, source: Source) -> None:
    """No bytes raise, and what they tell is sound."""
    assert all(is_sound(item, agent.name) for item in agent.read(Line(source, data)))


@every_agent
@settings(max_examples=200)
@given(data=st.data())
def test_broken_recordings_can_be_read(agent: Agent, data: st.DataObject) -> None:
    """Real lines cut short, with a byte flipped, or read from the wrong source raise nothing and stay sound."""
    _, line = data.draw(st.sampled_from(recorded()))
    cut = data.draw(st.integers(0, len(line)))
    flipped = bytearray(line)
    if line:
        flipped[cut % len(line)] = data.draw(st.integers(0, 255))
    for broken in (line[:cut], bytes(flipped)):
        for source in SOURCES:
            assert all(
                is_sound(item, agent.name)
                for item in agent.read(Line(source, broken, session="s", run="r", cut=True, message="m"))
            )


@every_agent
@settings(max_examples=200)
@given(data=st.data())
def test_events_with_values_of_any_type_can_be_read(agent: Agent, data: st.DataObject) -> None:
    """A field that is suddenly a list, a float, a surrogate or null raises nothing and stays sound."""
    source, line = data.draw(st.sampled_from(events()))
    event = swapped(json.loads(line), data.draw(JSON), data.draw(st.integers(0, 10_000)))
    items = agent.read(Line(source, json.dumps(event).encode(), session="s", run="r", message="m"))
    assert all(is_sound(item, agent.name) for item in items)


@every_agent
def test_reading_is_a_function_of_the_line(agent: Agent) -> None:
    """Every recorded line read twice, in any order, tells the same keys and counts."""
    every = [Line(source, data, session="s", run="r", message="m") for source, data in recorded()]
    forwards = [agent.read(line) for line in every]
    assert list(reversed([agent.read(line) for line in reversed(every)])) == forwards


@every_agent
def test_silence_is_never_a_success_unless_an_exit_code_may_say_so(agent: Agent) -> None:
    """A run that told nothing failed; only a plain program may be judged by code 0 alone."""
    for code in (None, 1, 2, 75, 126, 127, 137, 143, -9, 255, 256, -999, 10**9):
        assert isinstance(agent.verdict(End(code, 0), []), Failure)
    assert isinstance(agent.verdict(End(0, 0), []), Success) is (agent.name == "command")


@every_agent
@given(
    code=st.none() | st.integers(),
    ended_ms=st.integers(0, 4_102_444_800_000),
    tail=st.text(max_size=300),
    picks=st.lists(st.integers(0, 10**6), max_size=8),
)
def test_any_end_is_judged(agent: Agent, code: int | None, ended_ms: int, tail: str, picks: list[int]) -> None:
    """Garbage exit codes, tails and signals in any order end in one verdict with evidence for people."""
    known = recorded()
    chosen = [Line(*known[pick % len(known)], session="s", run="r") for pick in picks]
    signals = [item for line in chosen for item in agent.read(line) if isinstance(item, Signal)]
    told = agent.verdict(End(code, ended_ms, tail, tail, timezone="Nowhere"), signals)
    if isinstance(told, Failure):
        assert told.evidence
        assert told.rule
        assert len(told.evidence) <= 500
        assert told.kind not in (FailureKind.OPERATOR, FailureKind.TOKEN_BUDGET, FailureKind.STALLED)


@every_agent
@given(prompt=st.text(), resume=st.none() | st.just("session-1"))
def test_neither_prompt_nor_secret_is_in_the_argv(agent: Agent, prompt: str, resume: str | None) -> None:
    """The argv is world-readable: the prompt goes by stdin, secrets by the environment."""
    seat = Seat("t", model="m", env={"KEY": "hunter2-secret"}, home=Path("/h"), command=("./a", "{prompt_file}"))
    marked = f"PROMPT-MARK {prompt}"
    command = agent.command(Launch(seat, "r", marked, Path("/p"), Path("/w"), "fresh", resume))
    assert not any("PROMPT-MARK" in part or "hunter2" in part for part in command.argv)
    assert command.stdin == marked.encode("utf-8", "replace")
    assert command.env["KEY"] == "hunter2-secret"
    assert all(part and "\0" not in part for part in command.argv)
    assert all(shlex.quote(name) == name and isinstance(value, str) for name, value in command.env.items())


@every_agent
@pytest.mark.parametrize("session", ["", "..", "../../etc/passwd", "*", "a/b", "-x", "s" * 300])
def test_a_hostile_session_id_finds_no_files(agent: Agent, session: str) -> None:
    """A session id comes from the agent's output and must not lead anywhere else."""
    assert agent.sources(Seat("t"), Path("/w"), session, {"HOME": "/h"}) == ()


@every_agent
def test_what_it_looks_for_is_absolute(agent: Agent) -> None:
    """Transcripts and logins are absolute, whatever the environment lacks."""
    for env in ({}, {"HOME": "/h"}):
        found = agent.sources(Seat("t"), Path("/w"), "s-1", env)
        assert all(pattern.startswith("/") for pattern in found)
        assert all(path.is_absolute() for path in agent.credentials(Seat("t"), env))


@pytest.mark.parametrize("name", ["claude-code", "codex", "gemini", "opencode", "pi", "qwen"])
def test_a_success_told_to_have_cost_nothing_is_none(name: str) -> None:
    """The same recorded answer with every count told as 0 is no result: nobody was asked, whatever is said."""
    (case,) = (case for case in cases() if case.name == f"{name}/{'ok.stream' if name in CALLED_STREAM else 'ok'}")
    free = without_counts(case, lambda told: {each: 0 if type(count) is int else count for each, count in told.items()})
    reading = free.replay()
    told = reading.verdict(free.end)
    assert isinstance(told, Failure)
    assert (told.kind, told.rule) == (FailureKind.NO_RESULT, "done:no_tokens")
    assert (reading.spent, reading.usage_known(told)) == (NO_TOKENS, True)


@every_agent
@pytest.mark.parametrize("how", MANGLED)
def test_a_count_that_is_not_told_is_not_zero(agent: Agent, how: str) -> None:
    """A recorded success whose counts are gone, renamed or no numbers is the same success, and spent nothing that is
    known.
    """
    succeeded = [case for case in cases() if case.agent == agent.name and case.expected["kind"] is None]
    assert succeeded
    for case in succeeded:
        mangled = without_counts(case, MANGLED[how])
        reading = mangled.replay()
        assert reading.verdict(mangled.end) == case.verdict(), case.name
        assert (reading.spent, reading.usage_known(case.verdict())) == (NO_TOKENS, False), case.name


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_what_a_recorded_run_spent_is_known_if_it_told_any(case: Case) -> None:
    """Whatever was counted is known; of what failed before a token was told, that it was none; of aider without its
    log, nothing, for its output is rounded.
    """
    reading = case.replay()
    assert reading.usage_known(case.verdict()) is (case.name not in UNTOLD)
