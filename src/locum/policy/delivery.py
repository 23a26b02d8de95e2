"""How notices are delivered: when a message is tried again, what holds the line up, and when to give up."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from locum.policy.failure import DAY, HOUR, MINUTE, SECOND
from locum.policy.notice import SENT_UNASKED, Notice, NoticeKind, Severity

WAITS_MS = (5 * SECOND, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR)
"""How long after its first, second, ... failure a message is tried again; the last holds for all that follow."""
PATIENCE_MS = 3 * DAY
"""A message that fails so long after its first attempt is given up."""
HOLDS_LINE = 3
"""A message that has failed fewer times keeps those behind it waiting, for their order; then it steps aside."""
OUTAGE = 3
"""So many failures in a row are the channel's: when it works again, whatever has stepped aside is due at once."""
MOST_RETRY_AFTER_MS = 24 * HOUR
LONGEST_WAIT_MS = MOST_RETRY_AFTER_MS + MOST_RETRY_AFTER_MS // 10
FOLD_AFTER = 5
"""So many notices of one kind and chain are told one by one in a minute; what follows becomes one message."""
FOLD_MS = MINUTE
ABOUT_DELIVERY = frozenset({NoticeKind.DELIVERY_FAILED, NoticeKind.CHANNEL_DISABLED})
"""Notices about a channel: they do not go through that channel, and failing to deliver one causes no other."""


class DeliveryState(StrEnum):
    """Where the message of one notice to one channel stands."""

    WAITING = "waiting"  # its turn or its time has not come
    SENDING = "sending"  # an attempt is under way, or was when the daemon died
    SENT = "sent"  # the other side has said so
    FOLDED = "folded"  # told in the message of another notice
    GIVEN_UP = "given_up"
    DROPPED = "dropped"  # its channel was taken out of service.json


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which notices a channel takes. `kinds` None: all but those that must be asked for; `chains` None: all."""

    channel: str
    kinds: Collection[NoticeKind] | None = None
    chains: Collection[str] | None = None
    least: Severity = Severity.INFO

    def __call__(self, notice: Notice) -> bool:
        """Whether a notice goes through the channel."""
        if notice.kind in ABOUT_DELIVERY and notice.data.get("channel") == self.channel:
            return False
        if notice.kind not in self.kinds if self.kinds is not None else not SENT_UNASKED[notice.kind]:
            return False
        if self.chains is not None and notice.chain is not None and notice.chain not in self.chains:
            return False
        return _GRAVITY[notice.severity] >= _GRAVITY[self.least]


_GRAVITY = {severity: rank for rank, severity in enumerate(Severity)}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one attempt. `why` is what the other side said, or why it was not reached; one line, no secrets.

    `status` is HTTP's, or an exit code. `gone`: it wants no more. `after_ms`: it wants to be left alone so long.
    """

    told: bool
    why: str = ""
    status: int | None = None
    gone: bool = False
    after_ms: int | None = None
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """One notice and one channel. Moments are epoch milliseconds, None: not yet. `count` notices are told in it;
    `fold` names the notice in whose message it is told itself.
    """

    channel: str
    notice: int
    state: DeliveryState
    attempts: int
    first_ms: int | None
    due_ms: int
    ended_ms: int | None
    count: int
    fold: str | None
    status: int | None
    answer: str


def is_due(at_ms: int, now_ms: int) -> bool:
    """Whether a moment that was waited for has come; one further away than any wait was set before the clock was."""
    return not now_ms < at_ms <= now_ms + LONGEST_WAIT_MS


def next_try_ms(attempts: int, first_ms: int, now_ms: int, after_ms: int | None, fraction: float) -> int | None:
    """When a message is tried again after its `attempts`-th failure, with a tenth of jitter; None: it is given up."""
    assert attempts > 0, "it has failed"
    if now_ms - first_ms >= PATIENCE_MS:
        return None
    wait_ms = WAITS_MS[min(attempts, len(WAITS_MS)) - 1]
    asked_ms = min(after_ms or 0, MOST_RETRY_AFTER_MS)
    return now_ms + max(wait_ms, asked_ms) + int(max(wait_ms, asked_ms) * fraction / 10)
