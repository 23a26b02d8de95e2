"""What the ledger answers with."""

from __future__ import annotations

from dataclasses import dataclass

from locum.policy.board import Event
from locum.policy.plan import Meter
from locum.policy.task import PostTask
from locum.policy.usage import Tokens
from locum.policy.vendor import VendorWindow
from locum.policy.window import Window


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a call of `record` changed: the tokens that were new, and what that set off."""

    tokens: Tokens
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Reported:
    """What a report changed: the tokens that were new, and what it set off. `duplicate`: its id was told before."""

    tokens: Tokens
    events: tuple[Event, ...]
    duplicate: bool


@dataclass(frozen=True, slots=True)
class ReportView:
    """A report as it is on record; `tokens` None: what that work used is not known."""

    agent: str
    id: str
    at_ms: int
    chain: str | None
    tier: str | None
    session: str | None
    model: str | None
    provider: str | None
    failure: str | None
    reason: str
    cost_micros: int | None
    tokens: Tokens | None


@dataclass(frozen=True, slots=True)
class UsageView:
    """What a scope has used in its current window. `percent` is rounded down to a tenth; None without a limit.

    `unknown_runs` of its runs have not told (all) they used: the totals are then the least it can be.
    """

    scope: str
    meter: Meter
    window: Window
    totals: Tokens
    limit: int | None
    percent: float | None
    unknown_runs: int = 0


@dataclass(frozen=True, slots=True)
class VendorView:
    """The latest reading of a vendor's window; `counted` is what this ledger holds for it, None where none compares."""

    window: VendorWindow
    counted: Tokens | None


@dataclass(frozen=True, slots=True)
class PostTasksView:
    """How the commands after tasks stand: how many are due and run, and the one that ended last."""

    due: int
    running: int
    last: PostTask | None


@dataclass(frozen=True, slots=True)
class ChannelView:
    """How a channel stands. `waiting` counts what it has yet to look at as well, from `oldest_ms` on.

    `failures` attempts have failed in a row, since `failing_ms`; `disabled` is why nothing is sent at all, or None.
    """

    name: str
    waiting: int
    oldest_ms: int | None
    given_up: int
    failures: int
    failing_ms: int | None
    sent_ms: int | None
    disabled: str | None
    disabled_ms: int | None


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What an audit has read and what is wrong; no problems means that everything adds up."""

    entries: int
    events: int
    tokens: Tokens
    problems: tuple[str, ...]
