"""Counting, against a model that remembers every single entry."""

from __future__ import annotations

import tempfile
from pathlib import Path

import anyio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from locum.policy.failure import Failure, FailureKind
from locum.policy.plan import Brake
from locum.policy.task import Ending, Run, RunState
from locum.policy.usage import NO_TOKENS, Tokens, Usage
from locum.policy.window import Block, Calendar, Lifetime, Rolling, Window, window_at
from locum.store import tally
from tests.ledgers import DAY, HOUR, START, A, B, C, budget, opened, plan_of, task_of

BUDGETS = (
    budget(100),
    budget(60, Rolling(2 * HOUR), Brake.TIER, "b"),
    budget(70, Block(3 * HOUR), Brake.HALT, "other"),
    budget(120, Calendar("day", "Asia/Kathmandu"), Brake.TIER, "a"),
    budget(300, Lifetime(), Brake.HALT, "default"),
)
PLAN = plan_of(*BUDGETS, chains={"default": (A, B), "other": (B, C)}, attempts=10_000)
RUNS = (("default", A), ("default", B), ("other", B), ("other", C), ("default", A))
SCOPES = ("chain:default", "chain:other", "tier:a", "tier:b", "tier:c", "account:acme", "account:bravo", "total")

counts = st.builds(Tokens, st.integers(0, 40), st.integers(0, 20), st.integers(0, 5), st.integers(0, 5))
keys = st.sampled_from(["m1", "m2", "m3", "m4"])
offsets = st.one_of(st.none(), st.integers(-3 * HOUR, 6 * HOUR))
observations = st.lists(st.tuples(keys, counts, offsets), min_size=1, max_size=4)


class Counting(RuleBasedStateMachine):
    """Random observations of several runs, and a plain-Python ledger beside the real one."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.now = START
        self.entries: list[tuple[int, int, Tokens]] = []  # (run, at_ms, tokens)
        self.largest: dict[tuple[str, str], Tokens] = {}
        self.told: dict[int, tuple[Tokens, int]] = {}
        self.ended: set[int] = set()
        self.blocks: list[int] = []
        self.fired: set[tuple[str, int]] = set()
        self.until: int | None = None  # of the rolling budget's open episode
        self.crossed = 0

    @initialize()
    def begin(self):
        """Start every run once."""
        self.ledger = self._call(opened, Path(self.folder.name), PLAN)
        for number, (chain, tier) in enumerate(RUNS):
            self._call(self.ledger.submit, task_of(number, chain), b"")
            run = Run(f"run-{number}", f"task-{number:04}", 1, chain, tier, "/", RunState.RUNNING, START)
            self._call(self.ledger.start_run, run, START)

    def _call(self, function, *args):
        return anyio.run(function, *args)

    def teardown(self):
        """Leave nothing behind."""
        self._call(self.ledger.close)
        self.folder.cleanup()

    @rule(number=st.integers(0, len(RUNS) - 1), seen=observations, later=st.integers(0, 5 * HOUR))
    def observe(self, number, seen, later):
        """Some usage of one run, some of it seen before, some told late."""
        self.now += later
        _, tier = RUNS[number]
        usages, added = [], NO_TOKENS
        for key, tokens, offset in seen:
            usages.append(Usage(key, tokens, at_ms=None if offset is None else self.now + offset))
        self._settle()
        for usage in sorted(usages, key=self._moment):
            before = self.largest.get((tier.agent, usage.key), NO_TOKENS)
            new = before.largest(usage.tokens) - before
            self.largest[tier.agent, usage.key] = before + new
            if new:
                self._append(number, self._moment(usage), new)
                added += new
        if added:
            added += self._reconcile(number)
        result = self._call(self.ledger.record, f"run-{number}", usages, self.now)
        assert result.tokens == added
        if added:
            self._brakes(number)

    @rule(number=st.integers(0, len(RUNS) - 1), total=st.one_of(st.none(), counts), good=st.booleans())
    def end(self, number, total, good):
        """A run ends, perhaps with a total that says something else than its parts."""
        if number in self.ended:
            return
        self.ended.add(number)
        self._settle()
        state = RunState.SUCCEEDED if good else RunState.FAILED
        failure = None if good else Failure(FailureKind.INVALID_REQUEST, "no")
        self._call(self.ledger.end_run, f"run-{number}", Ending(state, total=total), failure, self.now)
        if total is not None:
            self.told[number] = (total, self.now)
            if self._reconcile(number):
                self._brakes(number)

    @rule()
    def reopen(self):
        """The daemon dies and comes back: nothing that was acknowledged may be gone, nothing fires again."""
        self.ledger = self._call(opened, Path(self.folder.name), PLAN, self.now)
        self._roll()  # a start looks at every budget once
        self._newly_over()

    @rule(
        scope=st.sampled_from(SCOPES),
        start=st.integers(-DAY, 2 * DAY),
        length=st.integers(0, 2 * DAY),
        open_end=st.booleans(),
    )
    def total(self, scope, start, length, open_end):
        """Any window adds up to the entries in it."""
        window = Window(START + start, None if open_end else START + start + length)
        found = self._call(self.ledger._database.read, lambda sql: tally.totals(sql, scope, window))
        assert found == self._sum(scope, window)

    @invariant()
    def budgets_fire_once(self):
        """Exactly one firing on record for each (budget, limit, window) and each rolling episode."""
        if hasattr(self, "ledger"):
            count = "SELECT COUNT(*) FROM fired"
            assert self._call(self.ledger._read, lambda sql: sql.connection.execute(count).get) == self.crossed

    @rule()
    def audit(self):
        """The audit agrees that everything adds up."""
        assert self._call(self.ledger.audit).problems == ()

    # the model

    def _moment(self, usage):
        return max(START, min(self.now if usage.at_ms is None else usage.at_ms, self.now))

    def _append(self, number, at_ms, tokens):
        self.entries.append((number, at_ms, tokens))
        starts_block = not self.blocks or at_ms >= self.blocks[-1] + 3 * HOUR
        if RUNS[number][0] == "other" and tokens.total > 0 and starts_block:
            self.blocks.append(at_ms)

    def _reconcile(self, number):
        if number not in self.told:
            return NO_TOKENS
        total, ended_ms = self.told[number]
        for run, _, tokens in self.entries:
            total -= tokens if run == number else NO_TOKENS
        if total:
            self._append(number, ended_ms, total)
        return total

    def _sum(self, scope, window):
        total = NO_TOKENS
        for number, at_ms, tokens in self.entries:
            chain, tier = RUNS[number]
            mine = {f"chain:{chain}", f"tier:{tier.name}", f"account:{tier.account}", "total"}
            if scope in mine and window.contains(at_ms):
                total += tokens
        return total

    def _window(self, each):
        begun = [start for start in self.blocks if start <= self.now]
        return window_at(each.window, self.now, begun[-1] if begun else None)

    def _brakes(self, number):
        chain, tier = RUNS[number]
        if tier.name == "b":
            self._roll(recorded=True)
        self._newly_over(PLAN.budgets_of(chain, tier.name))

    def _newly_over(self, budgets=BUDGETS):
        for each in budgets:
            window = self._window(each)
            over = self._sum(each.scope, window).total >= each.limit
            if isinstance(each.window, Rolling):
                if over and self.until is None:
                    self.until = self._frees(each)
                    self.crossed += 1
            elif over and (each.id, window.start_ms) not in self.fired:
                self.fired.add((each.id, window.start_ms))
                self.crossed += 1

    def _roll(self, *, recorded=False):
        each = BUDGETS[1]
        over = self._sum(each.scope, self._window(each)).total >= each.limit
        if self.until is not None:
            self.until = None if not over else self._frees(each) if recorded else self.until

    def _settle(self):
        """The clock comes ahead of the usage told at the same moment."""
        if self.until is not None and self.until <= self.now:
            self._roll(recorded=True)

    def _frees(self, each):
        window = self._window(each)
        left = self._sum(each.scope, window).total
        mine = sorted(
            (at, tokens.total) for number, at, tokens in self.entries if RUNS[number][1] is B and window.contains(at)
        )
        for at_ms, tokens in mine:
            left -= tokens
            if left < each.limit:
                return max(self.now + 1, at_ms + each.window.length_ms)
        return self.now + each.window.length_ms


TestCounting = Counting.TestCase
TestCounting.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestCounting.__doc__ = "Totals, crossings and episodes are those of a model that adds up every entry, whatever comes."
