"""What each failure shall cost, by the manual: written down apart from the code that does it, to judge that by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from locum.policy.failure import FailureKind
from locum.policy.plan import Tier

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class On(StrEnum):
    """What is held for a failure."""

    TIER = "tier"
    ACCOUNT = "account"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Cost:
    """What a failure holds, for how long at first and at most (milliseconds), after how many tries in place.

    `soft`: only a second task in a row is held for it. `proves`: who comes back runs one task until one succeeds.
    `timed`: the vendor's own word for how long is believed, within reason.
    """

    on: On
    first_ms: int = 0
    most_ms: int = 0
    tries: int = 0
    soft: bool = False
    proves: bool = False
    timed: bool = False


_SOFT = Cost(On.TIER, MINUTE, 30 * MINUTE, soft=True)
_BUSY = Cost(On.TIER, MINUTE, 10 * MINUTE, tries=2)
COSTS: Mapping[FailureKind, Cost] = {
    FailureKind.AUTH_ERROR: Cost(On.ACCOUNT, 30 * MINUTE, 6 * HOUR, proves=True),
    FailureKind.CREDIT_EXHAUSTED: Cost(On.ACCOUNT, HOUR, 12 * HOUR, proves=True),
    FailureKind.USAGE_LIMIT: Cost(On.ACCOUNT, 30 * MINUTE, 5 * HOUR, proves=True, timed=True),
    FailureKind.RATE_LIMIT: Cost(On.TIER, MINUTE, 30 * MINUTE, tries=1, proves=True, timed=True),
    FailureKind.OVERLOADED: _BUSY,
    FailureKind.SERVER_ERROR: _BUSY,
    FailureKind.NETWORK: Cost(On.TIER, MINUTE // 2, 10 * MINUTE, tries=2),
    FailureKind.MODEL_UNAVAILABLE: Cost(On.TIER, 6 * HOUR, 6 * HOUR),
    FailureKind.CRASH: _SOFT,
    FailureKind.STALLED: _SOFT,
    FailureKind.NO_RESULT: _SOFT,
    FailureKind.UNKNOWN: _SOFT,
}
"""The failures that a stand-in can play; all others end their task and hold nothing."""

_WINDOWS = {"five_hour": 5 * HOUR, "daily": DAY, "seven_day": 7 * DAY, "monthly": 31 * DAY}
_LONGEST = {"five_hour": 6 * HOUR, "daily": 25 * HOUR, "seven_day": 8 * DAY, "monthly": 32 * DAY}
_LONGEST_UNNAMED = {FailureKind.USAGE_LIMIT: 8 * DAY}
_PATIENT_MS = MINUTE
_STALE_MS = 2 * MINUTE
_JITTER_MS = MINUTE // 2
_ROUNDED_MS = MINUTE
"""A reset that is told as a time of day has lost its seconds."""


def target_of(kind: FailureKind, tier: Tier) -> str | None:
    """What a failure of this kind on that tier holds, as the ledger names it; None: nothing."""
    match COSTS.get(kind, Cost(On.NOTHING)).on:
        case On.ACCOUNT:
            return f"account:{tier.account}"
        case On.TIER:
            return f"tier:{tier.name}"
        case On.NOTHING:
            return None


def waits_in_place(kind: FailureKind, reset_ms: int | None, at_ms: int) -> bool:
    """Whether the vendor asks for so short a wait that the tier is tried once more instead of being held."""
    return kind is FailureKind.RATE_LIMIT and reset_ms is not None and reset_ms - at_ms <= _PATIENT_MS


def until_ms(kind: FailureKind, at_ms: int, strikes: int, reset_ms: int | None, window: str | None) -> tuple[int, int]:
    """Between which moments (epoch milliseconds) the hold may end that begins at `at_ms`.

    `strikes` is how often in a row this has happened; `reset_ms` and `window` what the vendor has told.
    """
    cost = COSTS[kind]
    if reset_ms is None or not cost.timed or reset_ms < at_ms - _STALE_MS:
        most_ms = _WINDOWS.get(window or "", cost.most_ms) if kind is FailureKind.USAGE_LIMIT else cost.most_ms
        end_ms = at_ms + min(cost.first_ms << (strikes - 1), most_ms)
        return end_ms, end_ms
    longest = at_ms + _LONGEST.get(window or "", _LONGEST_UNNAMED.get(kind, 6 * HOUR))
    return min(reset_ms - _ROUNDED_MS, longest), min(max(reset_ms, at_ms) + _JITTER_MS + _ROUNDED_MS, longest)
