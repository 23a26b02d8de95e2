"""What people must hear of: from an event, a crossing or a failed task to a message that says what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from locum.policy.board import Event, EventKind, Hold
from locum.policy.budget import Reading, percent
from locum.policy.failure import FailureKind
from locum.policy.plan import Brake
from locum.policy.task import Task
from locum.policy.window import describe


class NoticeKind(StrEnum):
    """Everything people are told of."""

    TIER_BUMPED = "tier_bumped"
    TIER_RETURNED = "tier_returned"
    CHAIN_EXHAUSTED = "chain_exhausted"
    TOKEN_THRESHOLD_CROSSED = "token_threshold_crossed"  # noqa: S105 - tokens of a model, not a secret
    TASK_FAILED = "task_failed"
    CONFIG_REJECTED = "config_rejected"
    POST_TASK_FAILED = "post_task_failed"


class Severity(StrEnum):
    """How soon somebody should look."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


Datum = str | int | float | None


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell. `data` is the same for programs: flat; keys that end in `_ms` are epoch milliseconds.

    `link` is where to look, from the dashboard's own address on: `/#chain/NAME`, `/#task/ID`, or `/`. `id` is empty
    until the ledger has written it: then it is its name outside, `msg_...`, for ever.
    """

    kind: NoticeKind
    severity: Severity
    at_ms: int
    chain: str | None
    title: str
    message: str
    data: Mapping[str, Datum] = field(default_factory=dict)
    link: str = "/"
    id: str = ""


_LAST_MS = 253_402_300_799_000  # the end of year 9999, the last that has a name in a date
_BY_ITSELF = "It comes back by itself."
_REMEDIES = {
    FailureKind.AUTH_ERROR: "Log in again or renew its credential: the hold ends as soon as that changes.",
    FailureKind.CREDIT_EXHAUSTED: "Top up the account, then release it (locum release).",
    FailureKind.MODEL_UNAVAILABLE: "See whether the model's name in service.json is right.",
    FailureKind.TOKEN_BUDGET: "Raise the limit in service.json to use it sooner.",
    FailureKind.OPERATOR: "Release it (locum release) to use it sooner.",
}
_BRAKES = {Brake.CHAIN: "budget of chain", Brake.TIER: "budget of tier", Brake.HALT: "halting budget of chain"}


def notice_of(event: Event) -> Notice | None:
    """The notice that an event is worth; None for what needs nobody's attention."""
    match event.kind:
        case EventKind.BUMPED:
            return _bumped(event)
        case EventKind.RETURNED | EventKind.RELEASED:
            return _returned(event)
        case EventKind.EXHAUSTED:
            return _exhausted(event)
        case _:
            return None


def crossed(reading: Reading, chain: str, at_ms: int, until_ms: int | None) -> Notice:
    """A budget was used up. `chain` is where the run that crossed it belongs."""
    budget = reading.budget
    used = budget.weights.whole(reading.used)
    full = percent(budget.weights, reading.used, budget.limit)
    what = f"{_BRAKES[budget.brake]} {budget.owner}"
    held = "" if budget.acts else " Nothing is held because of it."
    return Notice(
        NoticeKind.TOKEN_THRESHOLD_CROSSED,
        Severity.WARNING,
        at_ms,
        chain,
        f"{budget.owner}: {used:,} of {budget.limit:,} tokens used",
        f"The {what} is used up: {used:,} of {budget.limit:,} tokens ({full} %, {describe(budget.window)}). "
        f"{_anew(until_ms)}{held} Raise the limit in service.json to go on sooner.",
        {
            "budget": budget.id,
            "limit": budget.limit,
            "used": used,
            "percent": full,
            "window_start_ms": reading.window.start_ms,
            "until_ms": until_ms,
        },
        chain_link(chain),
    )


def task_failed(task: Task, at_ms: int) -> Notice:
    """A task has ended failed; why is in the task."""
    name = task.title or task.id
    return Notice(
        NoticeKind.TASK_FAILED,
        Severity.WARNING,
        at_ms,
        task.chain,
        f"{task.chain}: a task has failed ({task.reason_code})",
        f"The task {name!r} in {task.cwd} has failed: {task.reason or task.reason_code}. "
        f"Its output: locum logs {task.id}",
        {"task": task.id, "cwd": task.cwd, "reason_code": task.reason_code, "reason": task.reason},
        task_link(task),
    )


def post_task_failed(task: Task, reason: str, exit_code: int | None, at_ms: int) -> Notice:
    """The operator's command after a task has failed; the task itself stays as it ended."""
    return Notice(
        NoticeKind.POST_TASK_FAILED,
        Severity.WARNING,
        at_ms,
        task.chain,
        f"{task.chain}: post_task has failed after a task",
        f"The post_task command after {task.title or task.id!r} ({task.id}, {task.state}) has failed: {reason}. "
        "The task is not touched by that. Mend the command; it is not run again for this task.",
        {"task": task.id, "state": str(task.state), "exit": exit_code, "reason": reason},
        task_link(task),
    )


def config_rejected(text: str, at_ms: int) -> Notice:
    """An edit of service.json was not taken over; `text` names file, line and remedy."""
    return Notice(
        NoticeKind.CONFIG_REJECTED,
        Severity.WARNING,
        at_ms,
        None,
        "service.json was not taken over",
        f"The service goes on with the last good configuration. {text}",
        {"problems": text},
    )


def chain_link(chain: str) -> str:
    """Where a chain is shown, below the dashboard's address."""
    return f"/#chain/{chain}"


def task_link(task: Task) -> str:
    """Where a task is shown, below the dashboard's address."""
    return f"/#task/{task.id}"


def _bumped(event: Event) -> Notice:
    hold = event.hold
    assert hold is not None, "a bump always says what it holds"
    goes_on = f"{event.chain} goes on with {event.active}." if event.active else f"{event.chain} has no tier left."
    remedy = _REMEDIES.get(hold.kind, _BY_ITSELF)
    return Notice(
        NoticeKind.TIER_BUMPED,
        Severity.WARNING,
        event.at_ms,
        event.chain,
        f"{event.chain}: {event.tier or hold.target} is held ({hold.kind})",
        f"{event.tier or hold.target} is held {_until(hold.until_ms)}: {_reason(event.reason, hold)}. "
        f"{goes_on} {remedy}",
        _data(event),
        chain_link(event.chain),
    )


def _returned(event: Event) -> Notice:
    hold = event.hold
    assert hold is not None, "a return always says what ended"
    goes_on = f"{event.chain} now uses {event.active}." if event.active else f"{event.chain} has no tier it can use."
    return Notice(
        NoticeKind.TIER_RETURNED,
        Severity.INFO,
        event.at_ms,
        event.chain,
        f"{event.chain}: {event.tier or hold.target} is back",
        f"{event.tier or hold.target} can be used again: {event.reason} ({hold.kind}). {goes_on}",
        _data(event),
        chain_link(event.chain),
    )


def _exhausted(event: Event) -> Notice:
    return Notice(
        NoticeKind.CHAIN_EXHAUSTED,
        Severity.CRITICAL,
        event.at_ms,
        event.chain,
        f"{event.chain}: every tier is held",
        f"Tasks of {event.chain} wait, because its last tier is held too: {event.reason or 'no reason given'}. "
        "See when each comes back with locum status; locum release ends a hold.",
        _data(event),
        chain_link(event.chain),
    )


def _data(event: Event) -> dict[str, Datum]:
    hold = event.hold
    return {
        "chain": event.chain,
        "tier": event.tier,
        "task": event.task,
        "active_tier": event.active,
        "failure_kind": str(hold.kind) if hold else None,
        "target": hold.target if hold else None,
        "until_ms": hold.until_ms if hold else None,
        "reason": event.reason,
    }


def _reason(reason: str, hold: Hold) -> str:
    return reason.rstrip(".") or str(hold.kind)


def _anew(until_ms: int | None) -> str:
    return "It never starts anew." if until_ms is None else f"There is room again from {_moment(until_ms)} on."


def _until(until_ms: int | None) -> str:
    return "until it is released" if until_ms is None else f"until {_moment(until_ms)}"


def _moment(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(min(at_ms, _LAST_MS) / 1000, UTC):%Y-%m-%d %H:%M} UTC"
