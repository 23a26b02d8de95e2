"""Tells every stand-in what to play, and keeps its own account of what was played and what it cost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteReceiveStream

from locum.agents.base import Agent, Seat
from locum.clock import Clock, SystemClock
from locum.drill.fresh import Now, Part, part_of
from locum.drill.recordings import FAULTS, Recording, choose, success, why_not
from locum.policy.failure import FailureKind
from locum.policy.plan import Tier
from locum.policy.usage import Tokens

_LONGEST_CALL = 4 << 20
_PLACEHOLDER = "00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a tier: a key of `FAULTS`, and by how much (milliseconds) its limit ends later than
    recorded, or when (epoch milliseconds).
    """

    name: str
    later_ms: int = 0
    reset_ms: int | None = None


@dataclass
class Played:
    """One run of a stand-in. `at_ms`, `ended_ms` in rehearsed time (epoch milliseconds); `began`, `ended` in real
    seconds, for how quickly things follow each other; `kind` is the failure that its recording shows.
    """

    tier: str
    run: str
    task: str
    chain: str
    recording: Recording
    kind: FailureKind | None
    session: str
    resumed: bool
    at_ms: int
    began: float
    part: Part
    ended_ms: int | None = None
    ended: float | None = None
    silent: bool = False

    @property
    def tokens(self) -> Tokens:
        """What it has told to have spent."""
        return self.part.tokens


@dataclass
class Director:
    """Answers stand-ins. `faults` by tier, no entry: it works; `gates` by tier: a run waits in its middle until that
    is set; `factors` by tier: how many times the recorded tokens its runs spend.
    """

    tiers: Mapping[str, Tier]
    agents: Mapping[str, Agent]
    seats: Mapping[str, Seat]
    timezone: str
    clock: Clock
    faults: dict[str, Fault] = field(default_factory=dict)
    gates: dict[str, anyio.Event] = field(default_factory=dict)
    factors: dict[str, int] = field(default_factory=dict)
    played: list[Played] = field(default_factory=list)
    unrehearsed: dict[tuple[str, str], str] = field(default_factory=dict)
    """By tier and fault: why it could not be played."""
    _host: SystemClock = field(default_factory=SystemClock)
    _sessions: set[str] = field(default_factory=set)
    _turns: Counter[str] = field(default_factory=Counter)

    @property
    def on_stage(self) -> list[Played]:
        """The runs in progress."""
        return [each for each in self.played if each.ended is None]

    def calm(self) -> None:
        """Have nothing fail, wait or spend more than usual from now on."""
        for gate in self.gates.values():
            gate.set()
        for each in (self.faults, self.gates, self.factors):
            each.clear()

    def can(self, tier: str, fault: str) -> bool:
        """Whether a run of this tier's agent was recorded that shows the fault; what was not is noted."""
        agent = self.tiers[tier].agent
        if choose(agent, FAULTS[fault]) is not None:
            return True
        self.unrehearsed[tier, fault] = why_not(agent, fault)
        return False

    def exact(self, tier: str) -> bool:
        """Whether this tier's agent tells the end of a limit so that it can be any moment."""
        recording = choose(self.tiers[tier].agent, FAULTS["quota"])
        return recording is not None and part_of(recording, Now(0, "/", "", "UTC", lambda: "")).exact

    async def serve(self, path: Path, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Answer stand-ins at this socket until cancelled."""
        async with await anyio.create_unix_listener(path, mode=0o600) as listener:
            task_status.started()
            await listener.serve(self._direct)

    async def _direct(self, stream: ByteStream) -> None:
        """One stand-in, from its call to its end."""
        reader = BufferedByteReceiveStream(stream)
        played: Played | None = None
        async with stream:
            try:
                called = json.loads(await reader.receive_until(b"\n", _LONGEST_CALL))
                played = self._cast(called)
                self.played.append(played)
                await self._play(played, called, stream, reader)
            except (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError):
                pass  # it was stopped
            finally:
                if played:
                    played.ended_ms, played.ended = self.clock.now_ms(), self._host.monotonic()

    def _cast(self, called: Mapping[str, Any]) -> Played:
        tier, env = self.tiers[called["tier"]], called["env"]
        fault = self.faults.get(tier.name)
        recording = choose(tier.agent, FAULTS[fault.name]) if fault else success(tier.agent)
        assert recording is not None, "what was not recorded is not asked for"
        session, resumed = self._session(called["argv"], recording)
        self._turns[tier.name] += 1
        kind = FailureKind.STALLED if FAULTS["hang"](recording) else recording.kind
        now = Now(
            at_ms=self.clock.now_ms(),
            cwd=called["cwd"],
            session=session,
            timezone=self.timezone,
            uuid=self.clock.uuid,
            factor=self.factors.get(tier.name, 1 + self._turns[tier.name] % 7),
            later_ms=_later(fault, recording, self.clock.now_ms()),
        )
        part, began = part_of(recording, now), self._host.monotonic()
        names = (env.get("LOCUM_RUN", ""), env.get("LOCUM_TASK", ""), env.get("LOCUM_CHAIN", ""))
        return Played(tier.name, *names, recording, kind, session, resumed, now.at_ms, began, part)

    def _session(self, argv: Sequence[str], recording: Recording) -> tuple[str, bool]:
        """The session a run goes on with or was given; else one of its own. And whether it had been there before."""
        for each in argv:
            if each in self._sessions:
                return each, True
        chosen = [each for each in argv if len(each) == len(_PLACEHOLDER) and each.count("-") == 4]
        session = chosen[0] if chosen else self.clock.uuid()
        if not chosen and recording.session and recording.session.count("-") != 4:
            session = f"{recording.session.partition('_')[0]}_{session.replace('-', '')}"
        self._sessions.add(session)
        return session, False

    async def _play(
        self, played: Played, called: Mapping[str, Any], stream: ByteStream, reader: BufferedByteReceiveStream
    ) -> None:
        part = played.part
        place = self._transcript(played, called) if part.transcript else ""
        halves = [_halves(text) for text in (part.out, part.err, part.transcript)]
        for half in (0, 1):
            for to, text in zip(("out", "err", place), (each[half] for each in halves), strict=True):
                if to and text:
                    await stream.send(json.dumps({"to": to, "text": text}).encode() + b"\n")
                    await reader.receive_exactly(1)
            gate = self.gates.get(played.tier)
            if half == 0 and gate:
                await gate.wait()
        if played.recording.hangs:
            played.silent = True
            await reader.receive_exactly(1)  # until it is stopped
        await stream.send(json.dumps({"exit": played.recording.exit}).encode() + b"\n")
        await reader.receive_exactly(1)  # until it is gone

    def _transcript(self, played: Played, called: Mapping[str, Any]) -> str:
        """Where this agent writes its sessions down: a file that its adapter looks for; "" when it keeps none."""
        tier = self.tiers[played.tier]
        agent, seat = self.agents[tier.agent], self.seats[tier.name]
        patterns = agent.sources(seat, Path(called["cwd"]), played.session, called["env"])
        if not patterns:
            return ""
        plain = patterns[0].replace("/**/", "/drill/").replace("*", "drill")
        for escaped in "[?":
            plain = plain.replace(f"[{escaped}]", escaped)
        return plain


def _halves(text: str) -> tuple[str, str]:
    """The first half of the lines, and the rest."""
    lines = text.splitlines(keepends=True)
    middle = (len(lines) + 1) // 2
    return "".join(lines[:middle]), "".join(lines[middle:])


def _later(fault: Fault | None, recording: Recording, now_ms: int) -> int:
    if fault is None or fault.reset_ms is None or recording.reset_ms is None:
        return fault.later_ms if fault else 0
    plain = part_of(recording, Now(now_ms, "/", "", "UTC", lambda: "")).reset_ms
    return fault.reset_ms - (plain or fault.reset_ms)
