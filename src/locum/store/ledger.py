"""The ledger: what agents have spent and what became of their tasks, each change one durable transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, cast

from locum.errors import NotFoundError, NoTierError
from locum.policy import chain as policy
from locum.policy.board import Board, Event, EventKind
from locum.policy.budget import Reading
from locum.policy.chain import Step
from locum.policy.failure import Failure, FailureKind
from locum.policy.notice import Notice, config_rejected
from locum.policy.plan import Chain, Meter, Plan, Tier
from locum.policy.report import Report
from locum.policy.task import Ending, Run, Task, TaskState
from locum.policy.usage import Payer, Tokens, Usage
from locum.policy.vendor import VendorWindow
from locum.store import (
    audit,
    brakes,
    bulk,
    endings,
    log,
    notices,
    outbox,
    readings,
    reports,
    tally,
    tasks,
    transcripts,
    vendor,
)
from locum.store.codec import Memory, Write
from locum.store.guard import Guard, nothing
from locum.store.outbox import Outbox
from locum.store.post_task import PostTasks
from locum.store.spent import Spent
from locum.store.sqlite import Database, Sql
from locum.store.transcripts import Transcripts
from locum.store.views import AuditReport, Recorded, Reported, ReportView, UsageView, VendorView
from locum.store.worker import ThreadWorker, Worker

T = TypeVar("T")


class Ledger:
    """Everything the daemon must not forget. Every method that changes something is one transaction.

    Times are epoch milliseconds. All methods raise `StateError` when the disk fails; what they should have
    written is then not there, and everything is as before.
    """

    def __init__(self, database: Database[Memory]) -> None:
        self._database = database
        self.outbox = Outbox(database)
        self.post_tasks = PostTasks(database)
        self.transcripts = Transcripts(database)
        self.spent = Spent(database)
        self.commits = database.commits  # until there is one more, what was read is so

    @classmethod
    async def open(cls, path: Path, plan: Plan, now_ms: int, worker: Worker | None = None, *, mark: str = "") -> Ledger:
        """Open the ledger in `path`, made if it is not there, and take over `plan` as `replan` does.

        `mark` is a random text that tells it from every other ledger, if it is new.

        Raises `StateError` for a file that is damaged, no ledger, or made by a newer locum.
        """
        # No plan is in force before its budgets have been looked at.
        database = Database(path, worker or ThreadWorker(), Memory(Board(), Plan({})))
        ledger = cls(database)
        try:
            await database.write(lambda tx: _load(tx, mark))
            await ledger.replan(plan, now_ms)
        except BaseException:
            await database.close()
            raise
        return ledger

    async def close(self) -> None:
        """Finish what was asked for, then close the file."""
        await self._database.close()

    @property
    def board(self) -> Board:
        """The state of all chains, as committed."""
        return self._database.memory.board

    @property
    def plan(self) -> Plan:
        """The configuration in force."""
        return self._database.memory.plan

    # Tasks and runs

    async def submit(self, task: Task, prompt: bytes) -> None:
        """Take in a queued task. Raises `ConflictError` when its id is taken."""
        await self._write(lambda tx: tasks.submit(tx, task, prompt))

    async def prompt(self, task_id: str) -> bytes:
        """The prompt of a task. Raises `NotFoundError`, also when it was deleted after its time."""
        return await self._read(lambda sql: tasks.prompt(sql, task_id))

    async def task(self, task_id: str) -> Task:
        """A task by its id or the first four or more characters of it. Raises `NotFoundError`."""
        return await self._read(lambda sql: tasks.find(sql, task_id))

    async def tasks(
        self,
        *,
        chain: str | None = None,
        states: Collection[TaskState] | None = None,
        limit: int = 100,
        before: str | None = None,
    ) -> list[Task]:
        """The newest tasks first; `before` is a task's id: only those submitted ahead of it."""
        return await self._read(lambda sql: tasks.listed(sql, chain, states, limit, before))

    async def queue(self) -> list[Task]:
        """The tasks that wait or run, oldest first."""
        return await self._read(tasks.queue)

    async def open_counts(self) -> dict[tuple[str, TaskState], int]:
        """How many tasks wait or run, by chain and state; what there is none of is left out."""
        return await self._read(tasks.open_counts)

    async def run(self, run_id: str) -> Run:
        """One run. Raises `NotFoundError`."""
        return await self._read(lambda sql: tasks.run(sql, run_id))

    async def runs(self, task_id: str) -> list[Run]:
        """The runs of a task, first to last."""
        return await self._read(lambda sql: tasks.runs(sql, task_id))

    async def open_runs(self) -> list[Run]:
        """The runs that have not ended, oldest first."""
        return await self._read(tasks.open_runs)

    async def start_run(self, run: Run, now_ms: int) -> None:
        """Begin an attempt at a queued task. Raises `ConflictError` when it waits for none, or its tier may not run."""
        await self._write(lambda tx: tasks.start(tx, run, now_ms))

    async def forget_run(self, run_id: str, now_ms: int) -> Task:
        """A run whose process never started: its task waits again, and nobody is to blame. Returns the task."""
        return await self._write(lambda tx: tasks.forget(tx, run_id, now_ms))

    async def saw_session(self, run_id: str, session: str, now_ms: int) -> None:
        """Keep the agent's session of a run; what was counted of it before that was known becomes the run's."""

        def script(tx: Write) -> None:
            if tx.run("save_session", id=run_id, session=session):
                transcripts.claim(tx, tasks.run(tx, run_id), session, now_ms)

        await self._write(script)

    async def ask_stop(self, run_id: str) -> None:
        """Keep that a run is to stop, before its agent hears of it: whoever reads its end knows that it was told to."""
        await self._write(lambda tx: tx.run("ask_stop", id=run_id))

    async def booted(self, boot: str) -> bool:
        """Keep which start of the host this is; True when it is another than that of the last daemon.

        The runs in progress have then ended with the host, which counts as a stop: their tasks are tried again.
        """
        return await self._write(lambda tx: tasks.booted(tx, boot))

    async def stop_asked(self, run_id: str) -> bool:
        """Whether a run is to stop: `ask_stop` or `booted` said so, or its task was cancelled."""
        return await self._read(lambda sql: tasks.stop_asked(sql, run_id))

    async def end_run(
        self, run_id: str, ending: Ending, verdict: Failure | None, now_ms: int, jitter: float = 0.0
    ) -> Step | None:
        """Close a run, move its chain if it failed, and send its task on. Returns the answer to a failure.

        None without a failure, or when the chain is not configured any more (the task has then failed).
        Raises `NotFoundError`, or `ConflictError` when the run has ended already.
        """
        return await self._write(lambda tx: endings.end(tx, run_id, ending, verdict, now_ms, jitter))

    async def cancel(self, task_id: str, now_ms: int) -> Task:
        """End a waiting task at once, ask a running one to stop. Raises `NotFoundError`, `ConflictError`."""
        return await self._write(lambda tx: tasks.cancel(tx, task_id, now_ms))

    async def give_up(self, task_id: str, reason: str, reason_code: str, now_ms: int) -> Task:
        """End a waiting task failed. Raises `NotFoundError`, or `ConflictError` when it runs or has ended."""
        return await self._write(lambda tx: tasks.give_up(tx, task_id, reason, reason_code, now_ms))

    async def prune(self, older_than_ms: int) -> int:
        """Delete the prompts of tasks that ended before that moment; returns how many. Usage is never deleted."""
        return await self._write(lambda tx: tx.run("prune_prompts", before_ms=older_than_ms))

    # Usage and budgets

    async def record(self, run_id: str, usages: Sequence[Usage], now_ms: int) -> Recorded:
        """Add what is new in these observations, and fire the budgets they use up. Raises `NotFoundError`."""

        def script(tx: Write) -> Recorded:
            run = tasks.run(tx, run_id)
            settled = brakes.settle(tx, now_ms)
            added = tally.add(tx, run.payer, usages, now_ms)
            return Recorded(added, settled + (brakes.check(tx, run.chain, run.tier, now_ms) if added else ()))

        return await self._write(script)

    async def record_outside(self, payer: Payer, usages: Sequence[Usage], now_ms: int) -> Recorded:
        """As `record`, for a session that is not ours; what a run in progress spends in it is left to that run."""
        return await self._write(lambda tx: transcripts.record(tx, [(payer, usages)], now_ms))

    async def record_history(self, shares: Sequence[transcripts.Share], now_ms: int) -> list[Tokens]:
        """Count parts of transcripts and keep how far they were read, all or nothing; returns what was new in each.

        No budget acts and no block begins before `look_back`.
        """
        return await self._write(lambda tx: bulk.record(tx, shares, now_ms))

    async def look_back(self, payers: Iterable[Payer], now_ms: int) -> tuple[Event, ...]:
        """Find out what is used up by now, with all that `record_history` has counted for these."""
        return await self._write(lambda tx: brakes.look_back(tx, payers, now_ms))

    async def session_owner(self, session: str, ended_ms: int | None = None) -> str | None:
        """The run that a session belongs to: one in progress, or one that ended at that moment or later; else None."""
        return await self._read(lambda sql: reports.owner(sql, session, ended_ms))

    async def report(self, report: Report, now_ms: int, jitter: float = 0.0) -> Reported:
        """Take in what an outside runner tells of a piece of work: its usage, and what its end means for its chain."""
        return await self._write(lambda tx: reports.tell(tx, report, now_ms, jitter))

    async def reports(self, after: int = 0, limit: int = 100) -> list[tuple[int, ReportView]]:
        """The reports behind row `after`, oldest first, each with its row."""
        return await self._read(lambda sql: reports.listed(sql, after, limit))

    async def usage(self, scope: str, now_ms: int) -> UsageView:
        """What `chain:NAME`, `tier:NAME`, `account:NAME`, `unattributed` or `total` has used in its window.

        Raises `NotFoundError` for any other scope.
        """
        return (await self.usages([scope], now_ms))[0]

    async def usages(self, scopes: Sequence[str], now_ms: int) -> list[UsageView]:
        """As `usage`, of several scopes at one moment."""
        meters = [(scope, self.plan.meters.get(scope, Meter())) for scope in scopes]
        return await self._read(lambda sql: [tally.view(sql, scope, meter, now_ms) for scope, meter in meters])

    async def readings(self, now_ms: int) -> list[Reading]:
        """How full every budget is."""
        budgets = self.plan.budgets
        return await self._read(lambda sql: [readings.read(sql, budget, now_ms) for budget in budgets])

    async def saw_vendor(self, readings: Sequence[VendorWindow]) -> None:
        """Keep what vendors have said of their windows; of each window the latest counts."""
        await self._write(lambda tx: vendor.save(tx, readings))

    async def vendor_windows(self, accounts: Iterable[str], now_ms: int) -> dict[str, list[VendorView]]:
        """What vendors last said of each window of these accounts; empty where they never said anything."""
        return await self._read(lambda sql: {each: vendor.windows(sql, each, now_ms) for each in accounts})

    async def run_tokens(self, run_id: str) -> Tokens:
        """What a run has spent so far."""
        return await self._read(lambda sql: tally.run_tokens(sql, run_id))

    async def task_tokens(self, task_id: str) -> Tokens:
        """What all runs of a task have spent so far."""
        return await self._read(lambda sql: tally.task_tokens(sql, task_id))

    # Chains

    async def settle(self, now_ms: int) -> tuple[Event, ...]:
        """Write what the clock, a new login or a changed tier has ended since; nothing when nothing is due."""
        if not policy.settle(self.board, self.plan, now_ms):
            return ()

        return await self._write(lambda tx: brakes.settle(tx, now_ms))

    def next_due_ms(self) -> int | None:
        """The earliest end of a hold; None when none ends by itself."""
        return min((hold.until_ms for hold in self.board.holds.values() if hold.until_ms is not None), default=None)

    async def bump(
        self, chain: str, tier: str | None, until_ms: int | None, reason: str, now_ms: int, guard: Guard = nothing
    ) -> Step:
        """The operator takes a tier (None: the active one) off a chain, until released or for a time.

        Raises `NotFoundError`, or `NoTierError` when no tier is active.
        """

        def script(tx: Write) -> Step:
            found = _chain(tx, chain)
            board, plan = tx.memory.board, tx.memory.plan
            guard(board)
            chosen = _tier(found, tier) if tier else policy.pick(board, found, now_ms)
            if chosen is None:
                raise NoTierError(f"every tier of {chain} is held", remedy="See `locum status`")
            failure = Failure(FailureKind.OPERATOR, reason, rule="operator", reset_ms=until_ms)
            step = policy.bump(board, plan, found, chosen, failure, now_ms)
            log.emit(tx, step.events)
            return step

        return await self._write(script)

    async def release(
        self, chain: str, tier: str | None, kind: FailureKind | None, now_ms: int, guard: Guard = nothing
    ) -> tuple[Event, ...]:
        """Lift the holds of one tier (None: of all of the chain), of one kind (None: all). Raises `NotFoundError`."""

        def script(tx: Write) -> tuple[Event, ...]:
            found = _chain(tx, chain)
            chosen = _tier(found, tier) if tier else None
            board, plan = tx.memory.board, tx.memory.plan
            guard(board)
            return log.emit(tx, policy.release(board, plan, found, now_ms, tier=chosen, kind=kind))

        return await self._write(script)

    async def pause(self, chain: str, now_ms: int, guard: Guard = nothing) -> tuple[Event, ...]:
        """Start nothing more on a chain; nothing is written when it is paused already. Raises `NotFoundError`."""
        return await self._write(lambda tx: _switch(tx, chain, EventKind.PAUSED, now_ms, guard))

    async def resume(self, chain: str, now_ms: int, guard: Guard = nothing) -> tuple[Event, ...]:
        """Go on with a paused chain; nothing is written when it is not paused. Raises `NotFoundError`."""
        return await self._write(lambda tx: _switch(tx, chain, EventKind.RESUMED, now_ms, guard))

    async def replan(self, plan: Plan, now_ms: int) -> tuple[Event, ...]:
        """Take over a configuration: budgets with room again let go, budgets newly used up fire."""

        def script(tx: Write) -> tuple[Event, ...]:
            outbox.take_over(tx, plan, now_ms)
            return brakes.replan(tx, plan, now_ms)

        return await self._write(script)

    async def events(self, after: int = 0, limit: int = 500, chain: str | None = None) -> list[tuple[int, Event]]:
        """The log behind row `after`, oldest first, each event with its row."""
        return await self._read(lambda sql: log.events_after(sql, after, limit, chain))

    async def last_event_before(self, at_ms: int) -> int:
        """The last row of the log that was written before that moment, 0 when there is none."""
        return await self._read(lambda sql: (sql.one("last_event_before", at_ms=at_ms) or (0,))[0])

    async def notices(self, after: int = 0, limit: int = 100) -> list[tuple[int, Notice]]:
        """The notices behind row `after`, oldest first, each with its row."""
        return await self._read(lambda sql: notices.notices_after(sql, after, limit))

    async def notice(self, name: str) -> tuple[int, Notice]:
        """One notice by its name (`msg_...`), with its row. Raises `NotFoundError`."""
        return await self._read(lambda sql: notices.find(sql, name))

    async def latest(self, chain: str, limit: int) -> tuple[list[tuple[int, Event]], list[tuple[int, Notice]]]:
        """The newest events of a chain and notices that concern it, newest first, each with its row."""
        return await self._read(lambda sql: (log.latest(sql, chain, limit), notices.latest(sql, chain, limit)))

    async def ends(self) -> tuple[int, int]:
        """The last row of the log, and of the notices; 0 where there is none."""
        return await self._read(lambda sql: cast("tuple[int, int]", sql.one("ends")))

    async def reject_config(self, text: str, now_ms: int) -> None:
        """Tell that an edit was not taken over; `text` names file, line and remedy."""
        await self._write(lambda tx: notices.add(tx, config_rejected(text, now_ms)))

    async def audit(self) -> AuditReport:
        """Add everything up again and compare."""
        return await self._read(audit.audit)

    async def _write(self, script: Callable[[Write], T]) -> T:
        return await self._database.write(script)

    async def _read(self, script: Callable[[Sql], T]) -> T:
        return await self._database.read(script)


def _load(tx: Write, mark: str) -> None:
    tx.memory = replace(tx.memory, board=log.load(tx), told=outbox.last(tx))
    notices.identify(tx, mark)


def _chain(tx: Write, name: str) -> Chain:
    chain = tx.memory.plan.chains.get(name)
    if chain is None:
        raise NotFoundError(f"no chain {name!r}", remedy=f"There are: {', '.join(tx.memory.plan.chains)}")
    return chain


def _tier(chain: Chain, name: str) -> Tier:
    tier = chain.tier(name)
    if tier is None:
        names = ", ".join(tier.name for tier in chain.tiers)
        raise NotFoundError(f"no tier {name!r} in {chain.name}", remedy=f"There are: {names}")
    return tier


def _switch(tx: Write, chain: str, kind: EventKind, now_ms: int, guard: Guard) -> tuple[Event, ...]:
    found = _chain(tx, chain)
    guard(tx.memory.board)
    if tx.memory.board.chain(found.name).paused is (kind is EventKind.PAUSED):
        return ()
    return log.emit(tx, (Event(kind, found.name, now_ms),))
