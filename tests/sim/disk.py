"""A disk that fails: inside the transaction, so that the real way back is walked."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import apsw
import trio

from locum.errors import StateError
from locum.store.sqlite import Database
from locum.store.worker import Batch, Job, Lane
from tests.sim.clock import dice, elapsed
from tests.sim.swarm import Swarm
from tests.sim.trace import Trace

T = TypeVar("T")
PLENTY = 1 << 40
MOST_CALLS = 2_000
"""Calls of the ledger at one virtual instant, after which the daemon is said to spin."""


class GoneError(Exception):
    """The daemon died while somebody was talking to it: like a connection that breaks."""


@dataclass
class Disk:
    """The host's disk, over all daemons that use it one after another."""

    swarm: Swarm
    trace: Trace
    seed: int
    quiet: bool = False
    outage_until: float = 0.0
    low_until: float = 0.0
    troubled: float = -1000.0  # when something last failed
    _dice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._dice = dice(self.seed, "disk")

    async def live(self) -> None:
        """Outages come and go."""
        kinds = self.swarm.on("disk_outages", "disk_low")
        while kinds:
            await trio.sleep(self._dice.expovariate(1 / 3000))
            if self.quiet:
                return
            kind, lasts = self._dice.choice(kinds), self._dice.choice((3.0, 30.0, 200.0))
            self.trace.fault("disk", f"{kind} for {lasts:.0f} s")
            if kind == "disk_low":
                self.low_until = elapsed() + lasts * 3
            else:
                self.outage_until = elapsed() + lasts
            await trio.sleep(lasts)

    def heal(self) -> None:
        """All is well from now on."""
        self.quiet, self.outage_until, self.low_until = True, 0.0, 0.0

    def free_bytes(self, _folder: object) -> int:
        """Free space."""
        if elapsed() < self.low_until:
            self.troubled = elapsed()
            return 0
        return PLENTY

    def just_failed(self) -> bool:
        """Whether somebody may still be waiting for it to get better."""
        return elapsed() - self.troubled < 5

    def others_first(self) -> bool:
        """Whether somebody else gets a turn before this read: always would be slow, and never would be tame."""
        return self._dice.random() < 0.25

    def refuse_folder(self) -> None:
        """Raise what a full disk raises, if it is one."""
        if not self.quiet and (elapsed() < self.outage_until or self.swarm.draw(self._dice, "spool_full")):
            self.troubled = elapsed()
            self.trace.fault("disk", "no new folder")
            raise OSError(errno.ENOSPC, "no space left on device")

    def spoil(self, *, writes: bool) -> apsw.Error | None:
        """What goes wrong with the next transaction, if anything does."""
        if self.quiet:
            return None
        sporadic = self.swarm.rate("disk_errors") / 10
        bad = 0.7 if elapsed() < self.outage_until else sporadic if writes else sporadic / 4
        if not bad or self._dice.random() >= bad:
            return None
        self.troubled = elapsed()
        self.trace.fault("disk", f"a {'write' if writes else 'read'} fails")
        return apsw.FullError("database or disk is full") if writes else apsw.IOError("disk I/O error")


class FaultyWorker:
    """Does everything at once, in the caller, on a disk that fails at times."""

    def __init__(
        self,
        disk: Disk,
        seen: Callable[[Database[Any]], None],
        at_call: Callable[[], bool],
        broken: Callable[[str, str], None],
    ) -> None:
        """`seen` looks at what each write has left; `at_call` says whether the daemon dies at this very call."""
        self.disk, self.seen, self.at_call, self.broken = disk, seen, at_call, broken
        self.instant = (0.0, 0)  # a moment, and how many calls there were in it
        self.dead = False
        self.databases: list[Database[Any]] = []

    def lane(self, name: str, batch: Batch, most: int) -> Lane:
        """A lane without a thread."""
        database: Database[Any] = batch.__self__  # type: ignore[attr-defined]
        if database not in self.databases:
            self.databases.append(database)
        return _FaultyLane(self, batch, database, writes=name.endswith("writer"))

    async def aside(self, work: Callable[[], T]) -> T:
        """Work that waits for the disk, at once."""
        await self.step()
        return work()

    async def step(self) -> None:
        """Let others go first; never come back from a dead daemon."""
        await trio.lowlevel.checkpoint()
        if self.dead:
            raise GoneError

    def count(self) -> None:
        """Time stands still while there is work: work without end is a loop that a real host would burn in."""
        at, calls = self.instant
        self.instant = (at, calls + 1) if at == elapsed() else (elapsed(), 1)
        if calls > MOST_CALLS:
            self.broken("busy", f"{calls} calls of the ledger in one instant")

    def die(self) -> None:
        """Nothing of this daemon is used again; the kernel closes its files."""
        self.dead = True
        for database in self.databases:
            database._sql.connection.close()
            database._tx.connection.close()


class _FaultyLane:
    def __init__(self, worker: FaultyWorker, batch: Batch, database: Database[Any], *, writes: bool) -> None:
        self._worker, self._batch, self._database, self._writes = worker, batch, database, writes
        self._closed = False

    async def call(self, work: Callable[[Any], Any]) -> Any:
        self._worker.count()
        if self._writes or self._worker.dead or self._worker.disk.others_first():
            await self._worker.step()
        if self._closed:
            raise StateError("the ledger is closed")
        if self._worker.at_call():
            await self._worker.step()
        error = self._worker.disk.spoil(writes=self._writes)
        job = Job(work if error is None else _spoiled(work, error))
        self._batch([job])
        if self._writes:
            self._worker.seen(self._database)
            if self._worker.at_call():  # it is on disk, but nobody will hear of it
                await self._worker.step()
        return job.outcome()

    async def close(self) -> None:
        self._closed = True


def _spoiled(work: Callable[[Any], Any], error: apsw.Error) -> Callable[[Any], Any]:
    def fails(sql: Any) -> Any:
        work(sql)
        raise error

    return fails
