"""Agents that live in the world: they outlive the daemon, and what they spend is the truth."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import trio

from locum.engine.process import Spawn
from tests.sim.accounts import Account, Refusal
from tests.sim.clock import SimClock, dice, elapsed
from tests.sim.swarm import Swarm
from tests.sim.trace import Trace

SOFT = frozenset({"crash", "stalled", "no_result", "unknown"})
Counts = tuple[int, int, int, int]
NOTHING: Counts = (0, 0, 0, 0)


def plus(one: Counts, other: Counts) -> Counts:
    """The sum, type by type."""
    return tuple(a + b for a, b in zip(one, other, strict=True))  # type: ignore[return-value]


@dataclass
class Truth:
    """What one run really was: what it spent and how it ended, as far as it could be seen from outside."""

    run: str
    task: str
    chain: str
    tier: str
    account: str
    counts: dict[str, Counts] = field(default_factory=dict)
    total: Counts | None = None  # what the agent says it was in all
    told: Refusal | str | None = None  # the last it said of its end: a refusal, "ok" or nothing
    code: int | None = None
    over: bool = False
    hangs: bool = False
    started: bool = True

    def seen(self, key: str, counts: Counts) -> None:
        """A count that can be read now: the largest of each type is what was spent."""
        before = self.counts.get(key, NOTHING)
        self.counts[key] = tuple(max(a, b) for a, b in zip(before, counts, strict=True))  # type: ignore[assignment]

    @property
    def tokens(self) -> Counts:
        """What the ledger must hold for this run in the end."""
        if self.total is not None:
            return self.total
        spent = NOTHING
        for counts in self.counts.values():
            spent = plus(spent, counts)
        return spent


@dataclass
class SimProcess:
    """One run's process group."""

    truth: Truth
    pid: int
    folder: Path
    clock: SimClock
    stubborn: bool = False
    gone: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    killed: bool = False

    async def live(self, script: Callable[[], Awaitable[int | None]]) -> None:
        """From the first instruction to the exit code, if there is one to be written."""
        with self.scope:
            (self.folder / "pid").write_text(f"{self.pid}\n")
            self.truth.code = await script()
        if self.scope.cancelled_caught:
            self.truth.code = None if self.killed else 143
        self.end()

    def end(self) -> None:
        """Nothing is written after this."""
        truth = self.truth
        if truth.code is not None:
            new = self.folder / "exit.new"
            new.write_text(f"{truth.code}\n")
            at_ns = self.clock.now_ms() * 1_000_000
            os.utime(new, ns=(at_ns, at_ns))
            new.rename(self.folder / "exit")
        truth.over = True
        self.gone.set()

    def kill(self) -> None:
        """The end, now."""
        self.killed = True
        self.scope.cancel()

    async def wait(self) -> None:
        """Return when it is gone."""
        await self.gone.wait()

    async def stop(self, grace: float) -> None:
        """TERM, some patience, KILL."""
        await trio.lowlevel.checkpoint()
        if not self.stubborn:
            self.scope.cancel()
        with trio.move_on_after(grace):
            await self.gone.wait()
        if not self.gone.is_set():
            self.kill()
            await self.gone.wait()

    async def sweep(self) -> int:
        """Nothing ever escapes here."""
        await trio.lowlevel.checkpoint()
        return 0

    def has_children(self) -> bool:
        """No tool keeps it silent."""
        return False


@dataclass
class SimProcesses:
    """The host's process table, and the truth about everything that ever ran."""

    swarm: Swarm
    trace: Trace
    clock: SimClock
    seed: int
    accounts: dict[str, Account]
    account_of: Callable[[str], tuple[str, str | None]]  # tier: its account and model, as it is started now
    broken: Callable[[str, str], None]
    nursery: trio.Nursery | None = None
    alive: dict[str, SimProcess] = field(default_factory=dict)
    truths: dict[str, Truth] = field(default_factory=dict)
    flags: dict[str, str] = field(default_factory=dict)  # by task
    quiet: bool = False
    boots: int = 1
    seconds: float = 0.0  # that agents have run, in all
    _number: int = 0
    _dice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._dice = dice(self.seed, "processes")

    def boot(self) -> str:
        """Which start of the host this is."""
        return f"boot {self.boots}"

    def start(self, spawn: Spawn) -> SimProcess:
        """Start what was asked for; the host may have no room for it."""
        from tests.sim.scripts import CLAUDE, script_of

        env = spawn.env
        account, model = self.account_of(env["LOCUM_TIER"])
        truth = Truth(spawn.run, env["LOCUM_TASK"], env["LOCUM_CHAIN"], env["LOCUM_TIER"], account)
        if spawn.run in self.truths:
            self.broken("processes", f"run {spawn.run} was started twice")
        self.truths[spawn.run] = truth
        if not self.quiet and self.swarm.draw(self._dice, "no_processes"):
            truth.started, truth.over = False, True
            self.trace.fault("host", f"no process for {spawn.run}")
            raise OSError(errno.EAGAIN, "no more processes")
        twins = [each for each in self.alive.values() if each.truth.task == truth.task]
        if twins:
            self.broken(
                "processes", f"task {truth.task} runs twice at the same time: {spawn.run}, {twins[0].truth.run}"
            )
        self._number += 1
        process = SimProcess(truth, 1000 + self._number, spawn.folder, self.clock)
        process.stubborn = not self.quiet and self.swarm.draw(self._dice, "stubborn")
        self.alive[spawn.run] = process
        flag = self.flags.setdefault(truth.task, (spawn.folder / "stdin").read_text().rpartition("do:")[2].strip())
        claude = spawn.argv[0] == CLAUDE
        script = script_of(self, process, spawn, self.accounts[account], model, flag, claude=claude)
        assert self.nursery is not None
        self.nursery.start_soon(self._live, process, script)
        return process

    async def _live(self, process: SimProcess, script: Callable[[], Awaitable[int | None]]) -> None:
        began = elapsed()
        await process.live(script)
        self.seconds += elapsed() - began
        truth = process.truth
        self.alive.pop(truth.run, None)
        self.trace.tell("agent", f"{truth.run} on {truth.tier} ends with {truth.code}: {truth.told} {truth.tokens}")

    def chance(self, name: str) -> bool:
        """Whether an agent misbehaves so now."""
        return not self.quiet and self.swarm.draw(self._dice, name)

    async def find(self, run: str, folder: Path) -> SimProcess | None:
        """The run's process, if it lives."""
        await trio.lowlevel.checkpoint()
        return self.alive.get(run)

    async def sweep(self, run: str) -> int:
        """Nothing is ever left."""
        await trio.lowlevel.checkpoint()
        return 0

    def reboot(self) -> None:
        """The power is gone: so is everything that ran."""
        self.boots += 1
        for process in list(self.alive.values()):
            process.kill()
