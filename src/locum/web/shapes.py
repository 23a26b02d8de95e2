"""The answers as types: each is encoded through its type, so that none has a key which the OpenAPI page does not."""

from __future__ import annotations

from typing import Any

import msgspec


class Shape(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An object with exactly these keys; null is what is not known or not there."""


class Versioned(Shape):
    """A whole answer."""

    schema: int


class Page(Versioned):
    """A part of a list; `next` is the cursor of what follows, null at its end."""

    next: str | None


class Tokens(Shape):
    """Tokens by type, which share none, and their sum."""

    input: int
    output: int
    cache_read: int
    cache_write: int
    total: int


# ── chains and tiers ─────────────────────────────────────────────────────────────────────────────────────────


class Hold(Shape):
    """What is not picked, why, and until when (null: until released)."""

    kind: str
    until: str | None
    reason: str
    since: str
    target: str
    budget: str | None


class PlacedHold(Hold):
    """A hold with the chain and tier where it began, and the chains that feel it."""

    chain: str
    tier: str
    chains: list[str]


class TierStanding(Shape):
    """How a tier stands in a chain."""

    name: str
    state: str
    hold: Hold | None
    holds: list[Hold]
    agent: str
    model: str | None
    account: str


class Standing(Shape):
    """How a chain stands."""

    active_tier: str | None
    last_failure_kind: str | None
    last_failure_at: str | None
    last_failure_reason: str | None
    last_failure_tier: str | None
    paused: bool
    exhausted: bool
    tiers: list[TierStanding]
    running: int
    queued: int


class NamedStanding(Standing):
    """How a chain stands, with its name."""

    name: str


class OneChain(NamedStanding):
    """How one chain stands."""

    schema: int


class Chains(Versioned):
    """How every chain stands, in the order of service.json."""

    chains: list[NamedStanding]


class Place(Shape):
    """How a tier stands in one of the chains that list it."""

    chain: str
    state: str


class Window(Shape):
    """The time a budget counts over."""

    kind: str
    start: str | None
    end: str | None
    timezone: str | None


class Measure(Shape):
    """What was used in a window, against its limits."""

    threshold_tokens: int | None
    threshold_effect: str | None
    halt_tokens: int | None
    halt_effect: str | None
    used_tokens: int
    totals: Tokens
    window: Window
    percent: float | None
    unknown_usage_runs: int


class Tier(Shape):
    """A tier: what it runs, where it stands in which state, what holds it, and what it has used."""

    name: str
    agent: str
    model: str | None
    account: str
    chains: list[Place]
    holds: list[Hold]
    running: int
    usage: Measure


class OneTier(Tier):
    """One tier."""

    schema: int


class Tiers(Versioned):
    """Every tier."""

    tiers: list[Tier]


class Holds(Versioned):
    """Every hold there is."""

    holds: list[PlacedHold]


class VendorWindow(Shape):
    """What a vendor last said of one of its own windows."""

    name: str
    model: str | None
    status: str
    used_percent: float | None
    resets: str | None
    read: str
    freshness: str
    counted: Tokens | None


class Account(Shape):
    """A login: the tiers it pays for, and what its vendor says."""

    tiers: list[str]
    windows: list[VendorWindow]


# ── the whole ────────────────────────────────────────────────────────────────────────────────────────────────


class WatchedHome(Shape):
    """A folder of transcripts that are counted."""

    agent: str
    folder: str
    tiers: list[str]
    account: str | None
    since: str
    there: bool
    files: int
    last_counted: str | None
    trouble: str | None


class Sources(Shape):
    """The homes that are watched."""

    on: bool
    without_events: str | None
    homes: list[WatchedHome]


class ConfigStanding(Shape):
    """The configuration in use."""

    path: str
    problems: list[str]
    warnings: list[str]


class LastPostTask(Shape):
    """The command after a task that failed last."""

    task: str
    reason: str
    at: str | None


class PostTasks(Shape):
    """How the commands after tasks stand."""

    due: int
    running: int
    last_failure: LastPostTask | None


class Http(Shape):
    """Where the daemon listens over TCP, and why it does not although it shall."""

    listen: str | None
    url: str | None
    problem: str | None


class Channel(Shape):
    """How a channel of service.json stands."""

    name: str
    type: str
    waiting: int
    oldest: str | None
    given_up: int
    failures: int
    failing_since: str | None
    last_sent: str | None
    disabled: str | None
    disabled_at: str | None


class Status(Versioned):
    """How everything stands."""

    http: Http
    channels: list[Channel]

    chains: dict[str, Standing]
    low_disk: bool
    config: ConfigStanding
    version: str
    started: str
    post_task: PostTasks
    accounts: dict[str, Account]
    usage_sources: Sources


class Unattributed(Shape):
    """What nobody's tier has used."""

    totals: Tokens


class Usage(Measure):
    """What was used, by chain, tier and account; at the top that of the main chain."""

    schema: int
    chains: dict[str, Measure]
    tiers: dict[str, Measure]
    accounts: dict[str, Measure]
    unattributed: Unattributed
    usage_sources: Sources


class Spent(Shape):
    """What was used from `start` on, up to the next, by chain, tier, account and model; null: not known."""

    start: str
    chain: str | None
    tier: str | None
    account: str | None
    model: str | None
    tokens: Tokens


class History(Versioned):
    """What was used, hour by hour or day by day; what nothing was used in is left out."""

    by: str
    start: str
    end: str
    timezone: str
    rows: list[Spent]


class Explained(Versioned):
    """Why chains run where they run, in sentences."""

    chains: dict[str, list[str]]
    low_disk: bool
    problems: list[str]


class Health(Shape):
    """Whether the daemon answers."""

    status: str


class Version(Versioned):
    """What runs here."""

    version: str
    python: str
    pid: int
    started: str


class Problem(Shape):
    """What is wrong in a file: where, why, and what to do."""

    path: str
    line: int
    column: int
    severity: str
    what: str
    why: str
    remedy: str


class Config(Versioned):
    """The configuration in use, without secrets; `problems` are those of a newer edit, which is refused."""

    path: str
    digest: str
    config: dict[str, Any]
    rules: list[str]
    problems: list[Problem]
    warnings: list[Problem]


class Reloaded(Versioned):
    """What became of service.json as it is now."""

    result: str
    path: str
    problems: list[str]
    warnings: list[str]


class Audit(Versioned):
    """The ledger added up again."""

    clean: bool
    entries: int
    events: int
    tokens: Tokens
    problems: list[str]


class Refusal(Shape):
    """Why something was refused (RFC 9457); `code` is stable."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    remedy: str
