"""One simulation: the real daemon's parts in a world of the seed's, from its first second to the verdict."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import structlog
import trio
import trio.testing

from locum.engine import runner, supervisor
from locum.engine.spool import Spool
from tests.sim.accounts import Account
from tests.sim.actors import Cast
from tests.sim.agents import SimProcesses
from tests.sim.clock import SimClock, dice, elapsed
from tests.sim.daemon import Daemon, Editions
from tests.sim.disk import Disk, GoneError
from tests.sim.law import HOUR, LONGEST, Law
from tests.sim.oracle import Oracle
from tests.sim.sessions import Reporter
from tests.sim.setups import draw_setup
from tests.sim.strangers import Strangers
from tests.sim.swarm import Swarm, draw_swarm
from tests.sim.trace import Trace
from tests.sim.witness import Witness

HOURS = 6.0
STUCK_AFTER = 60.0
"""Virtual hours after which a simulation that has not come to its end never will."""
SHM = Path("/dev/shm")
WATCHED = float(os.environ.get("LOCUM_SIM_WATCHED", "0.4"))
"""The share of the seeds with Claude Code in which homes are watched, and people work in them without hooks."""
BUGS = ("run_not_understood", "sources_not_understood", "transcript_not_understood")
"""Lines of the daemon's own log that only a bug of its own writes."""


@dataclass
class Report:
    """What came of one seed."""

    seed: int
    broken: tuple[str, str] | None  # the oracle that spoke first, and what it said
    digest: str
    trace: Trace
    swarm: Swarm
    figures: dict[str, float] = field(default_factory=dict)


def simulate(seed: int, hours: float = HOURS) -> Report:
    """Run one seed to its verdict. Nothing in it depends on anything but the seed."""
    folder = Path(tempfile.mkdtemp(prefix="locum-sim-", dir=SHM if SHM.is_dir() else None))
    try:
        with _seeded_scheduler(seed):
            options = {"clock": trio.testing.MockClock(autojump_threshold=0)}
            return anyio.run(_simulate, seed, hours, folder, backend="trio", backend_options=options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _seeded_scheduler(seed: int) -> Iterator[None]:
    """Trio shuffles tasks that are ready together: by the seed, and the same each time."""
    run: Any = trio._core._run
    before = run._ALLOW_DETERMINISTIC_SCHEDULING
    run._ALLOW_DETERMINISTIC_SCHEDULING = True
    run._r.seed(seed)
    try:
        yield
    finally:
        run._ALLOW_DETERMINISTIC_SCHEDULING = before


@contextmanager
def _patched(world: World) -> Iterator[None]:
    """A slow host, a small disk, and a log that is read."""
    create = Spool.create

    def refusing(self: Spool, prompt: str) -> None:
        world.disk.refuse_folder()
        create(self, prompt)

    patches: list[tuple[Any, str, Any]] = [
        (runner, "LOOK_EVERY", world.swarm.look_every),
        (runner, "TRANSCRIPTS_EVERY", world.swarm.look_every * 2),
        (supervisor, "LONGEST_SLEEP", supervisor.LONGEST_SLEEP),
        (supervisor, "free_bytes", world.disk.free_bytes),
        (Spool, "create", refusing),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in patches]
    for owner, name, value in patches:
        setattr(owner, name, value)
    structlog.configure(processors=[world.log], logger_factory=structlog.ReturnLoggerFactory())
    try:
        yield
    finally:
        structlog.reset_defaults()
        for owner, name, value in before:
            setattr(owner, name, value)


class World:
    """Everything there is."""

    def __init__(self, seed: int, root: Path) -> None:
        chance = dice(seed, "world")
        self.seed, self.root = seed, root
        self.first_broken: tuple[str, str] | None = None
        self.scope = trio.CancelScope()
        self.swarm = draw_swarm(chance)
        self.swarm.watched = self.swarm.claude and dice(seed, "watched").random() < WATCHED
        if self.swarm.watched:  # whose a row is, and whether it is history, goes by its date
            self.swarm.rates = {name: rate for name, rate in self.swarm.rates.items() if not name.endswith("_steps")}
        self.clock = SimClock(seed)
        self.trace = Trace(self.clock, root)
        setup = draw_setup(chance, budgets=self.swarm.budgets, claude=self.swarm.claude)
        setup = replace(setup, watched=self.swarm.watched)
        self.trace.tell("seed", f"{seed}: {self.swarm}")
        self.trace.tell("seed", f"{setup}")
        names = sorted({tier.account for tier in setup.tiers.values()})
        self.accounts = {
            name: Account(name, root / f"home-{name}", self.swarm, self.trace, self.clock, seed) for name in names
        }
        self.disk = Disk(self.swarm, self.trace, seed)
        self.processes = SimProcesses(
            self.swarm, self.trace, self.clock, seed, self.accounts, self._account_of, self.broken
        )
        self.editions = Editions(root / "service.json", setup)
        self.editions.write(setup)
        self.law = Law(setup)
        self.witness = Witness(
            self.clock, self.trace, self.editions.history, self._judge, self.broken, self.disk.just_failed
        )
        self.daemon = Daemon(
            root, self.clock, self.disk, self.processes, self.editions, self.trace, seed, self.witness.look, self.broken
        )
        self.oracle = Oracle(self.law, self.clock, self.processes, self.daemon, self.broken)
        self.cast = Cast(
            seed, self.swarm, self.trace, self.clock, self.daemon, self.editions, self.processes, self.oracle, root
        )
        self.reporter = Reporter(self.cast)
        self.strangers = Strangers(self.cast)
        self.audits: random.Random = dice(seed, "audits")

    def broken(self, oracle: str, what: str) -> None:
        """A promise is broken: the first one ends the simulation."""
        if self.first_broken is None:
            self.first_broken = (oracle, what.replace(str(self.root), ""))
            self.trace.tell("BROKEN", f"{oracle}: {self.first_broken[1]}")
            self.scope.cancel()

    def log(self, logger: Any, method: str, event: dict[str, Any]) -> str:
        """The daemon's own log."""
        if event["event"] in BUGS:
            import sys

            self.broken("bug", f"{event['event']}: {sys.exc_info()[1]!r}")
        if event["event"] in ("run_put_off", "run_not_wanted"):
            self.oracle.tasks.put_off = elapsed()
        return self.trace.log(logger, method, event)

    def _judge(self, commit: Any, database: Any) -> None:
        if self.first_broken is None:
            self.oracle.judge(commit, database)

    def _account_of(self, tier: str) -> tuple[str, str | None]:
        assert self.daemon.boss is not None
        entry = self.daemon.boss.attempts.seats.entry(tier)
        return str(entry.account), entry.model

    async def live(self, hours: float) -> None:
        """The hours with trouble, and then the quiet."""
        async with trio.open_nursery() as nursery:
            self.processes.nursery = nursery
            cast = self.cast
            actors: list[Callable[[], Any]] = [
                self.daemon.keep,
                self.disk.live,
                *(a.live for a in self.accounts.values()),
            ]
            actors += [
                self.reporter.work,
                self.strangers.work,
                cast.submitter,
                cast.operator,
                cast.editor,
                cast.bad_luck,
                cast.clockmaker,
                self._watch,
            ]
            for actor in actors:
                nursery.start_soon(actor)
            await trio.sleep(hours * 3600)
            await self._quiet()
            await self._liveness()
            for session in self.reporter.sessions.values():
                await self.reporter.finish(session)
            await trio.sleep(30)
            await self._last_audit()
            self.daemon.finished = True
            if self.daemon.boss:
                self.oracle.add_up(self.daemon.boss.ledger._database)
                spent = {(session.id, session.account): session.spent for session in self.reporter.sessions.values()}
                self.oracle.add_up_outside(self.daemon.boss.ledger._database, spent, self.strangers.told)
                await self.daemon.stop()
            nursery.cancel_scope.cancel()

    async def _last_audit(self) -> None:
        """Have the books audited; a daemon that was doomed before all was quiet may die under it, and the next is asked."""
        try:
            await self.oracle.audit()
        except GoneError:
            await trio.sleep(120)
            await self.oracle.audit()

    async def _watch(self) -> None:
        while True:
            await trio.sleep(97)
            await self.oracle.look_around()
            if self.daemon.steady_for > 60 and self.audits.random() < 0.02:
                try:
                    await self.oracle.audit()
                except Exception as error:  # noqa: BLE001 - the daemon may die under the question
                    self.trace.tell("audit", f"was not answered: {type(error).__name__}")

    async def _quiet(self) -> None:
        """All faults stop: vendors are well, the disk is fine, the clock ticks, the file is good, nobody holds."""
        self.trace.tell("world", "all trouble ends")
        self.cast.over = self.processes.quiet = True
        self.disk.heal()
        for account in self.accounts.values():
            account.mend()
        self.editions.write(self.editions.setup)
        while self.daemon.steady_for < 5:  # noqa: ASYNC110 - nobody says when it will have been up for so long
            await trio.sleep(1)
        for chain in self.editions.setup.chains:
            await self.cast.release(chain, None, "operator")
            await self.cast.switch(chain, "resumed")

    async def _liveness(self) -> None:
        """Within twice the longest back-off every chain with a usable tier does a fresh task, and all old ones end."""
        chance = dice(self.seed, "liveness")
        await trio.sleep(35)
        fresh: dict[str, str | None] = dict.fromkeys(self.editions.setup.chains)
        patient, deadline = elapsed() + 1800, elapsed() + 2 * LONGEST / 1000
        self.usable_by = self.clock.now_ms() + 2 * LONGEST - HOUR
        while elapsed() < deadline:
            for chain, task in fresh.items():
                if task is None:
                    fresh[chain] = await self.cast.submit(chance, chain, plain=True)
            await trio.sleep(45 if elapsed() < patient else 900)
            if elapsed() > patient:
                supervisor.LONGEST_SLEEP = (
                    600.0  # what is left waits for a hold to end: that wakes the daemon by itself
                )
            if not self._due() and all(fresh[chain] or not self._usable(chain, set()) for chain in fresh):
                return
        self.broken("liveness", f"after twice the longest back-off these still wait: {self._due()}")

    def _due(self) -> list[dict[str, Any]]:
        """The tasks that have not ended, and have a tier that no lawful hold takes from them beyond the deadline."""
        assert self.daemon.boss is not None
        rows = self.daemon.boss.ledger._database._tx.connection.execute(
            "SELECT id, chain, state FROM task WHERE state IN ('queued', 'running')"
        )
        return [
            {"id": name, "chain": chain, "state": state}
            for name, chain, state in rows
            if state == "running" or self._usable(chain, self.oracle.tasks.of(name).avoided)
        ]

    def _usable(self, chain: str, avoided: set[str]) -> bool:
        """Whether some tier of the chain is free, or will be well before the deadline."""
        law, now = self.law, self.clock.now_ms()
        return any(
            all(hold.until is not None and hold.until < self.usable_by for hold in law.held(chain, tier, now))
            for tier in law.tiers(chain)
            if tier.name not in avoided
        )


async def _simulate(seed: int, hours: float, folder: Path) -> Report:
    world = World(seed, folder)
    with _patched(world), world.scope:
        with trio.move_on_after((hours + STUCK_AFTER) * 3600) as patience:
            await world.live(hours)
        if patience.cancelled_caught:
            world.broken("stuck", "it does not come to its end")
    figures = {
        "hours": elapsed() / 3600,
        "agent_hours": world.processes.seconds / 3600,
        "runs": len(world.processes.truths),
        "tasks": len(world.cast.submitted),
        "commits": world.witness.commits,
        "events": world.witness.event,
        "notices": world.witness.notice,
        "faults": world.trace.faults,
        "starts": world.daemon.starts,
        "hooks": world.reporter.asked,
        "unheard": len(world.strangers.told),
        "crossings": world.oracle.budgets.crossings,
    }
    return Report(seed, world.first_broken, world.trace.digest(), world.trace, world.swarm, figures)
