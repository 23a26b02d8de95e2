"""Runs, sessions of others and reports, told in any order and any number of times, against a model of plain sums."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from locum.errors import ConflictError
from locum.policy.failure import Failure, FailureKind
from locum.policy.gate import Place
from locum.policy.plan import Brake, Chain
from locum.policy.report import Report, payer_of
from locum.policy.task import Ending, Run, RunState
from locum.policy.usage import NO_TOKENS, Tokens, Usage
from locum.policy.window import Block, Rolling, Window
from locum.store import tally
from locum.store.sqlite import Sql
from tests.ledgers import HOUR, START, A, B, C, budget, opened, plan_of, task_of

CHAINS = {"default": (A, B), "other": (B, C)}
PLAN = plan_of(
    budget(200),
    budget(90, Rolling(2 * HOUR), Brake.TIER, "b"),
    budget(150, Block(3 * HOUR), Brake.HALT, "other"),
    chains=CHAINS,
    attempts=10_000,
)
PLACES = (
    None,
    Place(Chain("default", (A, B)), A),
    Place(Chain("default", (A, B)), B),
    Place(Chain("other", (B, C)), B),
    Place(Chain("other", (B, C)), C),
)
RUNS = (PLACES[1], PLACES[4])
SCOPES = (
    *("chain:default", "chain:other", "tier:a", "tier:b", "tier:c"),
    *("account:acme", "account:bravo", "unattributed", "total"),
)

places = st.sampled_from(PLACES)
counts = st.builds(Tokens, st.integers(0, 40), st.integers(0, 20), st.integers(0, 5), st.integers(0, 5))
keys = st.sampled_from(["m1", "m2", "m3", "m4", "m5"])
agents = st.sampled_from(["command", "codex", "claude-code"])
observations = st.lists(st.tuples(keys, counts), max_size=4)
failures = st.sampled_from([None, FailureKind.AUTH_ERROR, FailureKind.CRASH, FailureKind.CONTEXT_OVERFLOW])


@dataclass
class Truth:
    """What was really spent: the largest count of each key, and how much of it each scope was the first to hear of."""

    largest: dict[tuple[str, str], Tokens] = field(default_factory=dict)
    sums: dict[str, Tokens] = field(default_factory=dict)

    def tell(self, agent: str, seen: list[tuple[str, Tokens]], scopes: tuple[str, ...]) -> Tokens:
        """Somebody tells of these; what of it was new."""
        new = NO_TOKENS
        for key, tokens in seen:
            before = self.largest.get((agent, key), NO_TOKENS)
            self.largest[agent, key] = before.largest(tokens)
            new += self.largest[agent, key] - before
        for scope in scopes:
            self.sums[scope] = self.sums.get(scope, NO_TOKENS) + new
        return new


def scopes_of(place: Place | None) -> tuple[str, ...]:
    """Where usage at that place counts."""
    if place is None:
        return ("unattributed", "total")
    return (f"chain:{place.chain.name}", f"tier:{place.tier.name}", f"account:{place.tier.account}", "total")


class Outside(RuleBasedStateMachine):
    """One ledger, and everything that anybody may tell it."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.now = START
        self.truth = Truth()
        self.owned: dict[str, int] = {}  # session to the run that is in it
        self.reports: dict[tuple[str, str], Tokens | None] = {}
        self.places: dict[tuple[str, str], Place | None] = {}  # whom each report was for at first

    def _call(self, function, *args, **more):
        async def call():
            return await function(*args, **more)

        return anyio.run(call)

    @initialize()
    def begin(self):
        """Two runs of ours, each in a session of its own."""
        self.ledger = self._call(opened, Path(self.folder.name), PLAN)
        for number, place in enumerate(RUNS):
            self._call(self.ledger.submit, task_of(number, place.chain.name), b"")
            made = (f"run-{number}", f"task-{number:04}", 1, place.chain.name, place.tier, "/", RunState.RUNNING, START)
            self._call(self.ledger.start_run, Run(*made), START)
            self._call(self.ledger.saw_session, f"run-{number}", f"s{number}", START)
            self.owned[f"s{number}"] = number

    def teardown(self):
        """Leave nothing behind."""
        self._call(self.ledger.close)
        self.folder.cleanup()

    @rule(number=st.sampled_from(range(len(RUNS))), seen=observations, later=st.integers(0, HOUR))
    def record(self, number, seen, later):
        """A run of ours is read."""
        self.now += later
        place = RUNS[number]
        new = self.truth.tell(place.tier.agent, seen, scopes_of(place))
        usages = [Usage(*each) for each in seen]
        assert self._call(self.ledger.record, f"run-{number}", usages, self.now).tokens == new

    @rule(agent=agents, place=places, session=st.sampled_from(["s0", "s1", "s2", "s3"]), seen=observations)
    def outside(self, agent, place, session, seen):
        """A transcript of somebody's session is read; one that a run of ours is in counts nothing here."""
        new = NO_TOKENS if session in self.owned else self.truth.tell(agent, seen, scopes_of(place))
        usages = [Usage(key, tokens, at_ms=self.now - HOUR) for key, tokens in seen]
        payer = payer_of(agent, place, session)
        assert self._call(self.ledger.record_outside, payer, usages, self.now).tokens == new

    @rule(agent=agents, place=places, id_=keys, tokens=st.none() | counts, failure=failures)
    def report(self, agent, place, id_, tokens, failure):
        """A runner tells of a piece of work, perhaps of one that it has told of before; of one tier, it must be."""
        seen = [] if tokens is None else [(f"report:{id_}", tokens)]
        first = self.places.get((agent, id_), place)
        if seen and first != place:
            report = Report(agent, id_, place, tokens, (Usage(*seen[0]),))
            with pytest.raises(ConflictError):
                self._call(self.ledger.report, report, self.now)
            return
        self.places[agent, id_] = first
        new = self.truth.tell(agent, seen, scopes_of(place))
        usages = tuple(Usage(*each) for each in seen)
        told = Failure(failure, "no") if failure else None
        before = len(self._call(self.ledger.events, limit=100_000))
        found = self._call(self.ledger.report, Report(agent, id_, place, tokens, usages, told), self.now)
        assert found.tokens == new
        assert found.duplicate == ((agent, id_) in self.reports)
        if not found.duplicate:
            self.reports[agent, id_] = tokens
        elif new:
            self.reports[agent, id_] = (self.reports[agent, id_] or NO_TOKENS) + new
        if found.duplicate and not new:
            after = len(self._call(self.ledger.events, limit=100_000))
            assert after - before == len(found.events), "what was told before moves nothing"
            assert all(event.task is None for event in found.events), "only the clock may have moved something"

    @rule(number=st.sampled_from(range(len(RUNS))))
    def end(self, number):
        """A run of ours ends: its session is anybody's then."""
        if self.owned.pop(f"s{number}", None) is not None:
            self._call(self.ledger.end_run, f"run-{number}", Ending(RunState.SUCCEEDED), None, self.now)

    @rule(later=st.integers(0, 30 * HOUR))
    def wait(self, later):
        """Time passes, and holds end."""
        self.now += later
        self._call(self.ledger.settle, self.now)

    @rule()
    def reopen(self):
        """The daemon dies, and another comes back."""
        self._call(self.ledger.close)
        self.ledger = self._call(opened, Path(self.folder.name), PLAN, self.now)

    @invariant()
    def everything_adds_up(self):
        """Each scope's sum is the truth, reports are those that were told, and the audit is clean."""
        if not hasattr(self, "ledger"):
            return
        sums = self._call(self.ledger._database.read, _sums)
        assert sums == {scope: self.truth.sums.get(scope, NO_TOKENS) for scope in SCOPES}
        spent = sum((tokens.total for tokens in self.truth.largest.values()), 0)
        audit = self._call(self.ledger.audit)
        assert (audit.problems, audit.tokens.total) == ((), spent)
        kept = {(view.agent, view.id): view.tokens for _, view in self._call(self.ledger.reports, limit=1000)}
        assert kept == self.reports


def _sums(sql: Sql) -> dict[str, Tokens]:
    """What each scope has ever used."""
    return {scope: tally.totals(sql, scope, Window(0, None)) for scope in SCOPES}


TestOutside = Outside.TestCase
TestOutside.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
TestOutside.__doc__ = (
    "Whoever tells what and how often, in runs and outside: the sums are what was spent, and the audit agrees."
)
