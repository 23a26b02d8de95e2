"""Looks at what each commit has left on disk, with statements of its own, and hands it to the oracles."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from locum.store.sqlite import Database
from tests.sim.clock import SimClock, elapsed
from tests.sim.setups import ALL_TRIGGERS, Setup
from tests.sim.trace import Trace


class Ev(NamedTuple):
    """One row of the log."""

    seq: int
    chain: str
    kind: str
    at: int
    tier: str | None
    task: str | None
    failure: str | None
    reason: str
    hold: dict[str, Any] | None
    active: str | None
    quiet: bool


class RunRow(NamedTuple):
    """One row of runs."""

    id: str
    task: str
    chain: str
    tier: str
    account: str
    model: str | None
    cwd: str
    agent: str
    state: str
    failure: str | None
    next: str | None
    wait_ms: int
    tokens: tuple[int, int, int, int]
    started_ms: int


class Entry(NamedTuple):
    """One row of the ledger."""

    run: str | None
    task: str | None
    chain: str | None
    tier: str | None
    account: str | None
    at_ms: int
    counts: tuple[int, int, int, int]


class Outside(NamedTuple):
    """The end of a turn of a session that is not ours."""

    id: str
    chain: str | None
    tier: str | None
    session: str
    failure: str | None


class Told(NamedTuple):
    """One notice."""

    kind: str
    chain: str | None
    data: dict[str, Any]
    event: int | None


@dataclass
class Commit:
    """What one commit has changed. `setup` is new when the plan is; there is none before the first was taken over."""

    now: int
    at: float
    events: list[Ev]
    entries: list[Entry]
    notices: list[Told]
    started: list[RunRow]
    ended: list[RunRow]
    setup: Setup | None = None
    reports: list[Outside] = field(default_factory=list)
    shaky: bool = False  # the disk has just failed somebody


RUN = (
    "id, task, chain, tier, account, model, cwd, agent, state, failure, next, wait_ms, input, output, cache_read,"
    " cache_write, started_ms"
)


@dataclass
class Witness:
    """Remembers how far it has looked, over all daemons."""

    clock: SimClock
    trace: Trace
    history: list[Setup]
    judge: Callable[[Commit, Any], None]
    broken: Callable[[str, str], None]
    shaky: Callable[[], bool]
    event: int = 0
    entry: int = 0
    notice: int = 0
    report: int = 0
    open: dict[str, RunRow] = field(default_factory=dict)
    plan: Any = None
    changes: int = -1
    database: Any = None
    commits: int = 0

    def look(self, database: Database[Any]) -> None:
        """See what the last write has left."""
        connection, plan = database._tx.connection, database.memory.plan
        changes = connection.total_changes()
        if database is not self.database:  # it was opened, and has read its board: it takes over its plan next
            self.database, self.changes = database, changes
            return
        if changes == self.changes and plan is self.plan:
            return
        self.changes = changes
        self.commits += 1
        run = connection.execute
        events = [
            Ev(*row[:8], json.loads(row[8]) if row[8] else None, row[9], bool(row[10]))
            for row in run(
                "SELECT seq, chain, kind, at_ms, tier, task, failure, reason, hold, active, quiet"
                " FROM event WHERE seq > ? ORDER BY seq",
                (self.event,),
            )
        ]
        entries = list(
            run(
                "SELECT seq, run, task, chain, tier, account, at_ms, input, output, cache_read, cache_write"
                " FROM entry WHERE seq > ? ORDER BY seq",
                (self.entry,),
            )
        )
        notices = list(
            run("SELECT seq, kind, chain, data, event FROM notice WHERE seq > ? ORDER BY seq", (self.notice,))
        )
        told_us = list(
            run("SELECT seq, id, chain, tier, session, failure FROM report WHERE seq > ? ORDER BY seq", (self.report,))
        )
        self.report = told_us[-1][0] if told_us else self.report
        now_open = {row[0]: _run(row) for row in run(f"SELECT {RUN} FROM run WHERE state = 'running'")}
        gone = [name for name in self.open if name not in now_open]
        ended = [_run(row) for name in gone for row in run(f"SELECT {RUN} FROM run WHERE id = ?", (name,))]
        started = [row for name, row in now_open.items() if name not in self.open]
        setup = self._setup(plan) if plan is not self.plan and plan.chains else None
        self.plan, self.open = plan, now_open
        self.event = events[-1].seq if events else self.event
        self.entry = entries[-1][0] if entries else self.entry
        self.notice = notices[-1][0] if notices else self.notice
        found = [Entry(*row[1:7], row[7:]) for row in entries]
        told = [Told(kind, chain, json.loads(data), event) for _, kind, chain, data, event in notices]
        outside = [Outside(*row[1:]) for row in told_us]
        now, at = self.clock.now_ms(), elapsed()
        commit = Commit(now, at, events, found, told, started, ended, setup, outside, self.shaky())
        for ev in events:
            text = f"{ev.chain} {ev.kind} {ev.tier} {ev.task or ''} {ev.failure or ''} active={ev.active}"
            until = f" {ev.hold['target']} {ev.hold['kind']} until {ev.hold['until_ms']}" if ev.hold else ""
            self.trace.tell("event", text + until)
        for row in ended:
            self.trace.tell("ledger", f"{row.id} ended {row.state} {row.failure} next={row.next} {row.tokens}")
        for each in told:
            self.trace.tell(
                "notice", f"{each.kind} {each.chain} {each.data.get('budget') or each.data.get('reason_code') or ''}"
            )
        self.judge(commit, database)

    def _setup(self, plan: Any) -> Setup | None:
        """Which content of service.json this plan stands for: one that was written."""
        for setup in reversed(self.history):
            if _same(setup, plan):
                return setup
        self.broken("config", "the plan in force is none that was ever written")
        return None


def _run(row: Any) -> RunRow:
    return RunRow(*row[:12], row[12:16], row[16])


def _same(setup: Setup, plan: Any) -> bool:
    """Whether a plan says what this file says."""
    if list(plan.chains) != list(setup.chains):
        return False
    for name, chain in setup.chains.items():
        mine = [(t.name, t.agent, t.account, t.model) for t in map(setup.tiers.__getitem__, chain.tiers)]
        if mine != [(t.name, t.agent, t.account, t.model) for t in plan.chains[name].tiers]:
            return False
        acting = {kind for kind in ALL_TRIGGERS if chain.acts_on(kind)}
        if acting != {str(kind) for kind in plan.chains[name].triggers} & set(ALL_TRIGGERS):
            return False
    mine = sorted((each.id, each.limit, each.acts) for each in setup.budgets())
    told = sorted((each.id, each.limit, each.acts) for each in plan.budgets)
    limits = (setup.limits["attempts"], setup.limits.get("task_tokens"))
    return mine == told and limits == (plan.attempts, plan.task_tokens)
