"""What people are told, and that it says name, why, until when and what to do."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from locum.policy.board import Event, EventKind, Hold
from locum.policy.failure import FailureKind
from locum.policy.notice import (
    SENT_UNASKED,
    Cost,
    NoticeKind,
    Severity,
    channel_disabled,
    config_rejected,
    delivery_failed,
    notice_of,
    post_task_failed,
    signal_unknown,
    task_failed,
    task_finished,
)
from locum.policy.plan import Tier, tier_target
from locum.policy.task import Run, RunState, Task, TaskState
from locum.policy.window import Calendar, Rolling

NOON = 1_767_268_800_000  # 2026-01-01 12:00 UTC
HOLD = Hold(tier_target("max"), FailureKind.USAGE_LIMIT, NOON, NOON + 3_600_000, "5h limit reached", "default", "max")
BUMPED = Event(
    EventKind.BUMPED, "default", NOON, "max", "t1", FailureKind.USAGE_LIMIT, "5h limit reached", HOLD, active="api"
)


def told(kind: EventKind, cost=None, back_ms=None, **changes):
    """The notice of such an event."""
    notice = notice_of(BUMPED._replace(kind=kind, **changes), cost, back_ms)
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
    assert notice.data["until"] == "2026-01-01T13:00:00Z"
    assert json.loads(json.dumps(dict(notice.data))) == notice.data


def test_leaving_and_coming_back_say_what_it_cost():
    """What the attempt and the tier have used, in which window, both ways; nothing is made up where nobody knows."""
    cost = Cost(1_234, 5_000_000, Calendar("week"))
    bumped, back = told(EventKind.BUMPED, cost), told(EventKind.RETURNED, replace(cost, attempt=None), at_ms=NOON + 1)
    assert "This attempt used 1,234 tokens; max has used 5,000,000 tokens (the week starting Monday" in bumped.message
    assert "attempt" not in back.message
    assert "max has used 5,000,000 tokens (the week" in back.message
    assert (bumped.data["attempt_tokens"], bumped.data["tier_tokens"], bumped.data["window"]) == (
        1_234,
        5_000_000,
        "week",
    )
    assert back.data["attempt_tokens"] is None
    one = told(EventKind.BUMPED, Cost(1, 1, Rolling(5 * 3_600_000)))
    assert "This attempt used 1 token; max has used 1 token (the last 5 h)." in one.message
    assert "tier_tokens" not in told(EventKind.BUMPED).data
    assert "used" not in told(EventKind.BUMPED).message


def test_every_notice_can_be_sent_on_as_it_is():
    """Whatever the kind, its data say event, moment, chain and tier, flat, and it has a place to look."""
    task = Task("abcd-1", "default", "/srv", TaskState.DONE, NOON)
    run = Run("r-1", "abcd-1", 1, "default", Tier("max", "codex", "acme"), "/srv", RunState.FAILED, NOON)
    found = [
        told(EventKind.BUMPED),
        told(EventKind.RETURNED),
        told(EventKind.EXHAUSTED),
        task_finished(task, 7, 1, NOON),
        task_failed(task, 7, NOON),
        post_task_failed(task, "no", 1, NOON),
        signal_unknown(run, task, NOON),
        config_rejected("no", NOON),
        delivery_failed(told(EventKind.BUMPED), "ops", 10, "500", NOON),
        channel_disabled("ops", "410 Gone", NOON),
    ]
    apart = {NoticeKind.TOKEN_THRESHOLD_CROSSED, NoticeKind.TEST}
    assert {notice.kind for notice in found} == set(NoticeKind) - apart
    for notice in found:
        assert (notice.data["event"], notice.data["timestamp"]) == (notice.kind, "2026-01-01T12:00:00Z")
        assert notice.data["chain"] == notice.chain
        assert all(value is None or isinstance(value, str | int | float) for value in notice.data.values())
        of_task = "task" in notice.data and notice.kind not in {"tier_bumped", "tier_returned", "chain_exhausted"}
        assert notice.link == ("/" if notice.chain is None else "/#task/abcd-1" if of_task else "/#chain/default")
        assert not notice.id, "only the ledger names it"


def test_only_the_end_of_tasks_is_not_sent_unasked():
    """Every kind says whether it is sent to a channel that names none; nobody is told of each task by default."""
    assert set(SENT_UNASKED) == set(NoticeKind)
    assert {kind for kind, sent in SENT_UNASKED.items() if not sent} == {
        NoticeKind.TASK_FINISHED,
        NoticeKind.TASK_FAILED,
        NoticeKind.TEST,
    }


def test_a_done_task_says_what_it_took():
    """Attempts and tokens, and where its output is."""
    task = Task("abcd-1", "default", "/srv", TaskState.DONE, NOON, title="tidy up")
    notice = task_finished(task, 12_345, 2, NOON)
    for part in ("'tidy up'", "/srv", "2 attempts", "12,345 tokens", "locum logs abcd-1"):
        assert part in notice.message
    assert (notice.severity, notice.data["total_tokens"], notice.data["attempts"]) == (Severity.INFO, 12_345, 2)


def test_a_failure_that_no_rule_knows_says_where_to_teach_one():
    """Who failed where, with which exit code and last words."""
    tier = Tier("max", "codex", "acme")
    run = Run("r-1", "t", 1, "default", tier, "/srv", RunState.FAILED, NOON, exit=3, reason="The moon is full.")
    notice = signal_unknown(run, Task("t", "default", "/srv", TaskState.QUEUED, NOON), NOON)
    for part in ("codex on max", "exit code 3", "The moon is full. It", "signals list --unknown", "signals add"):
        assert part in notice.message
    assert (notice.kind, notice.severity, notice.data["tier"]) == (NoticeKind.SIGNAL_UNKNOWN, Severity.INFO, "max")
    assert (
        "it said nothing"
        in signal_unknown(replace(run, reason=""), Task("t", "default", "/srv", TaskState.QUEUED, 1), 1).message
    )


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
    """Why it came back, after how long, and which tier is active."""
    notice = told(kind, reason="the usage_limit hold has ended", active="max", at_ms=NOON + 3_600_000)
    assert "after 1 h" in notice.message
    assert notice.data["held_ms"] == 3_600_000
    assert (notice.kind, notice.severity) == (NoticeKind.TIER_RETURNED, Severity.INFO)
    assert "the usage_limit hold has ended" in notice.message
    assert "now uses max" in notice.message
    assert "no tier it can use" in told(kind, active=None).message


def test_exhaustion_is_critical():
    """A chain at its end is what somebody must look at first."""
    notice = told(EventKind.EXHAUSTED, hold=None)
    assert (notice.kind, notice.severity) == (NoticeKind.CHAIN_EXHAUSTED, Severity.CRITICAL)
    assert "locum release" in notice.message
    assert "None comes back by itself" in notice.message
    later = told(EventKind.EXHAUSTED, back_ms=NOON + 60_000)
    assert "expected back at 2026-01-01 12:01 UTC" in later.message
    assert (later.data["back"], later.data["back_ms"]) == ("2026-01-01T12:01:00Z", NOON + 60_000)


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


def test_a_failed_task_is_named_with_its_reason():
    """Title or id, directory, reason, what it cost, and where its output is."""
    task = Task("abcd-1", "default", "/srv", TaskState.FAILED, NOON, reason="too long", reason_code="context_overflow")
    notice = task_failed(task, 50_000, NOON)
    for part in ("abcd-1", "/srv", "too long", "50,000 tokens", "locum logs abcd-1"):
        assert part in notice.message
    assert "'tidy up'" in task_failed(replace(task, title="tidy up", reason=""), 0, NOON).message


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
    assert (notice.data["task"], notice.data["state"]) == ("abcd-1", "done")
    assert (notice.data["exit"], notice.data["reason"]) == (3, "exit code 3: no")
