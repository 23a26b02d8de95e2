"""Failure kinds, and what each one costs a tier."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class FailureKind(StrEnum):
    """Why an attempt, a request or a budget check failed."""

    AUTH_ERROR = "auth_error"
    CREDIT_EXHAUSTED = "credit_exhausted"
    USAGE_LIMIT = "usage_limit"
    RATE_LIMIT = "rate_limit"
    OVERLOADED = "overloaded"
    SERVER_ERROR = "server_error"
    NETWORK = "network"
    MODEL_UNAVAILABLE = "model_unavailable"
    CRASH = "crash"
    STALLED = "stalled"
    NO_RESULT = "no_result"
    UNKNOWN = "unknown"
    TOKEN_BUDGET = "token_budget"  # noqa: S105 - tokens of a model, not a secret
    OPERATOR = "operator"
    CONTEXT_OVERFLOW = "context_overflow"
    INVALID_REQUEST = "invalid_request"


class Breadth(StrEnum):
    """What a failure of one kind holds."""

    TIER = "tier"
    ACCOUNT = "account"
    ACCOUNT_OR_MODEL = "account_or_model"  # the model, when the vendor named it
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Answer:
    """One row of the table below. Times in milliseconds.

    `base_ms` doubles with each failure in a row up to `cap_ms`. `retries` are made in place first.
    `patient`: a wait the vendor asks for is kept in place up to `wait_in_place_ms`.
    `soft`: the task tries its next tier, and a hold comes only when two different tasks in a row fail so.
    `guarded`: the hold also ends when the tier's credential or configuration changes.
    `probation`: whoever comes back from such a hold runs one task at a time until one succeeds.
    """

    breadth: Breadth
    base_ms: int = 0
    cap_ms: int = 0
    retries: int = 0
    retry_base_ms: int = 0
    wait_in_place_ms: int = 0
    soft: bool = False
    guarded: bool = False
    probation: bool = False


_SOFT = Answer(Breadth.TIER, 1 * MINUTE, 30 * MINUTE, soft=True)
_BUSY = Answer(Breadth.TIER, 1 * MINUTE, 10 * MINUTE, retries=2, retry_base_ms=2 * SECOND)
_TASK_FAILS = Answer(Breadth.NOTHING)

ANSWERS: dict[FailureKind, Answer] = {
    FailureKind.AUTH_ERROR: Answer(Breadth.ACCOUNT, 30 * MINUTE, 6 * HOUR, guarded=True, probation=True),
    FailureKind.CREDIT_EXHAUSTED: Answer(Breadth.ACCOUNT, 1 * HOUR, 12 * HOUR, guarded=True, probation=True),
    FailureKind.USAGE_LIMIT: Answer(Breadth.ACCOUNT_OR_MODEL, 30 * MINUTE, 5 * HOUR, probation=True),
    FailureKind.RATE_LIMIT: Answer(Breadth.TIER, 1 * MINUTE, 30 * MINUTE, wait_in_place_ms=60 * SECOND, probation=True),
    FailureKind.OVERLOADED: _BUSY,
    FailureKind.SERVER_ERROR: _BUSY,
    FailureKind.NETWORK: Answer(Breadth.TIER, 30 * SECOND, 10 * MINUTE, retries=2, retry_base_ms=2 * SECOND),
    FailureKind.MODEL_UNAVAILABLE: Answer(Breadth.TIER, 6 * HOUR, 6 * HOUR, guarded=True),
    FailureKind.CRASH: _SOFT,
    FailureKind.STALLED: _SOFT,
    FailureKind.NO_RESULT: _SOFT,
    FailureKind.UNKNOWN: _SOFT,
    FailureKind.TOKEN_BUDGET: Answer(Breadth.TIER),
    FailureKind.OPERATOR: Answer(Breadth.TIER),
    FailureKind.CONTEXT_OVERFLOW: _TASK_FAILS,
    FailureKind.INVALID_REQUEST: _TASK_FAILS,
}
assert set(ANSWERS) == set(FailureKind), "every failure kind has exactly one answer"

ALWAYS_ACT = frozenset({FailureKind.OPERATOR, FailureKind.UNKNOWN})
"""Kinds that move a chain whether or not `triggers` names them."""

HAPPENING = tuple(kind for kind in FailureKind if kind not in (FailureKind.TOKEN_BUDGET, FailureKind.OPERATOR))
"""The kinds that can happen to an agent, and that it can tell of; the others are decided here."""

DEFAULT_TRIGGERS = frozenset(FailureKind) - {FailureKind.CONTEXT_OVERFLOW, FailureKind.INVALID_REQUEST}

# The longest reset time that is believed for each vendor window: a little more than the window itself.
WINDOW_MS = {"five_hour": 5 * HOUR, "daily": DAY, "seven_day": 7 * DAY, "monthly": 31 * DAY}
CLAMP_MS = {"five_hour": 6 * HOUR, "daily": DAY + HOUR, "seven_day": 8 * DAY, "monthly": 32 * DAY}
LONGEST_UNNAMED_MS = 8 * DAY
LONGEST_THROTTLE_MS = 6 * HOUR
# A reset told to the minute may have passed by seconds when it is read: that is now, not never.
JUST_PASSED_MS = 2 * MINUTE
SHORTEST_MS = 5 * SECOND


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed attempt, as the agent's own output told it.

    `reset_ms` is the moment (epoch milliseconds) the vendor said it is over, before any clamping.
    `window` names the vendor's window (a key of `WINDOW_MS`) when it was told; `model` the one model limited.
    `evidence` is the line that decided, for people; `rule` names the rule or typed field that read it.
    `said` is the last the agent said, where only the end of its output tells; for the hand-over.
    `lost_session` says that the session to be resumed does not exist any more: start anew, nothing is wrong.
    """

    kind: FailureKind
    evidence: str = ""
    rule: str = ""
    reset_ms: int | None = None
    window: str | None = None
    model: str | None = None
    said: str = ""
    lost_session: bool = False


def backoff_ms(base_ms: int, cap_ms: int, strikes: int) -> int:
    """`base_ms` doubled for every strike after the first, at most `cap_ms`; `strikes` counts from 1."""
    assert strikes >= 1
    return min(cap_ms, base_ms << min(strikes - 1, 62))  # of one millisecond, longer than any clock runs


def hold_until_ms(failure: Failure, strikes: int, now_ms: int, jitter_ms: int = 0) -> int | None:
    """When a hold for `failure` ends (epoch milliseconds); None means only a release ends it.

    `strikes` is how often in a row this has happened, this time included. A vendor's reset is believed,
    but only forwards in time and only as far as its window can reach: a stale or absurd one is not obeyed.
    """
    answer = ANSWERS[failure.kind]
    if failure.kind in (FailureKind.OPERATOR, FailureKind.TOKEN_BUDGET):
        return failure.reset_ms
    cap_ms = (
        WINDOW_MS.get(failure.window or "", answer.cap_ms) if failure.kind is FailureKind.USAGE_LIMIT else answer.cap_ms
    )
    doubled = now_ms + backoff_ms(answer.base_ms, cap_ms, strikes)
    if failure.reset_ms is None or failure.reset_ms < now_ms - JUST_PASSED_MS:
        return doubled
    unnamed_ms = LONGEST_UNNAMED_MS if failure.kind is FailureKind.USAGE_LIMIT else LONGEST_THROTTLE_MS
    longest = CLAMP_MS.get(failure.window or "", unnamed_ms)
    return min(max(failure.reset_ms, now_ms + SHORTEST_MS) + jitter_ms, now_ms + longest)
