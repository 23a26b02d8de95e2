"""What people are told, and that it says name, why, until when and what to do."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from locum.policy.board import Event, EventKind, Hold
from locum.policy.budget import Reading
from locum.policy.failure import FailureKind
from locum.policy.notice import NoticeKind, Severity, config_rejected, crossed, notice_of, post_task_failed, task_failed
from locum.policy.plan import Brake, Budget, tier_target
from locum.policy.task import Task, TaskState
from locum.policy.usage import Tokens
from locum.policy.window import Calendar, Lifetime, Window

NOON = 1_767_268_800_000  # 2026-01-01 12:00 UTC
HOLD = Hold(tier_target("max"), FailureKind.USAGE_LIMIT, NOON, NOON + 3_600_000, "5h limit reached", "default", "max")
BUMPED = Event(
    EventKind.BUMPED, "default", NOON, "max", "t1", FailureKind.USAGE_LIMIT, "5h limit reached", HOLD, active="api"
)


def told(kind: EventKind, **changes):
    """The notice of such an event."""
    notice = notice_of(BUMPED._replace(kind=kind, **changes))
    assert notice is not None
    return notice


def test_a_bump_says_who_why_until_and_what_now():
    """Everything a person asks first is in the message, and in flat data for programs."""
    notice = told(EventKind.BUMPED)
    assert (notice.kind, notice.severity, notice.chain, notice.at_ms) == (
        NoticeKind.TIER_BUMPED,
        Severity.WARNING,
        "default",
        NOON,
    )
    assert notice.title == "default: max is held (usage_limit)"
    for part in ("max", "until 2026-01-01 13:00 UTC", "5h limit reached", "default goes on with api", "by itself"):
        assert part in notice.message
    assert notice.data["until_ms"] == NOON + 3_600_000
    assert notice.data["active_tier"] == "api"
    assert json.loads(json.dumps(dict(notice.data))) == notice.data


def test_a_bump_of_the_last_tier_says_that_none_is_left():
    """Nobody is told that work goes on when it does not."""
    assert "no tier left" in told(EventKind.BUMPED, active=None).message


@pytest.mark.parametrize("kind", FailureKind)
def test_every_kind_of_hold_says_what_to_do(kind):
    """Each failure kind has a last sentence that is a remedy, and a hold without end says so."""
    notice = told(EventKind.BUMPED, hold=replace(HOLD, kind=kind, until_ms=None))
    assert "until it is released" in notice.message
    assert notice.message.endswith(".")
    assert ".." not in notice.message


def test_an_absurdly_late_end_is_still_told():
    """A hold until beyond the last date does not raise."""
    assert "9999" in told(EventKind.BUMPED, hold=replace(HOLD, until_ms=1 << 60)).message


@pytest.mark.parametrize("kind", [EventKind.RETURNED, EventKind.RELEASED])
def test_a_return_says_what_is_used_now(kind):
    """Why it came back and which tier is active."""
    notice = told(kind, reason="the usage_limit hold has ended", active="max")
    assert (notice.kind, notice.severity) == (NoticeKind.TIER_RETURNED, Severity.INFO)
    assert "the usage_limit hold has ended" in notice.message
    assert "now uses max" in notice.message
    assert "no tier it can use" in told(kind, active=None).message


def test_exhaustion_is_critical():
    """A chain at its end is what somebody must look at first."""
    notice = told(EventKind.EXHAUSTED, hold=None)
    assert (notice.kind, notice.severity) == (NoticeKind.CHAIN_EXHAUSTED, Severity.CRITICAL)
    assert "locum release" in notice.message


@pytest.mark.parametrize(
    "kind",
    [
        EventKind.STARTED,
        EventKind.SUCCEEDED,
        EventKind.FAILED,
        EventKind.EXTENDED,
        EventKind.PAUSED,
        EventKind.RESUMED,
    ],
)
def test_what_needs_nobody_is_not_told(kind):
    """The daily course of things makes no noise."""
    assert notice_of(BUMPED._replace(kind=kind)) is None


@pytest.mark.parametrize(
    ("brake", "name"),
    [(Brake.CHAIN, "chain default"), (Brake.TIER, "tier default"), (Brake.HALT, "halting budget of chain default")],
)
def test_a_crossing_says_used_limit_and_window(brake, name):
    """Used, limit, percent rounded down, over what, and when there is room again."""
    reading = Reading(Budget(brake, "default", 1_000, Calendar("week")), Window(0, NOON), Tokens(999, 1))
    notice = crossed(reading, "default", NOON - 1, NOON)
    assert notice.kind is NoticeKind.TOKEN_THRESHOLD_CROSSED
    for part in (name, "1,000 of 1,000", "100.0 %", "week", "room again from 2026-01-01 12:00 UTC", "Raise the limit"):
        assert part in notice.message
    assert "Nothing is held" not in notice.message


def test_a_crossing_that_holds_nothing_says_so():
    """A budget that does not act, over all time: no false promise of a new start."""
    reading = Reading(Budget(Brake.CHAIN, "default", 10, Lifetime(), acts=False), Window(0, None), Tokens(11))
    message = crossed(reading, "default", NOON, None).message
    assert "never starts anew" in message
    assert "Nothing is held" in message


def test_a_failed_task_is_named_with_its_reason():
    """Title or id, directory, reason, and where its output is."""
    task = Task("abcd-1", "default", "/srv", TaskState.FAILED, NOON, reason="too long", reason_code="context_overflow")
    notice = task_failed(task, NOON)
    for part in ("abcd-1", "/srv", "too long", "locum logs abcd-1"):
        assert part in notice.message
    assert "'tidy up'" in task_failed(replace(task, title="tidy up", reason=""), NOON).message


def test_a_rejected_edit_says_that_the_last_good_one_is_in_force():
    """The problems are passed on whole."""
    notice = config_rejected("service.json:3:1: no such key", NOON)
    assert "last good" in notice.message
    assert notice.data["problems"] == "service.json:3:1: no such key"


def test_a_failed_post_task_says_that_the_task_is_not_touched():
    """Which task, how that ended, why the command failed, and that it will not be tried again."""
    task = Task("abcd-1", "default", "/srv", TaskState.DONE, NOON, title="tidy up")
    notice = post_task_failed(task, "exit code 3: no", 3, NOON)
    assert (notice.kind, notice.severity, notice.chain) == (NoticeKind.POST_TASK_FAILED, Severity.WARNING, "default")
    for part in ("'tidy up'", "abcd-1", "done", "exit code 3: no", "not touched", "not run again"):
        assert part in notice.message
    assert notice.data == {"task": "abcd-1", "state": "done", "exit": 3, "reason": "exit code 3: no"}
