"""Those who want something of the daemon: people with tasks, an operator, an editor, and bad luck."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import trio

from locum.engine.supervisor import Supervisor
from locum.errors import LocumError
from tests.sim.agents import SimProcesses
from tests.sim.clock import SimClock, dice
from tests.sim.daemon import Daemon, Editions
from tests.sim.disk import GoneError
from tests.sim.oracle import Oracle
from tests.sim.setups import ALL_TRIGGERS, Setup, draw_chain, draw_reset, draw_tier
from tests.sim.swarm import Swarm
from tests.sim.trace import Trace

GUARDED_EDITS = (
    "model",
    "rename",
    "remove",
    "add",
    "chains",
    "budget",
    "reset",
    "reorder",
    "triggers",
    "limits",
    "same",
)


@dataclass
class Cast:
    """Everybody, on one stage."""

    seed: int
    swarm: Swarm
    trace: Trace
    clock: SimClock
    daemon: Daemon
    editions: Editions
    processes: SimProcesses
    oracle: Oracle
    root: Path
    over: bool = False
    submitted: list[str] = field(default_factory=list)
    _folders: int = 0
    _tiers: int = 100

    def dice(self, name: str) -> random.Random:
        """A stream of chance for one of them."""
        return dice(self.seed, f"actor {name}")

    @asynccontextmanager
    async def asking(self, who: str, what: str) -> AsyncIterator[Supervisor | None]:
        """Ask the daemon for something; it may be away, refuse, or die meanwhile."""
        boss = self.daemon.boss
        if boss is None or self.daemon.stopping:
            yield None
            return
        self.trace.tell(who, what)
        try:
            yield boss
        except LocumError as error:
            self.trace.tell(who, f"is refused: {type(error).__name__}")
        except GoneError:
            self.trace.tell(who, "loses the connection")

    async def submitter(self) -> None:
        """Tasks come in."""
        chance = self.dice("submitter")
        while not self.over:
            await trio.sleep(chance.expovariate(1 / self.swarm.task_every))
            if not self.over:
                await self.submit(chance, chance.choice(sorted(self.editions.setup.chains)))

    async def submit(self, chance: random.Random, chain: str, *, plain: bool = False) -> str | None:
        """One task; its flaw, if it has one, is in its prompt."""
        if len(self.waiting(chain)) > 1 and not plain:
            return None
        draw = (lambda _name: False) if plain else (lambda name: self.swarm.draw(chance, name))
        flaw = next((name for name in ("poison", "overflow", "invalid") if draw(name)), "plain")
        folder = self.root / "work" / ("shared" if draw("same_cwd") else f"w{self._folders}")
        self._folders += 1
        folder.mkdir(parents=True, exist_ok=True)
        task = None
        async with self.asking("people", f"submit {flaw} to {chain}") as boss:
            if boss:
                shared, hasty = draw("shared"), draw("no_wait")
                made = await boss.submit(chain, f"do: {flaw}".encode(), str(folder), no_wait=hasty, shared_cwd=shared)
                self.submitted.append(made.id)
                task = made.id
        if task and draw("lost_cwd"):
            await trio.sleep(chance.uniform(0, 60))
            folder.rmdir()
        if task and draw("cancel"):
            await trio.sleep(chance.uniform(0, 200))
            await self._cancel(task)
        return task

    def waiting(self, chain: str) -> list[str]:
        """The tasks of a chain that wait, as far as anybody can know."""
        boss = self.daemon.boss
        if boss is None:
            return []
        connection = boss.ledger._database._tx.connection
        return [
            row[0] for row in connection.execute("SELECT id FROM task WHERE chain = ? AND state = 'queued'", (chain,))
        ]

    async def _cancel(self, task: str) -> None:
        async with self.asking("people", f"cancel {task}") as boss:
            if boss:
                self.oracle.cancelled.add(task)
                left = await boss.cancel(task)
                self.oracle.is_cancelled(task, left.state, asked=left.cancel_asked)

    async def operator(self) -> None:
        """Bumps, releases, pauses and resumes."""
        chance = self.dice("operator")
        acts = self.swarm.on("bump", "release", "pause")
        while acts:
            await trio.sleep(chance.expovariate(1 / 1800))
            if self.over:
                return
            chain = chance.choice(sorted(self.editions.setup.chains))
            tier = chance.choice([None, *self.editions.setup.chains[chain].tiers])
            match chance.choice(acts):
                case "bump":
                    await self.bump(chain, tier, chance.choice((None, 60, 3000, 20_000)))
                case "release":
                    await self.release(
                        chain, tier, chance.choice((None, None, "operator", "usage_limit", "token_budget"))
                    )
                case "pause":
                    await self.switch(chain, "paused")
                    await trio.sleep(chance.uniform(1, 1500))
                    await self.switch(chain, "resumed")

    async def bump(self, chain: str, tier: str | None, seconds: int | None) -> None:
        """Take a tier off, for a time or until it is released."""
        until = None if seconds is None else self.clock.now_ms() + seconds * 1000
        order = (chain, tier, until)
        self.oracle.orders.bumps.append(order)
        async with self.asking("operator", f"bump {chain} {tier} for {seconds}") as boss:
            if boss:
                await boss.bump(chain, tier, until, "by hand")
        self.oracle.orders.bumps.remove(order)

    async def release(self, chain: str, tier: str | None, kind: str | None) -> None:
        """Lift holds; none of those meant may be left."""
        from locum.policy.failure import FailureKind

        order = (chain, tier, kind)
        self.oracle.orders.releases.append(order)
        async with self.asking("operator", f"release {chain} {tier} {kind}") as boss:
            if boss:
                await boss.release(chain, tier, FailureKind(kind) if kind else None)
                self.oracle.is_released(chain, tier, kind)
        self.oracle.orders.releases.remove(order)

    async def switch(self, chain: str, what: str) -> None:
        """Pause or resume."""
        self.oracle.orders.pauses.append((chain, what))
        async with self.asking("operator", f"{chain} is to be {what}") as boss:
            if boss:
                await (boss.pause(chain) if what == "paused" else boss.resume(chain))
        self.oracle.orders.pauses.remove((chain, what))

    async def editor(self) -> None:
        """Edits of service.json, good, bad and half-written."""
        chance = self.dice("editor")
        acts = self.swarm.on("edit", "bad_edit", "half_edit")
        while acts:
            await trio.sleep(chance.expovariate(1 / 2000))
            if self.over:
                return
            setup = self.edited(chance)
            match chance.choice(acts):
                case "edit":
                    self.trace.tell("editor", "saves a good file")
                    self.editions.write(setup)
                case "bad_edit":
                    await self._bad_edit(chance)
                    self.editions.write(setup if chance.random() < 0.5 else self.editions.setup)
                case "half_edit":
                    await self._half_edit(chance, setup)

    def edited(self, chance: random.Random) -> Setup:
        """The file with one thing changed, still a good one."""
        setup = self.editions.setup
        tiers, chains, limits = dict(setup.tiers), dict(setup.chains), dict(setup.limits)
        name = chance.choice(sorted(chains))
        chain, tier = chains[name], chance.choice(chains[name].tiers)
        what = chance.choice(GUARDED_EDITS)
        self.trace.tell("editor", f"edits {what} of {name}, {tier}")
        match what:
            case "model":
                tiers[tier] = replace(tiers[tier], model=chance.choice((None, "big", "small", "other")))
            case "rename":
                self._tiers += 1
                tiers[f"t{self._tiers}"] = replace(tiers[tier], name=f"t{self._tiers}")
                chains[name] = replace(chain, tiers=tuple(f"t{self._tiers}" if t == tier else t for t in chain.tiers))
            case "remove" if len(chain.tiers) > 1:
                chains[name] = replace(chain, tiers=tuple(t for t in chain.tiers if t != tier))
            case "add":
                self._tiers += 1
                new = f"t{self._tiers}"
                account = chance.choice(sorted(self.processes.accounts))
                tiers[new] = draw_tier(chance, new, "command", account, budgets=self.swarm.budgets)
                at = chance.randint(0, len(chain.tiers))
                chains[name] = replace(chain, tiers=(*chain.tiers[:at], new, *chain.tiers[at:]))
            case "chains" if name != "default":
                del chains[name]
            case "chains":
                chains[f"c{len(chains) + 5}"] = draw_chain(chance, tiers, budgets=self.swarm.budgets)
            case "budget" if self.swarm.budgets:
                chains[name] = replace(
                    chain, threshold=_other(chance, chain.threshold), halt=_other(chance, chain.halt)
                )
                tiers[tier] = replace(tiers[tier], threshold=_other(chance, tiers[tier].threshold))
            case "reset":
                chains[name] = replace(chain, reset=draw_reset(chance))
            case "reorder":
                chains[name] = replace(chain, tiers=tuple(chance.sample(chain.tiers, len(chain.tiers))))
            case "triggers":
                some = tuple(kind for kind in ALL_TRIGGERS if chance.random() < 0.8)
                chains[name] = replace(chain, triggers=chance.choice((ALL_TRIGGERS, some)))
            case "limits":
                limits |= {"parallel": chance.choice((1, 2, 4)), "attempts": chance.choice((3, 6, 10))}
        listed = {each for one in chains.values() for each in one.tiers}
        return Setup({key: each for key, each in tiers.items() if key in listed}, chains, limits, setup.watched)

    async def _bad_edit(self, chance: random.Random) -> None:
        """A file that cannot be used; it is told once, and changes nothing."""
        import json

        service = self.editions.setup.written()
        text = json.dumps(service)
        bad = chance.choice((
            text[: len(text) // 2], "", "\x00\x00", text.replace('"failover"', '"failovers"'),
            json.dumps({**service, "usage_threshold_tokens": -chance.randint(1, 99)}),
            json.dumps({**service, "nonsense": chance.randint(1, 99)}),
            json.dumps({**service, "failover": {"tiers": ["nobody"]}}),
        ))  # fmt: skip
        await self._save_bad(bad, chance.uniform(1, 400))

    async def _half_edit(self, chance: random.Random, setup: Setup) -> None:
        """A file written in place, in two halves."""
        import json

        text = json.dumps(setup.written())
        await self._save_bad(text[: chance.randint(1, len(text) - 2)], chance.uniform(0.05, 3))
        self.editions.write(setup)

    async def _save_bad(self, text: str, seconds: float) -> None:
        boss, before = self.daemon.boss, self.oracle.rejections
        self.trace.fault("editor", f"saves a bad file for {seconds:.1f} s")
        self.editions.bad_since = trio.current_time()
        self.editions.save(text)
        await trio.sleep(seconds / 2)
        self.editions.tell()  # nothing has changed, and somebody was woken all the same
        await trio.sleep(seconds / 2)
        steady = boss is not None and boss is self.daemon.boss and self.daemon.steady_for > seconds + 5
        told = self.oracle.rejections - before
        if (steady and seconds > 60 and told != 1) or told > self.daemon.starts:
            self.oracle.broken("config", f"a bad file was told {told} times")

    async def bad_luck(self) -> None:
        """The daemon is killed, stopped or the host rebooted."""
        chance = self.dice("bad luck")
        acts = self.swarm.on("kill", "stop", "reboot", "kill_at_commit")
        while acts:
            await trio.sleep(chance.expovariate(1 / 1500))
            if self.over:
                return
            match chance.choice(acts):
                case "kill":
                    self.daemon.kill()
                case "stop":
                    await self.daemon.stop()
                case "kill_at_commit":
                    self.daemon.kill_in = chance.randint(1, 60)
                case "reboot":
                    self.trace.fault("host", "loses power")
                    self.daemon.kill()
                    self.processes.reboot()
                    self.oracle.tasks.ended_with_the_host()
                    self.clock.booted = trio.current_time()

    async def clockmaker(self) -> None:
        """The wall clock is set, or the host sleeps for a while."""
        chance = self.dice("clockmaker")
        acts = self.swarm.on("small_steps", "big_steps", "suspend")
        while acts:
            await trio.sleep(chance.expovariate(1 / 4000))
            if self.over:
                return
            match chance.choice(acts):
                case "small_steps":
                    seconds = chance.uniform(-50, 50)
                case "suspend":
                    seconds = chance.uniform(600, 30_000)
                case _:
                    seconds = chance.choice((-1, 1)) * chance.choice((300, 7200, 100_000, 300_000))
            self.trace.fault("clock", f"steps by {seconds:.0f} s")
            self.oracle.stepped = trio.current_time()
            self.clock.step(seconds)


def _other(chance: random.Random, limit: int | None) -> int | None:
    """A limit that is higher, lower or gone."""
    if limit is None:
        return chance.choice((None, chance.randint(5_000, 150_000)))
    return chance.choice((None, limit * 2, max(1000, limit // 3), limit))
