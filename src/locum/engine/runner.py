"""One attempt, from its first byte to its verdict."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio
import structlog
from msgspec import structs

from locum.agents import judge
from locum.agents.base import Agent, End, Mark, Seat, Signal, Source, Success
from locum.agents.bill import Bill
from locum.clock import Clock
from locum.engine.process import Process
from locum.engine.redact import Redactor
from locum.engine.spool import CHUNK, TAIL, Spool, Tail, expand, tail_bytes
from locum.engine.vendor import readings
from locum.errors import StateError
from locum.policy.failure import ANSWERS, Failure, FailureKind
from locum.policy.task import Ending, Run, RunState
from locum.policy.usage import Tokens, Usage
from locum.store.ledger import Ledger
from locum.words import count, size

log = structlog.get_logger(__name__)

LOOK_EVERY = 0.1
"""Seconds between two looks at a run's growing files."""
TRANSCRIPTS_EVERY = 2.0
"""Seconds between two searches for a session's transcripts."""
RETRYING_FOR = 60.0
"""Seconds an agent may go on retrying by itself; after that the supervisor's own answer is better."""
MOST_CUTS = 5
"""Answers cut off in a row, with no work between, after which an agent that asks again each time is stopped."""
DISK_PAUSE = 2.0
SIGNALS_KEPT = 1_000
SAID_KEPT = 4_000
EVIDENCE_KEPT = 300
TEXT_KEPT = 32_000
"""Characters of a signal's text: more than any rule or person needs, and all of them fit into memory."""
TOOLS_KEPT = 1_000


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a run may take: seconds of silence, seconds in all, bytes of output, seconds to end after TERM."""

    stall_after: float
    time_limit: float | None
    spool: int
    stop_grace: float


@dataclass(frozen=True, slots=True)
class Watched:
    """Everything about a run that does not change while it runs. `began` is the host's monotonic clock, seconds."""

    run: Run
    agent: Agent
    seat: Seat
    spool: Spool
    bounds: Bounds
    environ: Mapping[str, str]
    timezone: str
    began: float


@dataclass
class Runner:
    """Reads one run, records what it spends, bounds it, and says how it ended."""

    watched: Watched
    ledger: Ledger
    clock: Clock
    redact: Redactor = field(default_factory=Redactor)
    stopping: anyio.Event = field(default_factory=anyio.Event)
    _tails: dict[Path, Tail] = field(default_factory=dict)
    _signals: deque[Signal] = field(default_factory=lambda: deque(maxlen=SIGNALS_KEPT))
    _limits: dict[tuple[str | None, str | None], Signal] = field(default_factory=dict)  # by window and model
    _limits_told: list[Signal] = field(default_factory=list)  # those that are not on record yet
    _tools: set[str] = field(default_factory=set)
    _tool: Signal | None = None
    """The tool call told last: that a run has used one matters, whatever it said since."""
    _session: str = ""
    _said: str = ""
    _pieces: judge.Pieces = field(default_factory=judge.Pieces)
    _note: str = ""
    _bill: Bill = field(default_factory=Bill)
    _retrying: Signal | None = None
    _retrying_since: float = 0.0
    _cuts: int = 0
    _looked_for_transcripts: float = -TRANSCRIPTS_EVERY
    _behind: bool = False

    async def watch(self, process: Process | None) -> tuple[Ending, Failure | None]:
        """Follow the run to its end. `process` None: it has ended already, while nobody watched.

        Returns how it ended, and the failure if it was one.

        Raises:
            StateError: the ledger cannot be read, or cannot take what was spent when the run is to stop.

        """
        self._open()
        stopped = None
        if process:
            stopped = await self._follow(process)
            await self._sweep(process)
        else:
            await self._read()  # its streams name the session, whose transcripts are then found
        while not await self._read(last=True) and self._behind:
            if self.stopping.is_set():
                raise StateError("what the run has spent cannot be recorded now")
            await anyio.sleep(DISK_PAUSE)
        return self._judge(stopped, await self.ledger.run_tokens(self.watched.run.id))

    async def _sweep(self, process: Process) -> None:
        """End what the agent has left running: it would go on to spend, and nobody would hear of it."""
        left = await process.sweep()
        if left and not self.stopping.is_set():
            self._note = f"{count(left, 'process', 'processes')} outlived the agent and had to be ended"
            log.warning("processes_left", run=self.watched.run.id, count=left)

    def _open(self) -> None:
        watched = self.watched
        self._session = watched.run.session or ""
        for path, source in ((watched.spool.out, Source.OUT), (watched.spool.err, Source.ERR)):
            most = watched.bounds.spool + CHUNK
            self._tails[path] = Tail(path, source, watched.run.id, run_started_ms=watched.run.started_ms, most=most)

    async def _follow(self, process: Process) -> Failure | None:
        """Read until the process is gone; a failure if it had to be stopped for a reason of ours."""
        gone = anyio.Event()
        reason: Failure | None = None

        async def wait() -> None:
            await process.wait()
            gone.set()

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            quiet_since = self.clock.monotonic()
            while not gone.is_set():
                with anyio.move_on_after(self._pause()):
                    await gone.wait()
                now = self.clock.monotonic()
                if await self._read() or self._behind:  # what could not be recorded was no silence
                    quiet_since = now
                if self.stopping.is_set():
                    await self._stop(process)
                    break
                reason = self._exceeded(process, quiet=now - quiet_since, ran=now - self.watched.began)
                if reason:
                    await self._end(process, reason)
                    break
            group.cancel_scope.cancel()
        return reason

    def _pause(self) -> float:
        """Seconds until the next look."""
        if self._behind:
            return DISK_PAUSE
        return 0 if any(tail.behind for tail in self._tails.values()) else LOOK_EVERY

    async def _stop(self, process: Process) -> None:
        """End a run because people want it. Should this daemon not live to see its end, the next one knows why."""
        with contextlib.suppress(StateError):  # a disk in trouble keeps nothing from stopping
            await self.ledger.ask_stop(self.watched.run.id)
        await process.stop(self.watched.bounds.stop_grace)

    async def _end(self, process: Process, reason: Failure) -> None:
        """Stop a run that has outgrown a bound."""
        spool, bounds = self.watched.spool, self.watched.bounds
        log.warning("run_stopped", run=self.watched.run.id, kind=reason.kind, reason=reason.evidence)
        flooding = spool.size() > bounds.spool  # in ten seconds of grace it could fill the disk
        await process.stop(0 if flooding else bounds.stop_grace)
        spool.cut(bounds.spool + CHUNK)

    def _exceeded(self, process: Process, quiet: float, ran: float) -> Failure | None:
        """Whether the run has outgrown a bound, and which failure that is."""
        bounds = self.watched.bounds
        if bounds.time_limit is not None and ran > bounds.time_limit:
            return Failure(FailureKind.STALLED, f"ran longer than time_limit ({bounds.time_limit:.0f} s)", "time_limit")
        if self.watched.spool.size() > bounds.spool:
            return Failure(FailureKind.CRASH, f"wrote more than limits.spool ({size(bounds.spool)})", "spool")
        if self._retrying and self.clock.monotonic() - self._retrying_since > RETRYING_FOR:
            kind = self._retrying.kind or FailureKind.STALLED
            return Failure(kind, f"kept retrying by itself: {self._retrying.text[:300]}", "retrying")
        if self._cuts >= MOST_CUTS:
            why = f"{self._cuts} answers in a row were cut off, and it asked again each time"
            return Failure(FailureKind.SERVER_ERROR, why, "cut")
        if quiet > bounds.stall_after and not (self._tools and process.has_children()):
            return Failure(FailureKind.STALLED, f"silent for {bounds.stall_after:.0f} s", "stall_after")
        return None

    async def _read(self, *, last: bool = False) -> bool:
        """Read what is new in all files and record it; whether there was anything.

        When the ledger cannot take it (the disk is full), everything is read again from the start at the next
        look: usage is counted by key, so what was recorded already is not counted twice.
        """
        self._find_transcripts(always=last)
        moved = False
        try:
            # Transcripts first: they tell when a count was spent, and who tells a count first dates it.
            for tail in sorted(self._tails.values(), key=lambda each: each.source is not Source.TRANSCRIPT):
                before = tail.position
                await self._read_tail(tail, last=last)
                moved = moved or tail.position != before
            await self._record_limits()
        except StateError as error:
            log.error("usage_not_recorded", run=self.watched.run.id, error=str(error))  # noqa: TRY400
            self._behind, self._cuts = True, 0
            self._pieces = judge.Pieces()
            for tail in self._tails.values():
                tail.rewind()
            return False
        self._behind = False
        return moved

    async def _read_tail(self, tail: Tail, *, last: bool) -> None:
        usages: list[Usage] = []
        for line in tail.read(last=last):
            if line is None:
                await self._record(usages)
                usages = []
                await anyio.lowlevel.checkpoint()
                continue
            for read in self.watched.agent.read(self.redact.line(line)):
                self._bill.take(read)
                if isinstance(read, Usage):
                    usages.append(self.redact.told(read))
                else:
                    told = self.redact.told(read)
                    await self._heed(told)
                    tail.session = self._session
                    if told.mark is Mark.MESSAGE:
                        tail.message, tail.model = told.text, told.model
        await self._record(usages)

    def _find_transcripts(self, *, always: bool) -> None:
        now = self.clock.monotonic()
        if not (always or now - self._looked_for_transcripts >= TRANSCRIPTS_EVERY):
            return
        self._looked_for_transcripts = now
        watched = self.watched
        patterns = watched.agent.sources(watched.seat, Path(watched.run.cwd), self._session, watched.environ)
        for path in expand(patterns):
            self._tails.setdefault(
                path, Tail(path, Source.TRANSCRIPT, watched.run.id, self._session, watched.run.started_ms)
            )

    async def _record(self, usages: list[Usage]) -> None:
        if not usages:
            return
        self._retrying = None
        await self.ledger.record(self.watched.run.id, usages, self.clock.now_ms())

    async def _record_limits(self) -> None:
        """Keep what the vendor said of its windows. Read again after a pause, it was said when the agent last wrote."""
        if self._limits_told:
            run, written_ms = self.watched.run, self.watched.spool.written_ms()
            now_ms = self.clock.now_ms()
            read_ms = now_ms if written_ms is None else min(now_ms, self.clock.stamped_ms(written_ms))
            await self.ledger.saw_vendor(readings(run.tier.account, self._limits_told, read_ms))
            self._limits_told.clear()

    async def _heed(self, told: Signal) -> None:
        signal = structs.replace(told, text=told.text[:TEXT_KEPT]) if len(told.text) > TEXT_KEPT else told
        signal = self._pieces.join(signal)
        match signal.mark:
            case Mark.SESSION:
                if signal.text and signal.text != self._session:
                    await self.ledger.saw_session(self.watched.run.id, signal.text, self.clock.now_ms())
                    self._session = signal.text  # not before: what the disk has refused is told again
                    self._looked_for_transcripts = -TRANSCRIPTS_EVERY
            case Mark.SAID | Mark.PIECE:
                self._said = (signal if signal.mark is Mark.PIECE else told).text[-SAID_KEPT:]
                self._retrying = None
            case Mark.TOOL:
                self._tool, self._cuts = signal, 0
                if len(self._tools) < TOOLS_KEPT:
                    self._tools.add(signal.text)
                self._retrying = None
            case Mark.TOOL_DONE:
                self._tools.discard(signal.text)
                self._cuts = 0
            case Mark.CUT:
                self._cuts += 1
            case Mark.RETRY:
                if self._retrying is None:
                    self._retrying_since = self.clock.monotonic()
                self._retrying = signal
            case Mark.LIMIT:
                if signal != self._limits.get((signal.window, signal.model)):
                    self._limits_told.append(signal)
                self._limits[signal.window, signal.model] = signal  # the last reading is what matters
            case Mark.DONE:
                self._cuts = 0
        if signal.mark in judge.WORK and self._signals and self._signals[-1].mark in judge.WORK:
            self._signals[-1] = signal  # that there was work is told, not how much of it
        elif signal.mark not in (Mark.MESSAGE, Mark.LIMIT):
            self._signals.append(signal)

    def _exit(self) -> tuple[int | None, int]:
        """The exit code, and when it was written; else None, and now."""
        told = self.watched.spool.exit()
        return (told[0], self.clock.stamped_ms(told[1])) if told else (None, self.clock.now_ms())

    def _judge(self, stopped: Failure | None, spent: Tokens) -> tuple[Ending, Failure | None]:
        watched = self.watched
        code, ended_ms = self._exit()
        end = End(
            exit=code,
            ended_ms=ended_ms,
            out_tail=self._tail(watched.spool.out),
            err_tail=self._tail(watched.spool.err),
            tokens=spent,
            timezone=watched.timezone,
        )
        verdict = watched.agent.verdict(
            end, (*self._limits.values(), *((self._tool,) if self._tool else ()), *self._signals)
        )
        known = self._bill.is_known(watched.agent, verdict, spent)

        def ending(state: RunState) -> Ending:
            said = self.redact(verdict.said or self._said)
            return Ending(state, code, said, self._session or None, self._bill.total, known, self._note)

        if isinstance(verdict, Success):
            return ending(RunState.SUCCEEDED), None
        if self.stopping.is_set():
            return ending(RunState.STOPPED), None
        # What the agent said itself is more precise than that it then fell silent.
        failure = stopped if stopped and ANSWERS[verdict.kind].soft else verdict
        return ending(RunState.FAILED), replace(failure, evidence=self.redact(failure.evidence)[:EVIDENCE_KEPT])

    def _tail(self, path: Path) -> str:
        """The end of a stream without secrets."""
        return self.redact.end(tail_bytes(path, TAIL + self.redact.longest), TAIL)
