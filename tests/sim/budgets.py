"""Budgets: every crossing is told once, exactly when the truth crosses, and holds what its brake says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.sim.clock import SimClock
from tests.sim.law import Held, Law
from tests.sim.setups import BudgetSetup, Reset, Setup
from tests.sim.windows import Blocks, Spent, Weights, length_of, window
from tests.sim.witness import Commit, Entry, Ev

TOLD_AT = (80, 90, 100)
Key = tuple[str, int, Reset, Weights, int]  # budget, limit, window rule, weights, start of the window


@dataclass
class Budgets:
    """Adds everything up by itself, and holds each crossing and each hold of a budget against that."""

    law: Law
    clock: SimClock
    broken: Callable[[str, str], None]
    spent: dict[str, Spent] = field(default_factory=dict)
    blocks: dict[tuple[str, int], Blocks] = field(default_factory=dict)
    crossed: set[tuple[object, ...]] = field(default_factory=set)
    quiet: dict[tuple[str, int, int, Reset], int] = field(default_factory=dict)
    acted: set[Key] = field(default_factory=set)
    budgets: list[BudgetSetup] = field(default_factory=list)
    crossings: int = 0
    _base: dict[str, int] = field(default_factory=dict)
    _bumped: dict[str, Held] = field(default_factory=dict)
    _extended: bool = False

    def plan(self, setup: Setup) -> None:
        """Another configuration is in force: its blocks are traced once through all there is."""
        self.budgets = setup.budgets()
        # A rolling window has no start: when its budget is edited away, and later back, that is a new one.
        known = {(each.id, each.limit, each.reset, each.weights) for each in self.budgets}
        self.acted -= {key for key in self.acted if key[2][0] == "rolling" and key[:4] not in known}
        for scope, reset in _rules(setup):
            if reset[0] != "block" or (scope, reset[1]) in self.blocks:
                continue
            blocks = self.blocks[scope, reset[1]] = Blocks(length_of(reset))
            for at_ms, counts in self._scope(scope).rows:
                if sum(counts) > 0:
                    blocks.use(at_ms)

    def prepare(self, commit: Commit) -> None:
        """Before the events of a commit are read: what was used without its entries, then add them."""
        self._bumped = {}
        self._was_held = {hold.budget for hold in self.law.holds.values() if hold.budget and hold.active(commit.now)}
        self._seats, self._seat = self._free(commit.now), {}
        self._base = {budget.id: self._used(budget, commit.now) for budget in self.budgets}
        rules = {(scope, reset[1]) for scope, reset in _rules(self.law.setup) if reset[0] == "block"}
        for entry in commit.entries:
            if entry.chain is None:
                continue  # nobody's tier has spent it
            for scope in (f"chain:{entry.chain}", f"tier:{entry.tier}"):
                self._scope(scope).add(entry.at_ms, entry.counts)
                if sum(entry.counts) > 0:
                    for name, minutes in rules:
                        if name == scope:
                            self.blocks[name, minutes].use(entry.at_ms)

    def event(self, held: Held, ev: Ev, commit: Commit) -> None:
        """One event about a hold: only a budget's are of interest."""
        if held.budget is None:
            return None
        budget = next((each for each in self.budgets if each.id == held.budget), None)
        used = self._used(budget, ev.at) if budget else 0
        over = budget is not None and used >= budget.limit * 1000
        match ev.kind:
            case "returned":
                rolling = budget is not None and budget.reset[0] == "rolling"
                if rolling and self._base[held.budget] >= budget.limit * 1000 and not self._shaky(budget, ev.at):
                    self.broken("budget", f"{held} returns, and the budget is still over: {used}")
            case "released":
                if over and budget is not None and budget.acts:
                    self.broken("budget", f"{held} is let go, and the budget is still over: {used}")
                self.acted = {key for key in self.acted if key[0] != held.budget}
                self._seats = self._free(ev.at)
            case _:
                if budget is None or not over or not budget.acts:
                    return self.broken("budget", f"{held} for a budget that is not over: {used} of {budget}")
                if held.until != self._frees(budget, ev.at):
                    self.broken("budget", f"{held} does not end at {self._frees(budget, ev.at)}")
                if ev.failure is not None:
                    self._bumped[held.budget] = held
                    self._seat[held.budget] = self._seats.get(ev.chain)
                    self._seats = self._free(ev.at)
        return None

    def conclude(self, commit: Commit) -> None:
        """After the events of a commit: what crossed must have been told, and what acts must have held."""
        told: dict[str, list[tuple[int, int]]] = {}
        for each in commit.notices:
            if each.kind == "token_threshold_crossed":
                told.setdefault(each.data["budget"], []).append((each.data["threshold"], each.data["used"]))
        runs = {(entry.chain, entry.tier) for entry in commit.entries if entry.chain}
        touched = {f"chain:{chain}" for chain, _ in runs} | {f"tier:{tier}" for _, tier in runs}
        asked = {(budget.id, budget.limit, budget.reset) for budget in self.budgets}
        for key, told_ms in list(self.quiet.items()):  # nobody asks for it any more: then only the time counts
            if (key[0], key[1], key[3]) not in asked and told_ms + length_of(key[3]) <= commit.now:
                del self.quiet[key]
        for budget in self.budgets:
            notices = told.pop(budget.id, [])
            self._rest(budget, commit.now)
            if budget.scope in touched or commit.setup is not None:
                self._told(budget, notices, commit.now)
                self._one(budget, commit, commit.entries[0] if commit.entries else None)
            elif notices or budget.id in self._bumped:
                self.broken("budget", f"{budget.id} fires, and nothing was spent")
        if told:
            self.broken("budget", f"nobody has such budgets: {told}")

    def _rest(self, budget: BudgetSetup, now: int) -> None:
        """Of a rolling window people may be told again: a whole window ago, and below before this commit."""
        for at in TOLD_AT:
            key = (budget.id, budget.limit, at, budget.reset)
            rested = (
                self.quiet.get(key, now) + length_of(budget.reset) <= now if budget.reset[0] == "rolling" else False
            )
            if rested and self._base[budget.id] < budget.limit * at * 10:
                del self.quiet[key]

    def _told(self, budget: BudgetSetup, notices: list[tuple[int, int]], now: int) -> None:
        """Each of 80, 90 and 100 % is told when it is reached, once a window, the lowest first, with the right sum."""
        used, shaky = self._used(budget, now), self._shaky(budget, now)
        due = []
        for at in TOLD_AT:
            if used < budget.limit * at * 10:
                continue
            if budget.reset[0] == "rolling":
                key = (budget.id, budget.limit, at, budget.reset)
                if key not in self.quiet:
                    due.append(at)
                    self.quiet[key] = now
            else:
                once = (budget.id, budget.limit, at, *self._window(budget, now))
                if once not in self.crossed:
                    due.append(at)
                    self.crossed.add(once)
        if not shaky and notices != [(at, used // 1000) for at in due]:
            self.broken("budget", f"{budget.id} tells {notices}, and {due} % of {budget.limit} are reached: {used}")
        self.crossings += len(notices)

    def _one(self, budget: BudgetSetup, commit: Commit, entry: Entry | None) -> None:
        now, replanned = commit.now, commit.setup is not None
        used = self._used(budget, now)
        over, key, shaky = used >= budget.limit * 1000, self._key(budget, now), self._shaky(budget, now)
        if budget.reset[0] == "rolling" and self._base[budget.id] < budget.limit * 1000:
            self.acted.discard(key)
        bumped = self._bumped.get(budget.id)
        if over:
            self._held(budget, bumped, key, entry, shaky=shaky, replanned=replanned)
        elif bumped:
            self.broken("budget", f"{bumped}, and the budget has room")

    def _held(
        self, budget: BudgetSetup, bumped: Held | None, key: Key, entry: Entry | None, *, shaky: bool, replanned: bool
    ) -> None:
        if bumped is not None and key in self.acted and not shaky:
            self.broken("budget", f"{budget.id} holds twice in one window: {bumped}")
        if bumped is None:
            due = budget.acts and key not in self.acted and not shaky
            if due and not (replanned and (budget.id in self._was_held or not self._can_seat(budget))):
                self.broken("budget", f"{budget.id} is over and holds nothing")
            self.acted |= {key} if replanned and budget.id in self._was_held and budget.acts else set()
            return
        self.acted.add(key)
        tier = entry.tier if entry else self._seat[budget.id]
        target = {
            "chain": f"rung:{budget.owner}/{tier}",
            "tier": f"tier:{budget.owner}",
            "halt": f"chain:{budget.owner}",
        }
        if bumped.target != target[budget.brake]:
            self.broken("budget", f"{budget.id} holds {bumped.target}, not {target[budget.brake]}")

    def _free(self, now: int) -> dict[str, str | None]:
        """What each chain would pick now: where a budget fires that no run has just crossed."""
        return {name: self.law.first_free(name, now) for name in self.law.setup.chains}

    def _can_seat(self, budget: BudgetSetup) -> bool:
        return budget.brake != "chain" or self._seats.get(budget.owner) is not None

    # ── sums ─────────────────────────────────────────────────────────────────────────────────────────────

    def over(self, budget: BudgetSetup, now: int) -> bool:
        """Whether it is used up."""
        return self._used(budget, now) >= budget.limit * 1000

    def _scope(self, scope: str) -> Spent:
        return self.spent.setdefault(scope, Spent())

    def _window(self, budget: BudgetSetup, now: int) -> tuple[int, int | None]:
        return window(budget.reset, now, self.blocks.get((budget.scope, budget.reset[1])))

    def _used(self, budget: BudgetSetup, now: int) -> int:
        return self._scope(budget.scope).within(*self._window(budget, now), budget.weights)

    def _frees(self, budget: BudgetSetup, now: int) -> int | None:
        if budget.reset[0] == "rolling":
            return self._scope(budget.scope).frees_at(length_of(budget.reset), budget.limit, budget.weights, now)
        return self._window(budget, now)[1]

    def _key(self, budget: BudgetSetup, now: int) -> Key:
        start = 0 if budget.reset[0] == "rolling" else self._window(budget, now)[0]
        return (budget.id, budget.limit, budget.reset, budget.weights, start)

    def _shaky(self, budget: BudgetSetup, now: int) -> bool:
        """A clock that was set back makes a rolling window grow again: what then counts as new is nobody's promise."""
        return budget.reset[0] == "rolling" and now < self.clock.back_until_ms + length_of(budget.reset)


def _rules(setup: Setup) -> list[tuple[str, tuple[str, int]]]:
    """Every window that is looked at, with its scope."""
    found = [(f"chain:{name}", chain.reset) for name, chain in setup.chains.items()]
    for tier in setup.tiers.values():
        at = setup.listing(tier.name)
        found += [(f"tier:{tier.name}", tier.reset or setup.chains[at[0]].reset)] if at else []
    return found
