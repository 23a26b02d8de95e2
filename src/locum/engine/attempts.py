"""The runs in progress: started, watched, found again, stopped, and written down when they end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio
import structlog
from anyio.abc import TaskGroup

from locum.clock import Clock
from locum.config.zone import host_timezone
from locum.engine.bell import Bell
from locum.engine.launch import Prepared, bounds_of, prepare, remembered
from locum.engine.process import Process, Processes
from locum.engine.redact import Redactor, redactor
from locum.engine.runner import Runner, Watched
from locum.engine.seats import Seats
from locum.engine.spool import Spool
from locum.errors import ConfigError, ConflictError, LocumError, StateError
from locum.places import socket_paths
from locum.policy.failure import ANSWERS, Failure, FailureKind
from locum.policy.plan import Chain, Target
from locum.policy.task import Ending, Run, RunState, Task
from locum.store.ledger import Ledger
from locum.store.worker import Worker

log = structlog.get_logger(__name__)

STATE_PAUSE = 2.0
"""Seconds before something that the disk refused is tried again."""


@dataclass
class Attempts:
    """All attempts of one supervisor. `seats` is replaced when a new configuration is applied."""

    ledger: Ledger
    seats: Seats
    clock: Clock
    processes: Processes
    worker: Worker
    state: Path
    bell: Bell
    stopping: anyio.Event
    _begun: dict[str, Run] = field(default_factory=dict)  # by task: from the decision to the end of the run
    _runners: dict[str, Runner] = field(default_factory=dict)  # by run
    _pids: dict[str, int] = field(default_factory=dict)  # by run

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._begun

    def __iter__(self) -> Iterator[Run]:
        return iter(self._begun.values())

    @property
    def pids(self) -> dict[str, int]:
        """The process group of every run, by run."""
        return dict(self._pids)

    def redactor(self) -> Redactor:
        """Takes out the secrets of the configuration, and those that runs in progress were started with."""
        running = (runner.redact.secrets for runner in self._runners.values())
        return Redactor(redactor(self.seats).secrets.union(*running))

    def busy(self) -> frozenset[Target]:
        """The targets of every tier that has a run in progress."""
        found: set[Target] = set()
        for run in self:
            chain = self.ledger.plan.chains.get(run.chain)
            found.update((chain or Chain(run.chain, (run.tier,))).targets(run.tier))
        return frozenset(found)

    def spool(self, run_id: str) -> Spool:
        """The folder of a run."""
        return Spool(self.state / "runs" / run_id)

    def begin(self, group: TaskGroup, task: Task, run: Run, runs: Sequence[Run]) -> None:
        """Start `run` in the background; from this moment on its task, tier and directory count as taken."""
        self._begun[task.id] = run
        group.start_soon(self._attempt, task, run, runs)

    def stop(self, task_id: str) -> None:
        """End the run of that task, if it has one."""
        run = self._begun.get(task_id)
        if run and run.id in self._runners:
            self._runners[run.id].stopping.set()

    def stop_all(self) -> None:
        """End every run."""
        for runner in self._runners.values():
            runner.stopping.set()

    async def adopt(self, group: TaskGroup) -> None:
        """Find the runs that a former daemon left: alive, ended meanwhile, killed, or never started."""
        boot = self.processes.boot()
        if boot and await self.ledger.booted(boot):
            log.warning("host_restarted")
        for run in await self.ledger.open_runs():
            spool = self.spool(run.id)
            process = await self.processes.find(run.id, spool.folder)
            if process is None and (left := await self.processes.sweep(run.id)):
                log.warning("processes_left", run=run.id, count=left)
            if process is None and not spool.was_started():
                log.info("run_never_started", run=run.id)
                await self.ledger.forget_run(run.id, self.clock.now_ms())
                continue
            log.info("run_adopted", run=run.id, alive=process is not None)
            loaded = self.seats.loaded
            bounds = bounds_of(loaded.service.tier_entries.get(run.tier.name), loaded.service.limits)
            agent = self.seats.agents[run.tier.agent]
            watched = remembered(run, agent, spool, bounds, self.clock.monotonic())
            self._begun[run.task] = run
            group.start_soon(self._adopted, watched, process)

    async def look_at_logins(self) -> None:
        """Let the ledger know when a login or a tier's configuration is not what it was."""
        plan = self.seats.guarded(self.seats.loaded.plan)
        if plan != self.ledger.plan:
            await self.ledger.replan(plan, self.clock.now_ms())

    async def _attempt(self, task: Task, run: Run, runs: Sequence[Run]) -> None:
        try:
            await self._start_and_watch(task, run, runs)
        except ConflictError:
            log.info("run_not_wanted", run=run.id, task=task.id)  # the task was cancelled in this very moment
        except (LocumError, OSError) as error:
            # Nothing has been started (the disk is full, the tier was edited away in this very moment), or it stays
            # open for the next daemon: the task is offered again.
            log.error("run_put_off", run=run.id, error=str(error))  # noqa: TRY400 - a sentence, not a bug
            with anyio.move_on_after(STATE_PAUSE):
                await self.stopping.wait()
        finally:
            self._begun.pop(task.id, None)
            self.bell.ring()

    async def _start_and_watch(self, task: Task, run: Run, runs: Sequence[Run]) -> None:
        try:
            prepared = await self._prepare(task, run, runs)
        except ConfigError as error:
            await self.ledger.start_run(run, self.clock.now_ms())
            failure = Failure(FailureKind.AUTH_ERROR, str(error), "secret")
            return await self._ended(run, Ending(RunState.FAILED), failure)
        await self.ledger.start_run(run, self.clock.now_ms())
        self.bell.ring()
        try:
            process = self.processes.start(prepared.spawn)
        except OSError as error:
            kind = FailureKind.INVALID_REQUEST if error.filename == run.cwd else FailureKind.CRASH
            failure = Failure(kind, f"it could not be started: {error}", "spawn")
            return await self._ended(run, Ending(RunState.FAILED), failure)
        log.info("run_started", run=run.id, task=task.id, chain=run.chain, tier=run.tier.name, pid=process.pid)
        return await self._watch(prepared.watched, process)

    async def _prepare(self, task: Task, run: Run, runs: Sequence[Run]) -> Prepared:
        seat = self.seats.seat(run.tier.name)
        return prepare(
            run,
            self.seats.agents[run.tier.agent],
            seat,
            prompt=await self.ledger.prompt(task.id),
            runs=runs,
            fresh=self.clock.uuid(),
            spool=self.spool(run.id),
            bounds=bounds_of(self.seats.entry(run.tier.name), self.seats.loaded.service.limits),
            environ=self.seats.environment(seat)
            | {"LOCUM_SOCKET": str(socket_paths(self.seats.environ)[0].absolute())},
            timezone=host_timezone(self.seats.environ),
            began=self.clock.monotonic(),
        )

    async def _watch(self, watched: Watched, process: Process | None) -> None:
        """See a run to its end. Should the state be unreadable for a while, it is found and read again."""
        redact = redactor(self.seats)  # of the secrets as they are now: the run was started with them
        while True:
            try:
                ending, failure = await self._watch_once(Runner(watched, self.ledger, self.clock, redact), process)
                break
            except StateError as error:
                if self.stopping.is_set():
                    raise  # the run stays open; the next daemon finds it
                log.error("run_lost_sight", run=watched.run.id, error=str(error))  # noqa: TRY400 - as above
                await anyio.sleep(STATE_PAUSE)
                process = await self.processes.find(watched.run.id, watched.spool.folder)
            except Exception:
                # A bug of ours costs this run: not the daemon, and not the next one that would read the same line.
                log.exception("run_not_understood", run=watched.run.id)
                if process:
                    await process.stop(watched.bounds.stop_grace)
                why = "locum itself failed to follow it: its log says how; please report that"
                ending, failure = Ending(RunState.FAILED, usage_known=False), Failure(FailureKind.UNKNOWN, why, "locum")
                break
        await self.worker.aside(partial(_put_away, watched.spool, redact))
        await self._ended(watched.run, ending, failure)

    async def _watch_once(self, runner: Runner, process: Process | None) -> tuple[Ending, Failure | None]:
        run = runner.watched.run
        self._runners[run.id] = runner
        if process:
            self._pids[run.id] = process.pid
        try:
            if self.stopping.is_set() or await self.ledger.stop_asked(run.id):
                runner.stopping.set()
            return await runner.watch(process)
        finally:
            self._runners.pop(run.id, None)
            self._pids.pop(run.id, None)

    async def _adopted(self, watched: Watched, process: Process | None) -> None:
        try:
            await self._watch(watched, process)
        except LocumError as error:
            log.error("adoption_failed", run=watched.run.id, error=str(error))  # noqa: TRY400 - as above
        finally:
            self._begun.pop(watched.run.task, None)
            self.bell.ring()

    async def _ended(self, run: Run, ending: Ending, failure: Failure | None) -> None:
        """Write how the run ended, through the one way off a tier if it failed; as often as the disk needs."""
        while True:
            try:
                if failure and ANSWERS[failure.kind].guarded:
                    await self.look_at_logins()
                now_ms, jitter = self.clock.now_ms(), self.clock.fraction()
                step = await self.ledger.end_run(run.id, ending, failure, now_ms, jitter=jitter)
                break
            except StateError as error:
                if self.stopping.is_set():
                    raise  # the run stays open; the next daemon reads it again
                log.error("run_end_not_recorded", run=run.id, error=str(error))  # noqa: TRY400 - as above
                await anyio.sleep(STATE_PAUSE)
        told = {"run": run.id, "task": run.task, "tier": run.tier.name}
        if failure and step:
            log.warning("run_failed", **told, kind=failure.kind, reason=failure.evidence, next=step.next)
        else:
            log.info("run_ended", **told, state=ending.state)


def _put_away(spool: Spool, redact: Redactor) -> None:
    """Leave of an ended run what may be looked at later: a key that is changed tomorrow is masked today."""
    for path in (spool.out, spool.err):
        redact.mask_file(path)
    spool.clear_tmp()
