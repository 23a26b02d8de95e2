"""Watched, imported, read by its run and told by hooks, in any order and with any interruption: tokens count once."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st

from locum.agents.base import Line, Source
from locum.agents.registry import AGENTS
from locum.engine.history import _known
from locum.engine.homes import owners
from locum.engine.scan import scan
from locum.engine.sources import Sources
from locum.errors import StateError
from locum.policy.report import payer_of
from locum.policy.task import Ending, Run, RunState
from locum.policy.usage import Tokens, Usage
from locum.store import transcripts
from locum.store.transcripts import Share
from locum.words import iso
from tests.ledgers import task_of
from tests.unit.engine.watching import service
from tests.unit.web.asgi import supervised
from tests.unit.web.sessions import row

TIER = {"name": "max", "agent": "claude-code"}
CLAUDE = AGENTS["claude-code"]
SESSIONS = ("person", "run-1")
MOVES = (
    *[("write", "run-1")] * 4,
    *[("look", "")] * 4,
    *[("start", "run-1")] * 2,
    *[("write", "person")] * 2,
    *[("end told", "run-1"), ("end", "run-1"), ("tell", "run-1"), ("read", "run-1"), ("hook", "run-1")],
    *[
        ("late", "run-1"),
        ("hook", "person"),
        ("glance", ""),
        ("restart", ""),
        ("fail", ""),
        ("fork", ""),
        ("rotate", ""),
    ],
    *[("load", "half"), ("load", "whole")],
)
acts = st.lists(st.sampled_from(MOVES), min_size=6, max_size=30)
LATE = 1000
# What is durable is not asked here.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


@dataclass
class World:
    """One home, a daemon that may be restarted, and what was really spent."""

    folder: Path
    boss: object = None
    rows: int = 0
    truth: int = 0
    wrote: dict[str, int] = field(default_factory=dict)
    state: dict[str, str] = field(default_factory=dict)  # of each run: started, told, ended
    began_ms: int = 0
    late_ms: int | None = None  # when the run has spent what it writes only after its end

    def path(self, session: str) -> Path:
        """Where a session's transcript lies."""
        found = self.folder / ".claude/projects/-srv" / f"{session}.jsonl"
        found.parent.mkdir(parents=True, exist_ok=True)
        return found

    def usages(self, session: str) -> list[Usage]:
        """All that a session's transcript tells."""
        data = self.path(session).read_bytes() if self.path(session).exists() else b""
        lines = [Line(Source.TRANSCRIPT, each) for each in data.splitlines()]
        return [told for line in lines for told in CLAUDE.read(line) if isinstance(told, Usage)]

    async def write(self, session: str) -> None:
        """A person, or a run that is in progress, spends."""
        if session != "person" and self.state.get(session) not in ("started", "told"):
            return
        self.rows += 1
        with self.path(session).open("ab") as file:
            file.write(row(session, f"m{self.rows}", self.rows))
        self.truth += self.rows
        self.wrote[session] = self.wrote.get(session, 0) + self.rows

    async def hook(self, session: str) -> None:
        """A hook has the transcript read; those of a run are not heeded while it lives."""
        if self.state.get(session) not in ("started", "told"):
            payer = payer_of("claude-code", None, session)
            await self.boss.ledger.record_outside(payer, self.usages(session), self.now())

    async def read(self, session: str) -> None:
        """A run that has told its session reads its transcript."""
        if self.state.get(session) == "told":
            await self.boss.ledger.record(session, self.usages(session), self.now())

    async def start(self, session: str) -> None:
        """A run begins; what its session is called is not known yet."""
        if session in self.state:
            return
        self.state[session], self.began_ms = "started", self.now()
        number, tier = SESSIONS.index(session), self.boss.ledger.plan.tiers["max"]
        await self.boss.ledger.submit(task_of(number), b"")
        run = Run(session, task_of(number).id, 1, "default", tier, "/", RunState.RUNNING, self.now())
        await self.boss.ledger.start_run(run, self.now())

    async def tell(self, session: str) -> None:
        """The run's stream has named its session."""
        if self.state.get(session) == "started":
            self.state[session] = "told"
            await self.boss.ledger.saw_session(session, session, self.now())

    async def end(self, session: str, *, told: bool = False) -> None:
        """The run is read to its end, with or without a total of its own."""
        if self.state.get(session) in ("started", "told"):
            await self.tell(session)
            await self.read(session)
            self.state[session] = "ended"
            await anyio.sleep(0.002)  # a process takes longer to end
            self.late_ms = (self.began_ms + self.now()) // 2
            self.wrote[session] = self.wrote.get(session, 0) + LATE
            self.truth += LATE
            total = Tokens(self.wrote[session]) if told else None
            await self.boss.ledger.end_run(session, Ending(RunState.SUCCEEDED, 0, total=total), None, self.now())

    async def late(self, session: str) -> None:
        """A row that was not there yet when the run was read for the last time."""
        if self.late_ms is not None:
            late = json.loads(row(session, "late", LATE)) | {"timestamp": iso(self.late_ms)}  # to the millisecond
            with self.path(session).open("ab") as file:
                file.write(json.dumps(late).encode() + b"\n")

    async def look(self) -> None:
        """Everything is looked at."""
        await self.boss.sources._look()

    async def glance(self) -> None:
        """There was an event for each file."""
        for path in [str(self.path(session)) for session in SESSIONS]:
            if self.boss.sources._glance({path}):
                await self.look()
        await self.boss.sources._read_all()

    async def load(self, how: str) -> None:
        """The whole history is imported, or as much of it as there was before the import ended half way."""
        home, ledger = self.boss.sources.watched[0].home, self.boss.ledger
        read = await ledger.transcripts.below(home.agent.name, home.folder)
        for path in [str(self.path(session)) for session in SESSIONS if self.path(session).exists()]:
            for piece in scan(home.agent, _known(home, read.get(path), path, 0), home.folder, owners(home.folder)):
                share = Share(piece.found, self.boss.sources.payer(home, piece.found.session), piece.usages)
                await ledger.record_history([share], self.now())
            if how == "half":
                return
        await ledger.look_back([], self.now())
        self.boss.sources.refresh()

    async def restart(self) -> None:
        """Kill -9: what was only in memory is gone."""
        old = self.boss.sources
        made = (old.ledger, old.clock, old.seats, old.redactor, old.place_of, old.bell, old.stopping, old.worker)
        self.boss.sources = Sources(*made)
        await self.boss.sources._begin()

    async def fail(self) -> None:
        """The disk refuses the commit in its midst; then the daemon begins anew."""
        kept = transcripts.record

        def refuse(tx, told, now_ms):
            kept(tx, told, now_ms)
            raise StateError("full")

        transcripts.record = refuse
        try:
            await self.look()
        except StateError:
            pass
        finally:
            transcripts.record = kept
        await self.boss.sources._begin()

    async def fork(self) -> None:
        """A session is copied into another."""
        if self.path("person").exists():
            data = self.path("person").read_bytes()
            self.path(f"fork-{self.rows}").write_bytes(data.replace(b'"person"', b'"fork"'))

    async def rotate(self) -> None:
        """A file is replaced by one that holds the same and comes under another inode."""
        path = self.path("person")
        if path.exists():
            shutil.copyfile(path, path.with_suffix(".new"))
            path.with_suffix(".new").rename(path)

    def now(self) -> int:
        """The daemon's clock."""
        return self.boss.clock.now_ms()


@given(acts)
@settings(deadline=None, max_examples=60)
def test_a_sessions_tokens_count_once_in_any_order(done):
    """At the end every row was counted exactly once, each run holds what it wrote, and the books add up."""

    async def play() -> None:
        with tempfile.TemporaryDirectory(dir=MEMORY) as name:
            folder = Path(name)
            async with supervised(folder, service(TIER)) as boss:
                world = World(folder, boss)
                await boss.sources._begin()
                await anyio.sleep(0.002)
                for act, session in done:
                    if act == "end told":
                        await world.end(session, told=True)
                    else:
                        await getattr(world, act)(*([session] if session else []))
                for session in SESSIONS[1:]:
                    await world.end(session)
                    await world.late(session)
                await world.look()
                ledger = boss.ledger
                assert (await ledger.usage("total", world.now())).totals == Tokens(world.truth)
                for session in SESSIONS[1:]:
                    if session in world.state:
                        assert await ledger.run_tokens(session) == Tokens(world.wrote.get(session, 0))
                assert (await ledger.audit()).problems == ()

    anyio.run(play)
