"""Counts what agents spend that people run themselves, and tells them whether to go on."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import structlog
from anyio.abc import TaskGroup

from locum.agents.hooks import Hooks, Moment, Stop, Told
from locum.clock import Clock
from locum.config.zone import host_timezone
from locum.engine.bell import Bell
from locum.engine.redact import Redactor
from locum.engine.seats import Seats
from locum.engine.spool import Tail
from locum.engine.transcript import Caller, Found, Reading, find, keeps
from locum.engine.vendor import readings
from locum.errors import StateError, UsageError
from locum.policy.explain import stopped
from locum.policy.failure import Failure
from locum.policy.gate import Place, gate, placed
from locum.policy.report import Report, payer_of
from locum.policy.usage import Usage
from locum.store.ledger import Ledger

log = structlog.get_logger(__name__)

Work = Callable[[], Coroutine[Any, Any, None]]

LOOK_AGAIN = (0.25, 1.0, 5.0)
"""Seconds between the looks at a transcript after a hook: its agent writes the last rows after it has called."""
PATIENCE = 2.0
"""Seconds an agent is kept waiting while its transcript is read; a long one is read on without it."""
DISK_PAUSE = 2.0
"""Seconds before what the disk refused is tried again."""
READINGS_KEPT = 1_000
"""Sessions whose place in their transcript is remembered; that of others is found by reading them again."""
HEARD_BEFORE_MS = 60_000
"""How long ahead of the first hook a failure may stand in a transcript and still be news."""
_ENDS = frozenset({Moment.DONE, Moment.FAILED, Moment.OVER})


@dataclass(frozen=True, slots=True)
class Named:
    """The chain and tier that were named when the hooks were installed."""

    chain: str | None = None
    tier: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What an agent is told: to stop or to go on, and what its user should know."""

    place: Place | None
    stop: Stop | None = None
    note: str = ""


@dataclass
class Intake:
    """All sessions that are not ours. `seats` and `redactor` give what the configuration in use says."""

    ledger: Ledger
    clock: Clock
    seats: Callable[[], Seats]
    redactor: Callable[[], Redactor]
    bell: Bell
    stopping: anyio.Event
    _group: TaskGroup | None = None
    _waiting: list[Work] = field(default_factory=list)
    _readings: OrderedDict[Path, Reading] = field(default_factory=OrderedDict)
    _expected: set[str] = field(default_factory=set)
    _stopped: set[str] = field(default_factory=set)
    """Sessions that were told to stop since their last prompt: how such a turn ends says nothing of the tier."""
    _prompted: set[str] = field(default_factory=set)
    """Sessions that a person has sent a prompt in: they may have been a run's before."""

    def begin(self, group: TaskGroup) -> None:
        """Read transcripts in this group from now on, first those that were told of before it was there."""
        self._group = group
        for work in self._waiting:
            group.start_soon(work)
        self._waiting.clear()

    def end(self) -> None:
        """Let every reading come to its end; `stopping` is set."""
        self._group = None
        for reading in self._readings.values():
            reading.called.ring()

    async def heed(self, hooks: Hooks, told: Told, caller: Caller, named: Named) -> Answer:
        """Count what a hook tells of, move the chain if the work has failed, and answer from memory.

        A transcript that is none of the caller's is not read, and that is said; what is held stops the session anyway.

        Raises:
            StateError: the ledger cannot take it now.

        """
        if caller.run is not None:
            return Answer(None)  # a run of ours: it is counted, judged and stopped where it is watched
        found, note = None, ""
        try:
            found = self._find(hooks, told, caller)
        except UsageError as error:
            note = f"locum: {error}"
        place = self._place(hooks, found, named)
        if place is None and named != Named():
            note = note or _unknown(named)
        reading = None
        if found and found.there and told.moment is not Moment.TEST:
            reading = self._reading(hooks, told, found, caller, place)
        elif found and told.moment is not Moment.TEST:
            self._expect(hooks, told, caller, named)
        if told.moment in _ENDS:
            if reading:
                await _caught_up(reading)
            await self._ended(hooks, told, place, reading)
        stop = self._stop(told.moment, place)
        self._remember(told, stop)
        return Answer(place, stop, (reading.trouble if reading else "") or note)

    def place_of(self, session: str) -> Place | None:
        """The tier that the hooks of a session have named, as far as it is remembered."""
        named = (each.place for each in self._readings.values() if session and each.session == session)
        return next(named, None)

    def _find(self, hooks: Hooks, told: Told, caller: Caller) -> Found | None:
        homes = self.seats().homes(hooks.agent, hooks.variable, hooks.folder).values()
        return find(told.transcript, hooks, caller, homes) if told.transcript else None

    def _place(self, hooks: Hooks, found: Found | None, named: Named) -> Place | None:
        """The tier that was named, else the only one whose agent keeps its sessions there and whose login they use."""
        homes = self.seats().homes(hooks.agent, hooks.variable, hooks.folder)
        fitting = [tier for tier, home in homes.items() if found and keeps(home, hooks, found.path)]
        return placed(self.ledger.plan, named.chain, named.tier, self.seats().of_people(fitting))

    def _stop(self, moment: Moment, place: Place | None) -> Stop | None:
        if place is None or moment not in (Moment.PROMPT, Moment.TOOL, Moment.TEST):
            return None
        now_ms = self.clock.now_ms()
        answer = gate(self.ledger.board, place, now_ms)
        if answer.go_on or (moment is Moment.TOOL and not answer.halted):
            return None
        return Stop(stopped(self.ledger.plan, place, answer, now_ms), now=answer.halted)

    def _remember(self, told: Told, stop: Stop | None) -> None:
        """Which sessions were told to stop, until their next prompt."""
        for remembered in (self._stopped, self._prompted):
            if len(remembered) >= READINGS_KEPT:
                remembered.clear()
        if told.moment is Moment.PROMPT:
            self._stopped.discard(told.session)
            self._prompted.add(told.session)
        if stop and told.moment is not Moment.TEST:
            self._stopped.add(told.session)

    # ── how a turn ended ─────────────────────────────────────────────────────────────────────────────────

    async def _ended(self, hooks: Hooks, told: Told, place: Place | None, reading: Reading | None) -> None:
        """Report the end of a turn, once: by its own id, else by how far its transcript went."""
        failure = None
        if told.signal is not None:
            limits, signal = reading.limits.values() if reading else (), self.redactor().told(told.signal)
            failure = hooks.verdict((*limits, signal), self.clock.now_ms(), self._timezone())
        if failure is None and (told.moment is not Moment.DONE or told.session in self._stopped):
            return  # what no hook tells of stands in the transcript; and what we have stopped ourselves proves nothing
        if failure and reading:
            reading.told_failure = (failure.kind, self.clock.now_ms())
        if await self._is_ours(told.session):
            return
        # What has neither an id nor a transcript is told apart by its time: told again, it extends its own hold.
        turn = told.turn or (reading.position if reading else f"at {self.clock.now_ms()}")
        done = anyio.Event()

        async def report() -> None:
            try:
                await self._report(hooks, told.session, f"{turn}:{told.moment}", place, failure, told.model)
            except Exception:
                log.exception("session_end_not_understood", session=told.session)  # a bug of ours ends nothing else
            finally:
                done.set()

        if not self._start(report):
            await report()  # the daemon is stopping: once, and it does not wait for the disk any more
        with anyio.move_on_after(PATIENCE):
            await done.wait()

    async def _report(
        self,
        hooks: Hooks,
        session: str,
        turn: str,
        place: Place | None,
        failure: Failure | None,
        model: str | None = None,
    ) -> None:
        told = f"{session}:{turn}"
        report = Report(hooks.agent, told, place, failure=failure, session=session, model=model, in_person=True)
        while True:
            try:
                found = await self.ledger.report(report, self.clock.now_ms(), self.clock.fraction())
                break
            except StateError as error:
                log.error("session_end_not_recorded", session=session, error=str(error))  # noqa: TRY400 - a sentence
                if self.stopping.is_set():
                    return
                with anyio.move_on_after(DISK_PAUSE):
                    await self.stopping.wait()
        if failure and not found.duplicate:
            tier = place.tier.name if place else None
            log.warning("session_failed", agent=hooks.agent, session=session, tier=tier, kind=failure.kind)
        self.bell.ring()

    # ── transcripts ──────────────────────────────────────────────────────────────────────────────────────

    def _expect(self, hooks: Hooks, told: Told, caller: Caller, named: Named) -> None:
        """Look again soon for a transcript that its agent has named, but not written yet."""
        if told.transcript not in self._expected and len(self._expected) < READINGS_KEPT:
            self._expected.add(told.transcript)
            self._start(partial(self._look_later, hooks, told, caller, named))

    async def _look_later(self, hooks: Hooks, told: Told, caller: Caller, named: Named) -> None:
        try:
            for pause in LOOK_AGAIN:
                with anyio.move_on_after(pause):
                    await self.stopping.wait()
                if (found := self._find(hooks, told, caller)) and found.there:
                    self._reading(hooks, told, found, caller, self._place(hooks, found, named))
                    return
        except UsageError as error:
            log.warning("transcript_refused", session=told.session, error=str(error))
        finally:
            self._expected.discard(told.transcript)

    def _reading(self, hooks: Hooks, told: Told, found: Found, caller: Caller, place: Place | None) -> Reading:
        """The reading of this transcript, called to look again."""
        path = found.path
        reading = self._readings.pop(path, None)
        if reading is None:
            since_ms = self.clock.now_ms() - HEARD_BEFORE_MS
            reading = Reading(hooks, replace(told, transcript=str(path)), caller.uid, since_ms)
        self._readings[path] = reading  # the last called are the last to be forgotten
        for old in [each for each in self._readings.values() if not each.followed][:-READINGS_KEPT]:
            del self._readings[old.path]
        reading.place = place
        reading.called.ring()
        if not reading.followed:
            reading.followed = self._start(partial(self._follow, reading))
        return reading

    async def _follow(self, reading: Reading) -> None:
        """Read what is new at each call, and a few times after it; what the ledger cannot take, until it can."""
        pauses = list(LOOK_AGAIN)
        try:
            while not self.stopping.is_set():
                heard = reading.called.heard()
                whole = await self._catch_up(reading)
                reading.read_up_to = heard
                reading.read.ring()
                if reading.called.heard() == heard and not pauses and whole:
                    return
                await reading.called.wait(heard, pauses.pop(0) if pauses else DISK_PAUSE)
                if reading.called.heard() != heard:
                    pauses = list(LOOK_AGAIN)
        except Exception:
            # A bug of ours costs this session its count: not the daemon, and not the agent its next prompt.
            log.exception("session_not_understood", transcript=str(reading.path))
            reading.rewind()  # it was left in the middle of a line
            reading.trouble = "locum itself failed to count this session: its log says how; please report that"
        finally:
            reading.followed = False
            reading.read.ring()

    async def _catch_up(self, reading: Reading) -> bool:
        """Read to the end of what is there. False when the ledger cannot take it now: then it is read again."""
        redact = self.redactor()
        reading.trouble = ""
        try:
            for tail in reading.look():
                while await self._read(reading, tail, redact) and not self.stopping.is_set():
                    pass
            await self._judge(reading)
        except StateError as error:
            log.error("usage_not_recorded", transcript=str(reading.path), error=str(error))  # noqa: TRY400 - a sentence
            reading.trouble = f"locum could not count this session just now: {error}"
            reading.rewind()
            return False
        return True

    async def _read(self, reading: Reading, tail: Tail, redact: Redactor) -> bool:
        """Read and count one chunk; whether there is more."""
        usages: list[Usage] = []
        for line in tail.read():
            if line is None:
                continue
            for told in reading.hooks.read(redact.line(line)):
                if isinstance(told, Usage):
                    usages.append(redact.told(told))
                else:
                    reading.heed(tail, redact.told(told), line.offset)
        if usages:
            payer = payer_of(reading.hooks.agent, reading.place, reading.session)
            found = await self.ledger.record_outside(payer, usages, self.clock.now_ms())
            if found.events:
                self.bell.ring()
        if reading.limits_told and reading.place:
            account = reading.place.tier.account
            await self.ledger.saw_vendor(readings(account, reading.limits_told, self.clock.now_ms()))
        reading.limits_told.clear()  # of nobody's account they tell nothing
        await anyio.lowlevel.checkpoint()
        return tail.behind

    async def _judge(self, reading: Reading) -> None:
        """Report a failure that only the transcript tells of."""
        if not reading.failures:
            return
        signals = (*reading.limits.values(), *reading.failures)
        now_ms = self.clock.now_ms()
        failure = reading.hooks.verdict(signals, now_ms, self._timezone())
        if failure and not _again(reading, failure, now_ms) and not await self._is_ours(reading.session):
            at = f"@{reading.failed_at}"
            await self._report(reading.hooks, reading.session, at, reading.place, failure)
        reading.failures.clear()

    def _start(self, work: Work) -> bool:
        """Do this beside everything else, as soon as there is a group to do it in; False when there never will be."""
        if self._group:
            self._group.start_soon(work)
        elif not self.stopping.is_set():
            self._waiting.append(work)
        return bool(self._group) or not self.stopping.is_set()

    async def _is_ours(self, session: str) -> bool:
        """Whether a run owns the session; or did just now, for a hook may come after its agent has ended."""
        just_now = None if session in self._prompted else self.clock.now_ms() - HEARD_BEFORE_MS
        return await self.ledger.session_owner(session, just_now) is not None

    def _timezone(self) -> str:
        return host_timezone(self.seats().environ)


def _unknown(named: Named) -> str:
    """What the user should know whose hooks name a tier that is not there (any more)."""
    where = f"chain {named.chain}" if named.chain else "its service.json"
    tier = f"tier {named.tier}" if named.tier else "tier that alone has this agent and home"
    return f"locum: {where} has no {tier}: this session counts for none, and nothing stops it. Install its hooks anew."


def _again(reading: Reading, failure: Failure, now_ms: int) -> bool:
    """Whether a hook has told of this failure just now: Codex tells of a limit in both places."""
    kind, at_ms = reading.told_failure or (None, 0)
    return failure.kind is kind and now_ms - at_ms < HEARD_BEFORE_MS


async def _caught_up(reading: Reading) -> None:
    """Return when everything was read that is there now, or when patience ends."""
    call = reading.called.heard()
    with anyio.move_on_after(PATIENCE):
        while reading.followed and reading.read_up_to < call:
            await reading.read.wait(reading.read.heard(), PATIENCE)
