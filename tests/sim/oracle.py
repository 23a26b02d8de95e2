"""All oracles together: what each commit must obey, what must hold at rest, and what must add up in the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from locum.store.sqlite import Database
from tests.sim.agents import NOTHING, Counts, SimProcesses, plus
from tests.sim.budgets import Budgets
from tests.sim.chains import Chains, Orders
from tests.sim.clock import SimClock, elapsed
from tests.sim.daemon import Daemon
from tests.sim.law import RULES, Law, Wanted
from tests.sim.tasks import Tasks
from tests.sim.witness import Commit, Outside, RunRow

TASK = "id, chain, cwd, state, reason_code, no_wait, shared_cwd, not_before_ms, cancel_asked"
NO_RUN = (None, 0, NOTHING, 0)
PATIENCE = 75.0
"""Virtual seconds after which what is due must have happened: two of the daemon's longest sleeps and some more."""


@dataclass(frozen=True)
class Told:
    """One message that somebody's session has written down: what it spent, and when by the host's clock."""

    session: str
    account: str
    home: Path
    at_ms: int
    counts: Counts


@dataclass
class Oracle:
    """Judges every commit."""

    law: Law
    clock: SimClock
    processes: SimProcesses
    daemon: Daemon
    broken: Callable[[str, str], None]
    orders: Orders = field(default_factory=Orders)
    cancelled: set[str] = field(default_factory=set)
    outside_failures: dict[str, str] = field(default_factory=dict)  # by report: what has really happened
    stepped: float = -1000.0  # when somebody set the clock
    rejections: int = 0  # how often a bad file was told
    _starts: int = 0
    _limit: tuple[int, int, float] = (0, 0, 0.0)  # limits.parallel now, before, and since when
    _logins: dict[str, tuple[float, Any]] = field(default_factory=dict)
    _since: dict[str, float] = field(default_factory=dict)  # by task: since when it might have been started

    def __post_init__(self) -> None:
        self.budgets = Budgets(self.law, self.clock, self.broken)
        self.chains = Chains(self.law, self.orders, self.broken, self.guard, self.budgets.event)
        self.tasks = Tasks(
            self.law, self.processes.truths, self.broken, self._may_stop, self._parallel, freed=self.chains.freed
        )
        self.budgets.plan(self.law.setup)

    def guard(self, tier: str) -> tuple[Any, ...]:
        """A tier's configuration in force, and its login as it is now."""
        setup = self.law.setup.tiers.get(tier)
        if setup is None:
            return ("gone",)
        login = self.processes.accounts[setup.account].login if setup.agent == "claude-code" else ""
        return (*setup.guard, login)

    def _may_stop(self, row: RunRow) -> bool:
        """Whether people wanted its end: the daemon was told to stop while it ran, or its task was cancelled."""
        return self.daemon.stopping or row.id in self.daemon.asked or row.task in self.cancelled

    def _parallel(self, _chain: str) -> int:
        """`limits.parallel`; in the very moment of an edit, the old one may still count."""
        boss = self.daemon.boss
        if boss is None:
            return 1000
        limit = boss.loaded.service.limits.parallel
        if limit != self._limit[0]:
            self._limit = (limit, self._limit[0], elapsed())
        return max(self._limit[:2]) if self._limit[2] == elapsed() else limit

    # ── each commit ──────────────────────────────────────────────────────────────────────────────────────

    def judge(self, commit: Commit, database: Database[Any]) -> None:
        """What one commit has changed."""
        if commit.setup is not None:
            self.law.setup = commit.setup
            self.budgets.plan(commit.setup)
        self.rejections += sum(each.kind == "config_rejected" for each in commit.notices)
        self.tasks.settle_claims(commit)
        self.budgets.prepare(commit)
        self.chains.set_back(commit)
        failed = None
        for row in commit.ended:
            failed = self.tasks.end(row, commit)
            self.chains.success = row if row.state == "succeeded" else None
        for report in commit.reports:
            failed = self._outside(report, commit)
        self.chains.read(commit, failed)
        self.budgets.conclude(commit)
        for row in commit.ended:
            self.tasks.after(row, failed[2] if failed else None, _task_of(database, row.task), commit)
        for row in commit.started:
            self.tasks.start(row, commit, shared=bool(_task_of(database, row.task)["shared_cwd"]))
        for told in commit.notices:
            if told.kind == "task_failed":
                self._given_up(_task_of(database, told.data["task"]), commit)
        self._last_failures(database)

    def _outside(self, report: Outside, commit: Commit) -> tuple[RunRow, str, Wanted] | None:
        """What the end of somebody's turn must lead to: it is judged as a run is, and never tried again in place."""
        if report.chain is None or report.tier is None:
            return None
        kind = self.outside_failures.get(report.id)
        if report.failure != kind:
            self.broken("end", f"{report} has really failed with {kind}")
        tier, task = self.law.setup.tiers[report.tier], f"claude-code:{report.session}"
        row = RunRow("", task, report.chain, tier.name, tier.account, tier.model, "", tier.agent, "", kind, *NO_RUN)
        self.chains.success = row if kind is None else None
        at = next((ev.at for ev in commit.events if ev.failure and ev.task == task), commit.now)
        return (row, kind, self.law.answer(report.chain, tier, task, kind, None, 99, at)) if kind else None

    def _last_failures(self, database: Database[Any]) -> None:
        """What a chain shows as its last failure is the last it has heard of."""
        for name, state in database.memory.board.chains.items():
            shown = (state.last_failure_kind, state.last_failure_at_ms, state.last_failure_tier)
            if shown != self.law.last.get(name, (None, None, None)):
                self.broken("last_failure", f"{name} shows {shown}, and heard of {self.law.last.get(name)}")

    def _given_up(self, task: dict[str, Any], commit: Commit) -> None:
        """A task fails once, and without a run only for a reason."""
        if task["id"] in self.tasks.failed_tasks:
            self.broken("notice", f"{task['id']} has failed twice")
        self.tasks.failed_tasks.add(task["id"])
        if commit.ended:
            return
        law, chain = self.law, task["chain"]
        avoided = self.tasks.of(task["id"]).avoided
        gone = chain not in law.setup.chains
        tiers = [] if gone else [tier for tier in law.tiers(chain) if tier.name not in avoided]
        lawful = {
            "no_chain": gone,
            "no_cwd": not Path(task["cwd"]).is_dir(),
            "every_tier": not gone and not tiers,
            "no_tier": bool(task["no_wait"]) and all(law.held(chain, tier, commit.now) for tier in tiers),
        }
        if not lawful.get(task["reason_code"]):
            self.broken("task", f"{task['id']} is given up without a reason: {task}")

    def is_cancelled(self, task: str, state: str, *, asked: bool) -> None:
        """What was cancelled has ended, or ends with the run that is being stopped."""
        self.tasks.cancelled.add(task)
        if state != "cancelled" and not (state == "running" and asked):
            self.broken("task", f"{task} was cancelled, and is {state}")

    def is_released(self, chain: str, tier: str | None, kind: str | None) -> None:
        """What the operator has released holds no more."""
        law = self.law
        for each in law.tiers(chain) if chain in law.setup.chains else ():
            left = [hold for hold in law.held(chain, each, self.clock.now_ms()) if kind in (None, hold.kind)]
            if tier in (None, each.name) and left:
                self.broken("operator", f"{left} were released")

    # ── at rest ──────────────────────────────────────────────────────────────────────────────────────────

    async def look_around(self) -> None:
        """What is due must have happened, when the daemon has had time and a disk."""
        boss = self.daemon.boss
        if boss is None or self.daemon.steady_for < PATIENCE:
            self._logins.clear()
            self._since.clear()
            return
        now, at = self.clock.now_ms(), elapsed()
        for key, hold in self.law.holds.items():
            if hold.until is not None and hold.until < now - PATIENCE * 1000 and self._ticks():
                self.broken("return", f"{key} has not returned: {hold}")
            if RULES[hold.kind].guarded and self.guard(hold.tier) not in (hold.guard, ("gone",)):
                since, guard = self._logins.setdefault(f"{key}", (at, self.guard(hold.tier)))
                if guard == self.guard(hold.tier) and at - since > PATIENCE:
                    self.broken("login", f"{hold} stands, and its login changed {at - since:.0f} s ago")
            else:
                self._logins.pop(f"{key}", None)
        await self._nobody_is_forgotten(at, now)

    def _ticks(self) -> bool:
        """Whether the clock has only ticked since the daemon has last looked."""
        return elapsed() - self.stepped > PATIENCE

    async def _nobody_is_forgotten(self, at: float, now: int) -> None:
        boss = self.daemon.boss
        assert boss is not None
        connection = boss.ledger._database._tx.connection
        waiting = [_task(row) for row in connection.execute(f"SELECT {TASK} FROM task WHERE state = 'queued'")]
        startable = {task["id"] for task in waiting if self._could_start(task, now)}
        self._since = {task: self._since.get(task, at) for task in startable}
        for task in waiting:
            since = self._since.get(task["id"], at)
            quiet = self.tasks.ended_at.get(task["chain"], -1.0) < since and self.tasks.starts == self._starts
            if at - since > PATIENCE and quiet and self._ticks():
                self.broken("forgotten", f"{task} could have been started {at - since:.0f} s ago")
        self._starts = self.tasks.starts

    def _could_start(self, task: dict[str, Any], now: int) -> bool:
        law, tasks, chain = self.law, self.tasks, task["chain"]
        if chain not in law.setup.chains or chain in law.paused or task["not_before_ms"] > now:
            return False
        running = [row for row in tasks.open.values() if row.chain == chain]
        if len(running) >= self._parallel(chain):
            return False
        if not task["shared_cwd"] and any(row.cwd == task["cwd"] for row in tasks.open.values()):
            return False
        avoided = tasks.of(task["id"]).avoided
        return any(
            tier.name not in avoided and not law.held(chain, tier, now) and not tasks._busy(chain, tier, now)
            for tier in law.tiers(chain)
        )

    # ── in the end ───────────────────────────────────────────────────────────────────────────────────────

    def add_up(self, database: Database[Any]) -> None:
        """sum(ledger) == what the agents spent: by run, task, tier, chain and account."""
        run = database._tx.connection.execute
        for column in ("run", "task", "tier", "chain", "account"):
            truth: dict[str, tuple[int, int, int, int]] = {}
            for each in self.processes.truths.values():
                name = getattr(each, column)
                truth[name] = plus(truth.get(name, NOTHING), each.tokens)
            sums = (
                f"SELECT {column}, SUM(input), SUM(output), SUM(cache_read), SUM(cache_write)"
                " FROM entry WHERE run IS NOT NULL GROUP BY 1"
            )
            kept = {row[0]: row[1:] for row in run(sums)}
            for name in truth.keys() | kept.keys():
                if truth.get(name, NOTHING) != kept.get(name, NOTHING):
                    self.broken("books", f"{column} {name}: {kept.get(name)} in the ledger, {truth.get(name)} spent")

    def add_up_outside(
        self, database: Database[Any], spent: dict[tuple[str, str], Counts], unheard: Sequence[Told]
    ) -> None:
        """What sessions (with their account) of others have spent is counted once, each message in one place.

        Whose account has no tier any more, its transcript is none that the daemon would read: it may lack something.
        Of sessions without hooks all that is dated after their home was seen first counts.
        """
        spent = {**spent, **self._unheard(database, unheard)}
        sums = (
            "SELECT session, SUM(input), SUM(output), SUM(cache_read), SUM(cache_write)"
            " FROM entry WHERE run IS NULL GROUP BY 1"
        )
        kept = {row[0]: row[1:] for row in database._tx.connection.execute(sums) if any(row[1:])}
        homes = {tier.account for tier in self.law.setup.tiers.values() if tier.agent == "claude-code"}
        for (name, account), counts in spent.items():
            found = kept.pop(name, NOTHING)
            if found != counts and (account in homes or any(a > b for a, b in zip(found, counts, strict=True))):
                self.broken("books", f"session {name}: {found} in the ledger, {counts} spent")
        if kept:
            self.broken("books", f"nobody has such sessions: {kept}")

    def _unheard(self, database: Database[Any], told: Sequence[Told]) -> dict[tuple[str, str], Counts]:
        since = dict(database._tx.connection.execute("SELECT folder, since_ms FROM source"))
        spent: dict[tuple[str, str], Counts] = {}
        for each in told:
            if each.at_ms >= since.get(os.path.realpath(each.home), each.at_ms + 1):
                name = each.session, each.account
                spent[name] = plus(spent.get(name, NOTHING), each.counts)
        return spent

    async def audit(self) -> None:
        """The product's own audit finds nothing."""
        if self.daemon.boss and self.daemon.boss.ledger:
            report = await self.daemon.boss.ledger.audit()
            if report.problems:
                self.broken("audit", "; ".join(report.problems))


def _task_of(database: Database[Any], task: str) -> dict[str, Any]:
    return _task(next(database._tx.connection.execute(f"SELECT {TASK} FROM task WHERE id = ?", (task,))))


def _task(row: Any) -> dict[str, Any]:
    return dict(zip(TASK.split(", "), row, strict=True))
