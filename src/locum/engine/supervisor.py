"""Keeps every queued task moving: picks tiers, starts runs, adopts them, waits, and comes back."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import structlog
from anyio.abc import TaskGroup

from locum.agents.base import Agent
from locum.clock import Clock
from locum.config.load import Loaded
from locum.config.problem import Problem
from locum.config.reload import Applied, Rejected, Reloader, Unchanged
from locum.config.watch import Changes, watch
from locum.engine.attempts import STATE_PAUSE, Attempts
from locum.engine.bell import Bell
from locum.engine.events import Events, listen
from locum.engine.follow import follow
from locum.engine.history import History
from locum.engine.intake import Intake
from locum.engine.launch import free_bytes, resumed
from locum.engine.outbox import Outbox
from locum.engine.post_task import PostTasks
from locum.engine.process import Processes
from locum.engine.redact import Redactor
from locum.engine.retire import retire
from locum.engine.seats import Seats
from locum.engine.sources import Sources
from locum.engine.spool import Spool
from locum.errors import ConflictError, NotFoundError, StateError
from locum.policy.board import Event
from locum.policy.chain import Step, free_at_ms, pick
from locum.policy.failure import ANSWERS, FailureKind
from locum.policy.plan import Chain, Target
from locum.policy.report import Report
from locum.policy.task import Run, RunState, Task, TaskState, avoided
from locum.store.guard import Guard, nothing
from locum.store.ledger import Ledger
from locum.store.views import Reported
from locum.store.worker import ThreadWorker, Worker

log = structlog.get_logger(__name__)

LONGEST_SLEEP = 30.0
"""Seconds after which the wall clock is read again whatever is due: a suspended host wakes up late."""
LONGEST_RETRY_MS = 60_000
"""The longest wait in place: one that seems longer was set by a clock that has been set back since."""


@dataclass
class Supervisor:
    """The running service. `state` is the folder of runs and ledger; `environ` the daemon's environment.

    `changes` says when service.json may have changed: at first, and after each save until it is told to stop;
    `events` which files may have changed in folders.
    """

    ledger: Ledger
    reloader: Reloader
    agents_for: Callable[[Loaded], Mapping[str, Agent]]
    clock: Clock
    processes: Processes
    state: Path
    environ: Mapping[str, str]
    worker: Worker = field(default_factory=ThreadWorker)
    changes: Changes = watch
    events: Events = listen
    low_disk: bool = False
    stopping: anyio.Event = field(default_factory=anyio.Event)
    bell: Bell = field(default_factory=Bell)
    _retry_at_ms: int | None = None
    _unplanned: bool = False  # the ledger has yet to take over the configuration in use
    _untold: str = ""  # why the file was rejected, until that is on record

    def __post_init__(self) -> None:
        """Take what the loaded configuration says."""
        self.started_ms = self.clock.now_ms()
        self.attempts = Attempts(
            self.ledger, self._seats(), self.clock, self.processes, self.worker, self.state, self.bell, self.stopping
        )
        self.intake = Intake(
            self.ledger, self.clock, lambda: self.attempts.seats, self.redactor, self.bell, self.stopping
        )
        self.sources = Sources(
            self.ledger,
            self.clock,
            lambda: self.attempts.seats,
            self.redactor,
            self.intake.place_of,
            self.bell,
            self.stopping,
            self.worker,
            self.events,
        )
        self.history = History(self.sources, self.environ)
        self.post_tasks = PostTasks(self)
        self.outbox = Outbox(self)

    @property
    def loaded(self) -> Loaded:
        """The last good configuration."""
        return self.reloader.loaded

    @property
    def rejected(self) -> tuple[Problem, ...]:
        """What is wrong with the file as it is now, while the last good configuration is in use."""
        return self.reloader.rejected.problems if self.reloader.rejected else ()

    # ── what people ask for ──────────────────────────────────────────────────────────────────────────────

    async def submit(
        self,
        chain: str,
        prompt: bytes,
        cwd: str,
        *,
        title: str = "",
        no_wait: bool = False,
        shared_cwd: bool = False,
    ) -> Task:
        """Queue a task; durable when this returns. Raises NotFoundError for a chain or a folder that is not there."""
        self._chain(chain)
        folder = Path(cwd)
        if not folder.is_dir():
            raise NotFoundError(f"the working directory {cwd} does not exist", remedy="Name one with --cwd.")
        task = Task(
            id=self._new_id("t"),
            chain=chain,
            cwd=str(folder.resolve()),
            state=TaskState.QUEUED,
            created_ms=self.clock.now_ms(),
            title=title or _title(prompt),
            no_wait=no_wait,
            shared_cwd=shared_cwd,
        )
        await self.ledger.submit(task, prompt)
        self.bell.ring()
        return task

    async def cancel(self, task_id: str) -> Task:
        """End a task: at once while it waits, through its running agent else.

        Raises:
            NotFoundError: there is no such task.
            ConflictError: it has ended already.

        """
        task = await self.ledger.cancel(task_id, self.clock.now_ms())
        self.attempts.stop(task.id)
        self.bell.ring()
        return task

    async def bump(
        self, chain: str, tier: str | None, until_ms: int | None, reason: str, guard: Guard = nothing
    ) -> Step:
        """Take `chain` off `tier` (None: the active one) until released, or until then; unless `guard` objects."""
        step = await self.ledger.bump(chain, tier, until_ms, reason, self.clock.now_ms(), guard)
        self.bell.ring()
        return step

    async def release(
        self, chain: str, tier: str | None, kind: FailureKind | None, guard: Guard = nothing
    ) -> tuple[Event, ...]:
        """Lift the holds of a tier, or of all tiers of `chain`."""
        events = await self.ledger.release(chain, tier, kind, self.clock.now_ms(), guard)
        self.bell.ring()
        return events

    async def report(self, report: Report) -> Reported:
        """Take in what a runner that is not ours tells of a piece of work."""
        found = await self.ledger.report(report, self.clock.now_ms(), self.clock.fraction())
        self.bell.ring()
        return found

    async def pause(self, chain: str, guard: Guard = nothing) -> None:
        """Start no more runs in `chain`; those in progress finish."""
        await self.ledger.pause(chain, self.clock.now_ms(), guard)
        self.bell.ring()

    async def resume(self, chain: str, guard: Guard = nothing) -> None:
        """Start runs in `chain` again."""
        await self.ledger.resume(chain, self.clock.now_ms(), guard)
        self.bell.ring()

    def busy(self) -> frozenset[Target]:
        """The targets of every tier that has a run in progress."""
        return self.attempts.busy()

    def running(self) -> Mapping[str, int]:
        """The process group of every run in progress, by run."""
        return self.attempts.pids

    def follow(self, task_id: str, *, from_start: bool = True) -> AsyncGenerator[dict[str, Any], None]:
        """Everything that happens to a task, as it happens, until it has ended."""
        return follow(self, task_id, from_start=from_start)

    def redactor(self) -> Redactor:
        """Takes the secrets of the configuration out of what is shown."""
        return self.attempts.redactor()

    def spool(self, run_id: str) -> Spool:
        """The folder of a run."""
        return self.attempts.spool(run_id)

    # ── configuration ────────────────────────────────────────────────────────────────────────────────────

    async def reload(self) -> Unchanged | Applied | Rejected:
        """Read service.json again: apply it whole, or keep the last good one and say why.

        Raises:
            StateError: the ledger cannot take it now; what is left to do is done as soon as it can.

        """
        outcome = self.reloader.refresh()
        match outcome:
            case Applied(loaded=loaded):
                self.attempts.seats = self._seats()
                self.sources.refresh()
                self._unplanned = True
                log.info("config_applied", path=str(loaded.path), warnings=[str(each) for each in loaded.warnings])
            case Rejected(problems=problems):
                self._untold = "\n".join(str(problem) for problem in problems)
                log.error("config_rejected", problems=[str(problem) for problem in problems])
            case Unchanged():
                pass
        try:
            await self._catch_up()
        finally:
            self.bell.ring()
        return outcome

    async def refresh(self) -> None:
        """Reload because the file has changed or somebody waved; nobody is there to hear of trouble with the disk."""
        try:
            await self.reload()
        except StateError as error:
            log.error("state_error", error=str(error))  # noqa: TRY400 - it is a sentence, not a bug

    async def _catch_up(self) -> None:
        """Have the ledger take over what has been loaded, and keep what was rejected."""
        if self._unplanned:
            await self.attempts.look_at_logins()
            self._unplanned = False
        told, self._untold = self._untold, ""
        try:
            if told:
                await self.ledger.reject_config(told, self.clock.now_ms())
        except StateError:
            self._untold = self._untold or told
            raise

    @property
    def agents(self) -> Mapping[str, Agent]:
        """Every agent by name, as the configuration in use has them judge."""
        return self.attempts.seats.agents

    def _seats(self) -> Seats:
        return Seats(self.loaded, self.agents_for(self.loaded), self.environ)

    # ── the loop ─────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Serve until `stopping` is set; then end what runs, put it back into the queue, and return."""
        async with anyio.create_task_group() as group:
            await self.attempts.look_at_logins()
            await self.attempts.adopt(group)
            self.intake.begin(group)
            self.history.begin(group)
            group.start_soon(self._watch_config)
            group.start_soon(retire, self)
            group.start_soon(self.sources.run)
            group.start_soon(self.post_tasks.run)
            group.start_soon(self.outbox.run)
            while not self.stopping.is_set():
                heard = self.bell.heard()
                try:
                    await self._catch_up()
                    await self._settle()
                    await self._dispatch(group)
                except (StateError, OSError) as error:
                    log.error("state_error", error=str(error))  # noqa: TRY400 - it is a sentence, not a bug
                    await anyio.sleep(STATE_PAUSE)
                    continue
                await self.bell.wait(heard, self.clock.nap(self._sleep()))
            self.attempts.stop_all()
            self.intake.end()
            self.history.end()
            self.sources.refresh()

    def stop(self) -> None:
        """Ask `run` to end."""
        self.stopping.set()
        self.bell.ring()

    def _sleep(self) -> float:
        """Seconds until something is due, at most `LONGEST_SLEEP`."""
        due_ms = [at for at in (self.ledger.next_due_ms(), self._retry_at_ms) if at is not None]
        if not due_ms:
            return LONGEST_SLEEP
        return min(LONGEST_SLEEP, max(0.0, (min(due_ms) - self.clock.now_ms()) / 1000 + 0.001))

    async def _settle(self) -> None:
        if any(ANSWERS[hold.kind].guarded for hold in self.ledger.board.holds.values()):
            await self.attempts.look_at_logins()
        for event in await self.ledger.settle(self.clock.now_ms()):
            log.info(event.kind, chain=event.chain, tier=event.tier, reason=event.reason, active=event.active)

    async def _dispatch(self, group: TaskGroup) -> None:
        """Start every queued task that may start now, oldest first."""
        now_ms = self.clock.now_ms()
        self._retry_at_ms = None
        if self._disk_is_low():
            return
        for task in await self.ledger.queue():
            if task.id in self.attempts or task.state is not TaskState.QUEUED or self.stopping.is_set():
                continue
            chain = self.ledger.plan.chains.get(task.chain)
            if chain is None:
                await self._give_up(task, f"chain {task.chain} is not in the configuration any more", "no_chain")
            elif not Path(task.cwd).is_dir():
                await self._give_up(task, f"the working directory {task.cwd} does not exist any more", "no_cwd")
            elif now_ms < task.not_before_ms <= now_ms + LONGEST_RETRY_MS:
                self._retry_at_ms = min(self._retry_at_ms or task.not_before_ms, task.not_before_ms)
            elif self._has_place(task):
                await self._offer(group, task, chain, now_ms)

    def _has_place(self, task: Task) -> bool:
        if self.ledger.board.chain(task.chain).paused:
            return False
        taken = Counter(run.chain for run in self.attempts)
        if taken[task.chain] >= self.loaded.service.limits.parallel:
            return False
        return task.shared_cwd or task.cwd not in {run.cwd for run in self.attempts}

    async def _offer(self, group: TaskGroup, task: Task, chain: Chain, now_ms: int) -> None:
        """Start `task` on the tier that is picked for it, if there is one."""
        runs = await self.ledger.runs(task.id)
        avoid = avoided(runs)
        tier = pick(self.ledger.board, chain, now_ms, busy=self.busy(), avoid=avoid)
        if tier is None:
            if avoid >= {each.name for each in chain.tiers}:
                await self._give_up(task, "every tier that the chain has now has been tried", "every_tier")
            elif task.no_wait and free_at_ms(self.ledger.board, chain, now_ms, avoid) != now_ms:
                await self._give_up(task, "no tier is available now", "no_tier")
            return
        run = Run(
            id=self._new_id("r"),
            task=task.id,
            number=max((run.number for run in runs), default=0) + 1,
            chain=chain.name,
            tier=tier,
            cwd=task.cwd,
            state=RunState.RUNNING,
            started_ms=now_ms,
        )
        run = replace(run, session=resumed(run, self.agents[tier.agent], runs))
        self.attempts.begin(group, task, run, runs)

    async def _give_up(self, task: Task, reason: str, code: str) -> None:
        log.warning("task_given_up", task=task.id, reason=reason)
        with contextlib.suppress(ConflictError):  # it was cancelled in this very moment
            await self.ledger.give_up(task.id, reason, code, self.clock.now_ms())
        self.bell.ring()

    def _disk_is_low(self) -> bool:
        low = free_bytes(self.state) < self.loaded.service.limits.min_free_bytes
        if low and not self.low_disk:
            log.error("disk_low", state=str(self.state), min_free=self.loaded.service.limits.min_free_bytes)
        self.low_disk = low
        return low

    async def _watch_config(self) -> None:
        async for _ in self.changes(self.loaded.path, stop=self.stopping):
            await self.refresh()

    def _chain(self, name: str) -> Chain:
        chain = self.ledger.plan.chains.get(name)
        if chain is None:
            known = ", ".join(self.ledger.plan.chains)
            raise NotFoundError(f"there is no chain {name}", remedy=f"The chains are: {known}.")
        return chain

    def _new_id(self, kind: str) -> str:
        return f"{kind}-{self.clock.uuid().replace('-', '')[:12]}"


def _title(prompt: bytes) -> str:
    """The first words of a prompt, on one line."""
    return " ".join(prompt[:400].decode("utf-8", "replace").split())[:80]
