"""What is left of a rehearsal to judge it by: the daemon's own record, and the stand-ins' account beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from locum.config.load import Loaded
from locum.drill.ask import Json
from locum.drill.director import Played
from locum.drill.stage import Stage
from locum.policy.plan import Chain
from locum.policy.usage import Tokens
from locum.store.peek import spent_by_runs
from locum.words import from_iso

_MOST = 1_000


@dataclass(frozen=True)
class Held:
    """One hold from its placing to its end. Moments in epoch milliseconds; `ended_ms` None: it stands.

    `extended`: it was there already and its end was moved.
    """

    target: str
    kind: str
    chain: str
    tier: str
    task: str | None
    since_ms: int
    until_ms: int | None
    ended_ms: int | None
    reason: str
    budget: str | None


@dataclass(frozen=True)
class Evidence:
    """Everything that the daemon answers at the end, and what the stand-ins played.

    `entries` are the ledger's own (run, moment in epoch milliseconds, tokens), in its order: runs that go on side by
    side spend in no other.
    """

    loaded: Loaded
    played: Sequence[Played]
    tasks: Sequence[Json]
    events: Sequence[Json]
    notices: Sequence[Json]
    chains: Mapping[str, Json]
    audit: Json
    entries: Sequence[tuple[str, int, Tokens]]
    holds: Sequence[Held]
    leaps: Sequence[tuple[int, int]]
    now_ms: int
    own_rules: frozenset[str]
    bumped: frozenset[str]
    cancelled: frozenset[str] = frozenset()

    @property
    def runs(self) -> Iterator[tuple[Json, Json]]:
        """Every attempt with its task."""
        return ((task, run) for task in self.tasks for run in task["runs"])

    def of_run(self, run: str) -> list[Played]:
        """What was played in a run."""
        return [each for each in self.played if each.run == run]

    def covers(self, hold: Held, chain: Chain, tier: str) -> bool:
        """Whether `hold` keeps that tier from being picked in that chain."""
        found = chain.tier(tier)
        return found is not None and hold.target in chain.targets(found)

    def noticed_ms(self, at_ms: int) -> int:
        """The first moment at or after `at_ms` that there was: what was leapt over could not be used."""
        return next((end for begin, end in self.leaps if begin <= at_ms < end), at_ms)


async def gather(stage: Stage) -> Evidence:
    """Ask the daemon for everything."""
    events = await all_rows(stage, "events")
    return Evidence(
        loaded=stage.loaded,
        played=tuple(stage.director.played),
        tasks=[await stage.task(each) for each in stage.tasks],
        events=events,
        notices=await all_rows(stage, "notices"),
        chains=(await stage.get("/status"))["chains"],
        audit=await stage.get("/audit"),
        entries=spent_by_runs(stage.folders.ledger),
        holds=tuple(holds_of(events)),
        leaps=tuple(stage.leaps),
        now_ms=stage.now_ms(),
        own_rules=frozenset(rule.id for rule in (*stage.loaded.service.signals, *stage.loaded.added)),
        bumped=frozenset(stage.bumped),
        cancelled=frozenset(stage.cancelled),
    )


async def all_rows(stage: Stage, name: str) -> list[Json]:
    """Every row of a list that is told by pages."""
    found: list[Json] = []
    while True:
        page = (await stage.get(f"/{name}", after=found[-1]["seq"] if found else 0, limit=_MOST))[name]
        found += page
        if len(page) < _MOST:
            return found


def holds_of(events: Sequence[Json]) -> list[Held]:
    """Every hold there was, in the order they were placed."""
    open_: dict[tuple[str, str], dict[str, Any]] = {}
    found: list[dict[str, Any]] = []
    for event in events:
        if event["hold"] is None:
            continue
        told, at_ms = event["hold"], from_iso(event["at"])
        key = (told["target"], told["kind"])
        if event["kind"] in ("bumped", "extended"):
            hold = open_.get(key)
            if hold is None:
                hold = open_[key] = {
                    "target": told["target"],
                    "kind": told["kind"],
                    "chain": event["chain"],
                    "tier": event["tier"],
                    "task": event["task"],
                    "since_ms": at_ms,
                    "reason": told["reason"],
                    "budget": told["budget"],
                    "ended_ms": None,
                }
                found.append(hold)
            hold["until_ms"] = from_iso(told["until"])
        elif event["kind"] in ("returned", "released") and key in open_:
            open_.pop(key)["ended_ms"] = at_ms
    return [Held(**each) for each in found]
