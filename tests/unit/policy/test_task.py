"""What the history of a task says about its next attempt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locum.policy.chain import Next
from locum.policy.failure import ANSWERS, FailureKind
from locum.policy.plan import Tier
from locum.policy.task import (
    CONTINUE,
    Run,
    RunState,
    TaskState,
    attempts,
    avoided,
    handover,
    retries_in_place,
    session_to_resume,
)
from locum.policy.usage import Tokens

ONE = Tier("one", "claude-code", "max", "opus")
SAME_LOGIN = Tier("two", "claude-code", "max", "sonnet")
OTHER = Tier("three", "codex", "chatgpt")
K = FailureKind


def run(state: RunState = RunState.FAILED, tier: Tier = ONE, failure: FailureKind | None = None, **more: object) -> Run:
    """One attempt in /w; `more` are other fields of it."""
    if state is RunState.FAILED:
        failure = failure or K.OVERLOADED
    fields = {"id": "r", "task": "t", "number": 1, "chain": "c", "cwd": "/w", "started_ms": 0}
    return Run(tier=tier, state=state, failure=failure, **{**fields, **more})


STATES = st.sampled_from([RunState.FAILED, RunState.STOPPED, RunState.LOST])
RUNS = st.lists(
    st.builds(
        run,
        STATES,
        st.sampled_from([ONE, SAME_LOGIN, OTHER]),
        st.sampled_from(FailureKind),
        next=st.sampled_from(Next),
        session=st.sampled_from([None, "s1", "s2"]),
        lost_session=st.booleans(),
        reason=st.text(),
        said=st.text(),
    ),
    max_size=8,
)


@pytest.mark.parametrize("state", list(TaskState))
def test_ended_is_what_nothing_follows(state: TaskState) -> None:
    """Queued and running tasks go on; the others never do."""
    assert state.ended == (state.value in {"done", "failed", "cancelled"})


def test_only_attempts_that_ran_their_own_course_count() -> None:
    """A stop from outside, a start that never happened and a run in progress cost no attempt."""
    states = [RunState.FAILED, RunState.STOPPED, RunState.LOST, RunState.RUNNING, RunState.SUCCEEDED]
    assert attempts([run(state) for state in states]) == 2


def test_a_lost_session_is_free_once_so_that_no_task_starts_for_ever() -> None:
    """Finding an earlier session gone costs nothing; the same again, or one that never was, does."""
    first, gone = run(session="s1"), run(session="s1", lost_session=True)
    assert attempts([first, gone]) == 1
    assert attempts([first, *[gone] * 9]) == 9
    assert attempts([run(session=None, lost_session=True)] * 9) == 9
    assert attempts([run(session=str(number), lost_session=True) for number in range(9)]) == 9


@given(RUNS)
def test_attempts_never_exceed_what_failed_nor_forget_a_plain_failure(runs: list[Run]) -> None:
    """Whatever the history, at least the failures that lost no session count, and at most every failure."""
    failed = [each for each in runs if each.state is RunState.FAILED]
    assert sum(not each.lost_session for each in failed) <= attempts(runs) <= len(failed)


def test_retries_in_place_are_the_last_ones_in_a_row_on_that_tier() -> None:
    """A move, another tier or an earlier series does not count; stops and lost sessions do not interrupt."""
    again, moved = run(next=Next.RETRY), run(next=Next.MOVE)
    assert retries_in_place([], "one") == 0
    assert retries_in_place([again, again], "one") == 2
    assert retries_in_place([again, again], "three") == 0
    assert retries_in_place([again, moved, again], "one") == 1
    assert retries_in_place([again, run(tier=OTHER, next=Next.RETRY), again], "one") == 1
    for between in (run(RunState.STOPPED), run(RunState.LOST), run(next=Next.RETRY, lost_session=True)):
        assert retries_in_place([again, between, again], "one") == 2
    assert retries_in_place([again, moved], "one") == 0


@pytest.mark.parametrize("kind", list(FailureKind))
def test_a_task_avoids_the_tiers_where_it_may_itself_be_to_blame(kind: FailureKind) -> None:
    """A crash, a hang, silence or the unknown is not tried twice on a tier; whatever a hold answers is."""
    runs = [run(failure=kind), run(RunState.SUCCEEDED, OTHER), run(RunState.STOPPED, SAME_LOGIN)]
    assert avoided(runs) == ({"one"} if ANSWERS[kind].soft else set())


def test_a_session_is_resumed_only_by_the_same_agent_login_and_directory() -> None:
    """Another model of the same login goes on with it; another account, agent or directory starts anew."""
    runs = [run(session="s1", tokens=Tokens(5))]
    assert session_to_resume(runs, ONE, "/w") == "s1"
    assert session_to_resume(runs, SAME_LOGIN, "/w") == "s1"
    assert session_to_resume(runs, ONE, "/elsewhere") is None
    assert session_to_resume(runs, OTHER, "/w") is None
    assert session_to_resume(runs, Tier("one", "claude-code", "another"), "/w") is None
    assert session_to_resume([], ONE, "/w") is None


def test_the_latest_session_that_is_not_gone_is_resumed() -> None:
    """Runs of other tiers between do not hide it, and one found gone is never asked for again."""
    spent = {"tokens": Tokens(5)}
    runs = [run(session="old", **spent), run(session="new", **spent), run(tier=OTHER, session="x", **spent)]
    runs.append(run(RunState.LOST))
    assert session_to_resume(runs, ONE, "/w") == "new"
    assert session_to_resume([*runs, run(session="new", lost_session=True)], ONE, "/w") == "old"
    both = [run(session=each, lost_session=True) for each in ("new", "old")]
    assert session_to_resume([*runs, *both], ONE, "/w") is None


@pytest.mark.parametrize("more", [{"tokens": Tokens(0, 1)}, {"usage_known": False}])
def test_a_session_without_an_answer_is_begun_anew(more: dict[str, object]) -> None:
    """It holds the prompt at most, and some agents forget that with it, and half a word; one token or doubt of any run will do."""
    empty = run(session="s1", said="hal")
    assert session_to_resume([empty, empty], ONE, "/w") is None
    assert session_to_resume([run(session="s1", **more), empty], ONE, "/w") == "s1"
    assert session_to_resume([run(session="s2", **more), empty], ONE, "/w") == "s2"


@given(RUNS, st.sampled_from([ONE, SAME_LOGIN, OTHER]))
def test_no_session_is_resumed_that_was_found_gone_or_is_not_the_tiers(runs: list[Run], tier: Tier) -> None:
    """Over any history."""
    session = session_to_resume(runs, tier, "/w")
    if session is not None:
        assert not any(each.lost_session and each.session == session for each in runs)
        assert any(
            each.session == session and (each.tier.agent, each.tier.account) == (tier.agent, tier.account)
            for each in runs
        )


@pytest.mark.parametrize("runs", [[], [run(RunState.LOST)], [run(RunState.RUNNING)]])
def test_a_first_attempt_gets_no_note(runs: list[Run]) -> None:
    """Nothing ran before, so there is nothing to hand over."""
    assert handover(runs) == ""


def test_the_note_tells_why_what_was_said_and_to_look_first() -> None:
    """The last real failure and the last words, whichever runs they are of; then the task follows."""
    runs = [
        run(failure=K.CRASH, reason="signal 11", said="I fixed the parser"),
        run(tier=OTHER, failure=K.AUTH_ERROR, reason="401 token expired"),
        run(failure=K.UNKNOWN, reason="no such session", lost_session=True),
        run(RunState.LOST),
    ]
    note = handover(runs)
    assert "auth_error: 401 token expired" in note
    assert "no such session" not in note
    assert "I fixed the parser" in note
    assert "look at that first" in note
    assert note.endswith("follows]\n\n")
    assert "stopped from outside" in handover([run(RunState.STOPPED)])
    assert "stopped from outside" not in CONTINUE


@given(RUNS, st.integers(0, 3), st.sampled_from(["x", "é", "\n", "漢"]))
def test_the_note_is_bounded_whatever_an_agent_wrote(runs: list[Run], place: int, letter: str) -> None:
    """Megabytes of evidence or of last words become a few thousand characters, the end of what was said kept."""
    flood = letter * 100_000
    huge = run(failure=K.CRASH, reason=flood, said=flood + "the end")
    note = handover([*runs[:place], huge])
    assert len(note) < 3_000
    assert "the end" in note
