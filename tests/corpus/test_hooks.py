"""Every recorded session with hooks tells the moments, the failure and the tokens a person read from it."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path

import pytest

from locum.agents.hooks import Moment, Stop
from locum.policy.usage import Tokens
from tests.corpus.hooked import Session, sessions

every_session = pytest.mark.parametrize("session", sessions(), ids=lambda session: session.name)


def test_nothing_recorded_is_left_out() -> None:
    """Every folder has an expectation, and there are as many as were recorded."""
    folders = {path.parent for path in Path(__file__).parent.glob("hooks/*/*/hooks.jsonl")}
    assert folders == {session.folder for session in sessions()}
    assert Counter(folder.parent.name for folder in folders) == {"claude": 19, "codex": 15, "gemini": 9}


@every_session
def test_every_hook_is_about_what_a_person_says_it_is(session: Session) -> None:
    """Moments, in order; each names its session and its transcript, which lies where the adapter says they do."""
    told = session.told
    assert [each.moment for each in told] == session.expected["moments"]
    assert {each.session for each in told} == {session.expected["session"]}
    below = f"/home/dev/{session.hooks.folder}/{session.hooks.below}/"
    assert all(each.transcript.startswith(below) for each in told)


@every_session
def test_a_failure_is_told_with_all_that_is_known_of_it(session: Session) -> None:
    """Kind, deciding rule, window and reset are what the recording shows; a turn that went well tells none."""
    failure, expected = session.failure(), session.expected["failure"]
    if expected is None:
        assert failure is None
        return
    assert failure is not None
    assert (failure.kind, failure.rule, failure.window) == (expected["kind"], expected["rule"], expected["window"])
    reset_ms = expected["reset"] and round(datetime.fromisoformat(expected["reset"]).timestamp() * 1000)
    assert failure.reset_ms == reset_ms
    assert failure.evidence


@every_session
def test_a_session_is_counted_to_the_token(session: Session) -> None:
    """The transcripts tell exactly what the provider issued, each message once, and name the session."""
    assert session.spent() == Tokens(**session.expected["usage"])
    used = [item for item in session.read() if hasattr(item, "key")]
    assert {item.session for item in used} <= {session.expected["session"]}
    assert all(item.at_ms for item in used)


@every_session
def test_who_is_not_stopped_goes_on(session: Session) -> None:
    """Without a stop and without a note every answer is empty; so it is with a stop that comes too late or too soon."""
    stop = Stop("enough")
    for told in session.told:
        assert session.hooks.answer(told, None) == {}
        stopped = session.hooks.answer(told, stop)
        assert bool(stopped) is (told.moment is Moment.PROMPT)
        assert bool(session.hooks.answer(told, Stop("enough", now=True))) is (
            told.moment in (Moment.PROMPT, Moment.TOOL)
        )


@every_session
def test_the_hooks_of_one_turn_name_it_alike(session: Session) -> None:
    """Where an agent has an id for a turn, prompt, tools and end carry the same one; Gemini CLI has none."""
    turns = {told.turn for told in session.told if told.moment not in (Moment.NOTE, Moment.OVER)}
    assert len(turns) == 1
    assert bool(turns - {""}) is (session.hooks.agent != "gemini")
