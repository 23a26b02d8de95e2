"""What people must hear of: from an event, a crossing or a failed task to a message that says what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from locum.policy.board import Event, EventKind, Hold
from locum.policy.failure import FailureKind
from locum.policy.task import Run, Task
from locum.policy.window import WindowRule, describe, kind
from locum.words import count, iso, span


class NoticeKind(StrEnum):
    """Everything people are told of."""

    TIER_BUMPED = "tier_bumped"
    TIER_RETURNED = "tier_returned"
    CHAIN_EXHAUSTED = "chain_exhausted"
    TOKEN_THRESHOLD_CROSSED = "token_threshold_crossed"  # noqa: S105 - tokens of a model, not a secret
    TASK_FINISHED = "task_finished"
    TASK_FAILED = "task_failed"
    CONFIG_REJECTED = "config_rejected"
    SIGNAL_UNKNOWN = "signal_unknown"
    POST_TASK_FAILED = "post_task_failed"
    DELIVERY_FAILED = "delivery_failed"
    CHANNEL_DISABLED = "channel_disabled"
    TEST = "test"


SENT_UNASKED = {
    NoticeKind.TIER_BUMPED: True,
    NoticeKind.TIER_RETURNED: True,
    NoticeKind.CHAIN_EXHAUSTED: True,
    NoticeKind.TOKEN_THRESHOLD_CROSSED: True,
    NoticeKind.TASK_FINISHED: False,
    NoticeKind.TASK_FAILED: False,
    NoticeKind.CONFIG_REJECTED: True,
    NoticeKind.SIGNAL_UNKNOWN: True,
    NoticeKind.POST_TASK_FAILED: True,
    NoticeKind.DELIVERY_FAILED: True,
    NoticeKind.CHANNEL_DISABLED: True,
    NoticeKind.TEST: False,
}
"""Whether a channel that names no kinds is sent it. All are kept; but the end of every task is no news."""


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


@dataclass(frozen=True, slots=True)
class Cost:
    """What a tier that is left or taken up again has cost, in whole tokens.

    `attempt` is what the attempt that ended there used, None where there is none or it is not known; `tier` what the
    tier has used in its window so far, weighed as its budget is; `window` which that is.
    """

    attempt: int | None
    tier: int
    window: WindowRule


_LAST_MS = 253_402_300_799_000  # the end of year 9999, the last that has a name in a date
_BY_ITSELF = "It comes back by itself."
_REMEDIES = {
    FailureKind.AUTH_ERROR: "Log in again or renew its credential: the hold ends as soon as that changes.",
    FailureKind.CREDIT_EXHAUSTED: "Top up the account, then release it (locum release).",
    FailureKind.MODEL_UNAVAILABLE: "See whether the model's name in service.json is right.",
    FailureKind.TOKEN_BUDGET: "Raise the limit in service.json to use it sooner.",
    FailureKind.OPERATOR: "Release it (locum release) to use it sooner.",
}


def notice(
    kind: NoticeKind,
    severity: Severity,
    at_ms: int,
    chain: str | None,
    title: str,
    message: str,
    data: Mapping[str, Datum],
    link: str = "/",
    *,
    tier: str | None = None,
) -> Notice:
    """A notice with what all have in their data, so that it can be sent on as it is: event, timestamp, chain, tier."""
    head = {"event": str(kind), "timestamp": when(at_ms), "chain": chain, "tier": tier}
    return Notice(kind, severity, at_ms, chain, title, message, {**head, **data}, link)


def notice_of(event: Event, cost: Cost | None = None, back_ms: int | None = None) -> Notice | None:
    """The notice that an event is worth; None for what needs nobody's attention.

    `cost` is that of the tier it is about; `back_ms` when the chain has a tier again, None: not by itself.
    """
    match event.kind:
        case EventKind.BUMPED:
            return _bumped(event, cost)
        case EventKind.RETURNED | EventKind.RELEASED:
            return _returned(event, cost)
        case EventKind.EXHAUSTED:
            return _exhausted(event, back_ms)
        case _:
            return None


def task_finished(task: Task, tokens: int, attempts: int, at_ms: int) -> Notice:
    """A task is done, after so many attempts and tokens (as far as the agents told them)."""
    name = task.title or task.id
    return notice(
        NoticeKind.TASK_FINISHED,
        Severity.INFO,
        at_ms,
        task.chain,
        f"{task.chain}: a task is done",
        f"The task {name!r} in {task.cwd} is done: {count(attempts, 'attempt')}, {count(tokens, 'token')}. "
        f"Its output: locum logs {task.id}",
        {"task": task.id, "cwd": task.cwd, "attempts": attempts, "total_tokens": tokens},
        task_link(task),
    )


def task_failed(task: Task, tokens: int, at_ms: int) -> Notice:
    """A task has ended failed; why is in the task. `tokens` is what it used, as far as the agents told."""
    name = task.title or task.id
    return notice(
        NoticeKind.TASK_FAILED,
        Severity.WARNING,
        at_ms,
        task.chain,
        f"{task.chain}: a task has failed ({task.reason_code})",
        f"The task {name!r} in {task.cwd} has failed: {(task.reason or task.reason_code).rstrip('.')}. "
        f"It used {count(tokens, 'token')}. Its output: locum logs {task.id}",
        {
            "task": task.id,
            "cwd": task.cwd,
            "reason_code": task.reason_code,
            "reason": task.reason,
            "total_tokens": tokens,
        },
        task_link(task),
    )


def post_task_failed(task: Task, reason: str, exit_code: int | None, at_ms: int) -> Notice:
    """The operator's command after a task has failed; the task itself stays as it ended."""
    return notice(
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


def signal_unknown(run: Run, task: Task, at_ms: int) -> Notice:
    """A run has failed in words that no rule knows: what it means for its account had to be guessed."""
    said = run.reason.rstrip(".") or "it said nothing"
    return notice(
        NoticeKind.SIGNAL_UNKNOWN,
        Severity.INFO,
        at_ms,
        run.chain,
        f"{run.chain}: {run.tier.name} failed for a reason that no rule knows",
        f"A run of {run.tier.agent} on {run.tier.name} (exit code {run.exit}) failed, and no rule knows why: {said}. "
        "It counts as a failure that may be the task's own. locum signals list --unknown shows it; a rule of your own "
        "says what it means (locum signals add).",
        {"task": task.id, "run": run.id, "agent": run.tier.agent, "exit": run.exit, "reason": run.reason},
        task_link(task),
        tier=run.tier.name,
    )


def config_rejected(text: str, at_ms: int) -> Notice:
    """An edit of service.json was not taken over; `text` names file, line and remedy."""
    return notice(
        NoticeKind.CONFIG_REJECTED,
        Severity.WARNING,
        at_ms,
        None,
        "service.json was not taken over",
        f"The service goes on with the last good configuration. {text}",
        {"problems": text},
    )


def delivery_failed(told: Notice, channel: str, attempts: int, why: str, at_ms: int) -> Notice:
    """A notice could not be delivered through a channel, and is not tried any more."""
    return notice(
        NoticeKind.DELIVERY_FAILED,
        Severity.CRITICAL,
        at_ms,
        told.chain,
        f"channel {channel}: a notice could not be delivered",
        f"{told.title!r} ({told.id}) was tried {attempts} times in three days, in vain: {why}. It is given up. "
        f"When channel {channel} works again (locum alerts test {channel}), send what was given up with "
        f"locum alerts replay --channel {channel}",
        {"channel": channel, "notice": told.id, "attempts": attempts, "reason": why},
        "/" if told.chain is None else chain_link(told.chain),
    )


def channel_disabled(channel: str, why: str, at_ms: int) -> Notice:
    """A channel has said that it wants no more."""
    return notice(
        NoticeKind.CHANNEL_DISABLED,
        Severity.CRITICAL,
        at_ms,
        None,
        f"channel {channel} is disabled",
        f"Channel {channel} answered that it is gone for ever ({why}). Nothing is sent there any more; what it has not "
        "been told waits. Mend its entry in service.json: then it goes on.",
        {"channel": channel, "reason": why},
    )


def sample(id_: str, channel: str, at_ms: int) -> Notice:
    """What a channel is tried with: it says that it means nothing."""
    return Notice(
        NoticeKind.TEST,
        Severity.INFO,
        at_ms,
        None,
        f"locum: a test of channel {channel}",
        "This is only a test, sent by `locum alerts test`: nothing has happened, and there is nothing to do.",
        {"channel": channel, "sample": 1},
        "/",
        id_,
    )


def chain_link(chain: str) -> str:
    """Where a chain is shown, below the dashboard's address."""
    return f"/#chain/{chain}"


def task_link(task: Task) -> str:
    """Where a task is shown, below the dashboard's address."""
    return f"/#task/{task.id}"


def moment(at_ms: int) -> str:
    """A moment (epoch milliseconds) for people who may be anywhere."""
    return f"{datetime.fromtimestamp(min(at_ms, _LAST_MS) / 1000, UTC):%Y-%m-%d %H:%M} UTC"


def when(at_ms: int | None) -> str | None:
    """The same for programs: ISO 8601 in UTC; None stays None."""
    return None if at_ms is None else iso(min(at_ms, _LAST_MS))


def _bumped(event: Event, cost: Cost | None) -> Notice:
    hold = event.hold
    assert hold is not None, "a bump always says what it holds"
    goes_on = f"{event.chain} goes on with {event.active}." if event.active else f"{event.chain} has no tier left."
    remedy = _REMEDIES.get(hold.kind, _BY_ITSELF)
    return notice(
        NoticeKind.TIER_BUMPED,
        Severity.WARNING,
        event.at_ms,
        event.chain,
        f"{event.chain}: {event.tier or hold.target} is held ({hold.kind})",
        f"{event.tier or hold.target} is held {_until(hold.until_ms)}: {_reason(event.reason, hold)}. "
        f"{goes_on} {_spent(event, cost)}{remedy}",
        _data(event, cost),
        chain_link(event.chain),
        tier=event.tier,
    )


def _returned(event: Event, cost: Cost | None) -> Notice:
    hold = event.hold
    assert hold is not None, "a return always says what ended"
    goes_on = f"{event.chain} now uses {event.active}." if event.active else f"{event.chain} has no tier it can use."
    return notice(
        NoticeKind.TIER_RETURNED,
        Severity.INFO,
        event.at_ms,
        event.chain,
        f"{event.chain}: {event.tier or hold.target} is back",
        f"{event.tier or hold.target} can be used again: {event.reason} ({hold.kind}), "
        f"after {span(event.at_ms - hold.since_ms)}. {goes_on} {_spent(event, cost)}".rstrip(),
        {**_data(event, cost), "held_ms": max(0, event.at_ms - hold.since_ms)},
        chain_link(event.chain),
        tier=event.tier,
    )


def _exhausted(event: Event, back_ms: int | None) -> Notice:
    back = "None comes back by itself" if back_ms is None else f"The first is expected back at {moment(back_ms)}"
    return notice(
        NoticeKind.CHAIN_EXHAUSTED,
        Severity.CRITICAL,
        event.at_ms,
        event.chain,
        f"{event.chain}: every tier is held",
        f"Tasks of {event.chain} wait, because its last tier is held too: {event.reason or 'no reason given'}. "
        f"{back}. See when each does with locum status; locum release ends a hold.",
        {**_data(event, None), "back": when(back_ms), "back_ms": back_ms},
        chain_link(event.chain),
        tier=event.tier,
    )


def _data(event: Event, cost: Cost | None) -> dict[str, Datum]:
    hold = event.hold
    found: dict[str, Datum] = {
        "task": event.task,
        "active_tier": event.active,
        "failure_kind": str(hold.kind) if hold else None,
        "target": hold.target if hold else None,
        "until": when(hold.until_ms) if hold else None,
        "until_ms": hold.until_ms if hold else None,
        "reason": event.reason,
    }
    if cost is not None:
        found |= {"attempt_tokens": cost.attempt, "tier_tokens": cost.tier, "window": kind(cost.window)}
    return found


def _spent(event: Event, cost: Cost | None) -> str:
    """What it has cost, as a sentence with a space behind it; nothing where nobody knows whose it is."""
    if cost is None:
        return ""
    attempt = "" if cost.attempt is None else f"This attempt used {count(cost.attempt, 'token')}; "
    return f"{attempt}{event.tier} has used {count(cost.tier, 'token')} ({describe(cost.window)}). "


def _reason(reason: str, hold: Hold) -> str:
    return reason.rstrip(".") or str(hold.kind)


def _until(until_ms: int | None) -> str:
    return "until it is released" if until_ms is None else f"until {moment(until_ms)}"
