"""Claude Code that people run themselves: its hooks are told twice, late and out of order, its rows come when they come."""

from __future__ import annotations

import json
import os
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from locum.web.app import build
from locum.web.peer import Peer
from tests.sim.accounts import iso, line
from tests.sim.actors import Cast
from tests.sim.agents import NOTHING, Counts, plus
from tests.sim.scripts import CLAUDE_ERRORS, CLAUDE_NAMES
from tests.unit.web.asgi import Caller

PATIENCE = 60.0
FAILS = ("auth_error", "credit_exhausted", "overloaded", "server_error", "rate_limit", "invalid_request")


@dataclass
class Session:
    """One session, and what it has really spent."""

    id: str
    chain: str
    tier: str
    account: str
    transcript: Path
    turn: int = 0
    spent: Counts = NOTHING
    told: list[dict[str, Any]] = field(default_factory=list)  # hooks, to be told again


@dataclass
class Reporter:
    """Somebody who works beside the daemon, on the same accounts."""

    cast: Cast
    sessions: dict[str, Session] = field(default_factory=dict)
    asked: int = 0
    blocked: int = 0

    async def work(self) -> None:
        """Sessions come and go, some at the same time."""
        cast, chance = self.cast, self.cast.dice("reporter")
        if not cast.swarm.claude or chance.random() < 0.3:
            return
        async with trio.open_nursery() as nursery:
            while not cast.over:
                await trio.sleep(chance.expovariate(1 / 1500))
                if not cast.over and (session := self._begin(chance)):
                    nursery.start_soon(self._live, session, chance)

    def _begin(self, chance: random.Random) -> Session | None:
        setup = self.cast.editions.setup
        places = [
            (name, tier)
            for name, chain in setup.chains.items()
            for tier in chain.tiers
            if setup.tiers[tier].agent == "claude-code"
        ]
        if not places:
            return None
        chain, tier = chance.choice(places)
        name = f"out-{len(self.sessions)}"
        account = setup.tiers[tier].account
        folder = self.cast.processes.accounts[account].folder / "projects" / "mine"
        folder.mkdir(parents=True, exist_ok=True)
        session = self.sessions[name] = Session(name, chain, tier, account, folder / f"{name}.jsonl")
        return session

    async def _live(self, session: Session, chance: random.Random) -> None:
        for _ in range(chance.randint(1, 4)):
            session.turn += 1
            answer = await self._ask(session, "UserPromptSubmit")
            if self.cast.over or (answer and answer.get("decision") == "block"):
                break
            for number in range(chance.randint(1, 3)):
                await trio.sleep(chance.uniform(1, 90))
                self._spend(session, number, chance)
                if chance.random() < 0.3:
                    await self._ask(session, "PreToolUse")
            await self._ends(session, chance)
            if chance.random() < 0.3:
                self._spend(session, 9, chance)  # the last row comes after its hook
            await trio.sleep(chance.uniform(0, 200))
        await self.finish(session)

    async def _ends(self, session: Session, chance: random.Random) -> None:
        more: dict[str, Any] = {}
        event = "Stop"
        if chance.random() < 0.25:
            kind = chance.choice(FAILS)
            error, status = CLAUDE_ERRORS[kind]
            self.cast.oracle.outside_failures[f"{session.id}:prompt-{session.turn}:failed"] = kind
            more = {"error": error, "last_assistant_message": f"API Error: {status}"}
            event = "StopFailure"
        for _ in range(chance.choice((1, 1, 2))):
            await self._ask(session, event, **more)
        if session.told and chance.random() < 0.2:
            await self._call(session, chance.choice(session.told))  # an old one, once more

    async def finish(self, session: Session) -> None:
        """The last hook: what is not counted yet is counted now."""
        await self._ask(session, "SessionEnd")

    def _spend(self, session: Session, number: int, chance: random.Random) -> None:
        spent = (chance.randint(50, 3000), chance.randint(10, 900), chance.choice((0, 5000)), 0)
        usage = dict(zip(CLAUDE_NAMES, spent, strict=True))
        message = {"id": f"{session.id}-{session.turn}-{number}", "model": "big", "usage": usage, "content": []}
        row = line(type="assistant", sessionId=session.id, timestamp=iso(self.cast.clock.now_ms()), message=message)
        with session.transcript.open("a") as file:
            file.write(row * chance.choice((1, 1, 2)))
        session.spent = plus(session.spent, spent)

    async def _ask(self, session: Session, event: str, **more: Any) -> dict[str, Any] | None:
        body = {"hook_event_name": event, "session_id": session.id, "transcript_path": str(session.transcript), **more}
        body["prompt_id"] = f"prompt-{session.turn}"
        if event in ("Stop", "StopFailure"):
            session.told.append(body)
        return await self._call(session, body)

    async def _call(self, session: Session, body: dict[str, Any]) -> dict[str, Any] | None:
        """One hook, answered or not: a daemon that is away lets the agent go on."""
        answer, event = None, body["hook_event_name"]
        async with self.cast.asking("session", f"{session.id} on {session.tier}: {event}") as boss:
            if boss is None:
                return None
            caller = Caller(build(boss), Peer(os.getpid(), os.geteuid()))
            query = f"chain={session.chain}&tier={session.tier}"
            with trio.move_on_after(PATIENCE) as patience:
                status, answer = await caller.ask("POST", "/hooks/claude-code", json.dumps(body).encode(), query)
                self.asked += 1
                if status == 200 and event == "UserPromptSubmit" and self.cast.daemon.boss is boss:
                    self._answered(session, answer)
            if patience.cancelled_caught and self.cast.daemon.boss is boss:
                self.cast.oracle.broken("hook", f"{event} of {session.id} was not answered in {PATIENCE:.0f} s")
        return answer

    def _answered(self, session: Session, answer: dict[str, Any]) -> None:
        """A prompt is blocked when its tier is held or its chain paused, and never else."""
        law, now = self.cast.oracle.law, self.cast.clock.now_ms()
        tier = law.setup.tiers.get(session.tier)
        known = tier is not None and session.tier in getattr(law.setup.chains.get(session.chain), "tiers", ())
        held = bool(known and tier and law.held(session.chain, tier, now))
        blocked = answer.get("decision") == "block"
        self.blocked += blocked
        if blocked != (known and (held or session.chain in law.paused)):
            self.cast.oracle.broken("hook", f"a prompt on {session.tier} of {session.chain}: {answer}, held: {held}")
