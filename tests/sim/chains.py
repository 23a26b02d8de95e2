"""Every line of a chain's log must be lawful, and nothing the law asks for may be missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.sim.law import RULES, Held, Law, Wanted
from tests.sim.witness import Commit, Ev, RunRow

ENDS = ("returned", "released")
SET_BACK = "the clock was set back"
NOTICED = {
    "bumped": "tier_bumped",
    "returned": "tier_returned",
    "released": "tier_returned",
    "exhausted": "chain_exhausted",
}


@dataclass
class Orders:
    """What the operator is asking for right now."""

    bumps: list[tuple[str, str | None, int | None]] = field(default_factory=list)
    releases: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    pauses: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Chains:
    """Reads each commit's events in order."""

    law: Law
    orders: Orders
    broken: Callable[[str, str], None]
    guard_of: Callable[[str], tuple[Any, ...]]  # a tier's login and way of starting now
    at_commit: Callable[[Held, Ev, Commit], None]  # budgets have their own judge
    freed: dict[tuple[str, str], float] = field(default_factory=dict)  # target and kind: when its hold ended
    success: RunRow | None = None
    _pending: list[tuple[str, str, str | None, str | None]] = field(default_factory=list)
    _ended: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    _covered: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    _must_exhaust: set[str] = field(default_factory=set)
    _answered: bool = False

    def set_back(self, commit: Commit) -> None:
        """First of all in a commit, holds from the future are moved: what fails in it is answered after that."""
        for ev in commit.events:
            if ev.reason == SET_BACK:
                self._moved(ev, commit)

    def read(self, commit: Commit, failed: tuple[RunRow, str, Wanted] | None) -> None:
        """All events of one commit; `failed` is the run that ended so, its kind, and what that must lead to."""
        self._pending, self._ended, self._covered, self._must_exhaust = [], {}, {}, set()
        self._answered = failed is None
        for ev in commit.events:
            match ev.kind:
                case "failed":
                    self._failed(ev, failed)
                case "bumped" | "extended":
                    self._placed(ev, commit, failed)
                case "exhausted":
                    if self.law.first_free(ev.chain, ev.at) is not None:
                        self.broken("exhausted", f"{ev.chain} still has {self.law.first_free(ev.chain, ev.at)}")
                    self._must_exhaust.discard(ev.chain)
                    self.law.exhausted.add(ev.chain)
                case "returned" | "released":
                    self._freed(ev, commit)
                case "succeeded":
                    self._succeeded(ev)
                case "paused" | "resumed":
                    self._switched(ev)
            self._note(ev)
        self._nothing_missing(commit)

    # ── failures and holds ───────────────────────────────────────────────────────────────────────────────

    def _failed(self, ev: Ev, failed: tuple[RunRow, str, Wanted] | None) -> None:
        if failed is None or (ev.chain, ev.tier, ev.task, ev.failure) != (
            failed[0].chain, failed[0].tier, failed[0].task, failed[1],
        ):  # fmt: skip
            return self.broken("failure", f"nothing failed so: {ev}")
        if failed[2].target:
            self.broken("hold", f"{failed[1]} on {ev.tier} must hold {failed[2].target}, and nothing was held")
        if RULES[failed[1]].soft and ev.tier:
            self.law.soft[ev.tier] = failed[0].task
        self._answered = True
        return None

    def _placed(self, ev: Ev, commit: Commit, failed: tuple[RunRow, str, Wanted] | None) -> None:
        hold = ev.hold
        if hold is None:
            return self.broken("hold", f"an event without its hold: {ev}")
        told = (ev.kind, ev.chain, ev.tier, hold["target"])
        if told in self._pending:
            self._pending.remove(told)
            return self._is_active(ev)
        if ev.chain != hold["chain"]:
            return self.broken("cascade", f"{ev.chain} is bumped off {ev.tier} for no reason: {hold}")
        if ev.failure is None:
            return None if ev.reason == SET_BACK else self._moved(ev, commit)
        wanted = self._cause(ev, hold, failed)
        if wanted is None:
            return None
        low, high = wanted.until
        until = hold["until_ms"]
        lawful = until == low if low is None or high is None or until is None else low <= until <= high
        if hold["target"] != wanted.target or not lawful or hold["strikes"] != wanted.strikes:
            self.broken("hold", f"{hold} is not {wanted}")
        return self._apply(ev, commit, Held(
            hold["target"], hold["kind"], hold["since_ms"], until, ev.chain, hold["tier"], hold["strikes"],
            self.guard_of(hold["tier"]), hold["budget"],
        ))  # fmt: skip

    def _cause(self, ev: Ev, hold: dict[str, Any], failed: tuple[RunRow, str, Wanted] | None) -> Wanted | None:
        """What justifies this hold."""
        key = (hold["target"], hold["kind"])
        before = self.law.holds.get(key)
        in_force = before is not None and before.active(ev.at)
        strikes = max(1, self.law.strikes.get(key, 0) + (not in_force))
        if hold["kind"] == "token_budget":
            return Wanted("move", (0, 0), hold["target"], (hold["until_ms"], hold["until_ms"]), strikes)
        if hold["kind"] == "operator":
            for chain, tier, until in self.orders.bumps:
                if chain == ev.chain and (tier or self.law.first_free(chain, ev.at)) == ev.tier:
                    return Wanted("move", (0, 0), f"tier:{ev.tier}", (until, until), strikes)
            self.broken("operator", f"nobody asked for {ev}")
            return None
        if failed is None or (ev.chain, ev.tier, ev.failure) != (failed[0].chain, failed[0].tier, failed[1]):
            self.broken("cascade", f"{ev.tier} is held ({ev.failure}), and did not fail so now")
            return None
        self._answered = True
        if not failed[2].target:
            self.broken("hold", f"{failed[1]} of {failed[0].task} must lead to {failed[2].next}, not to {hold}")
            return None
        return failed[2]

    def _apply(self, ev: Ev, commit: Commit, held: Held) -> None:
        law, now = self.law, ev.at
        before = law.holds.get((held.target, held.kind))
        kind = "extended" if before is not None and before.active(now) else "bumped"
        if ev.kind != kind:
            self.broken("hold", f"it should have been {kind}: {ev}")
        names = list(law.setup.chains)
        was = {name: law.first_free(name, now) for name in names}
        law.holds[held.target, held.kind] = held
        law.strikes[held.target, held.kind] = held.strikes
        if RULES[held.kind].soft and ev.task:
            law.soft[held.tier] = ev.task
        self.at_commit(held, ev, commit)
        for name in names:
            if name != ev.chain and held.target not in self._targets_of(name):
                continue
            active = law.first_free(name, now)
            if name != ev.chain and was[name] != active:
                self._pending.append((ev.kind, name, was[name], held.target))
            if active is None and (was[name] is not None or name not in law.exhausted):
                self._must_exhaust.add(name)
        self._is_active(ev)

    def _targets_of(self, chain: str) -> set[str]:
        return {target for tier in self.law.tiers(chain) for target in self.law.targets(chain, tier)}

    def _moved(self, ev: Ev, commit: Commit) -> None:
        """A hold whose end was worked out anew: because the clock was set back, or a budget's window has moved."""
        hold = ev.hold or {}
        before = self.law.holds.get((hold["target"], hold["kind"]))
        if before is None:
            return self.broken("hold", f"what was not held is made longer: {ev}")
        if ev.reason == SET_BACK:
            until = None if before.until is None else before.until - before.since + ev.at
            if before.since <= ev.at + 60_000 or hold["until_ms"] != until:
                self.broken("clock", f"{before} must not become {hold}")
            before.since, before.until = hold["since_ms"], hold["until_ms"]
            return None
        if hold["kind"] != "token_budget":
            return self.broken("hold", f"only a budget's hold is worked out anew: {ev}")
        before.until = hold["until_ms"]
        return self.at_commit(before, ev, commit)

    # ── ends of holds ────────────────────────────────────────────────────────────────────────────────────

    def _freed(self, ev: Ev, commit: Commit) -> None:
        hold, law = ev.hold or {}, self.law
        key = (hold["target"], hold["kind"])
        if key in self._ended:
            self._ended[key].add(ev.chain)
            return self._is_active(ev)
        held = law.holds.pop(key, None)
        if held is None:
            return self.broken("return", f"what was not held comes back: {ev}")
        self._ended[key] = {ev.chain}
        self._covered[key] = set(law.under(held.target)) or {held.chain}
        if ev.kind == "returned":
            if held.active(ev.at):
                self.broken("return", f"{held} returns before its time, at {ev.at}")
            if held.kind == "token_budget":
                self.at_commit(held, ev, commit)
        elif ev.reason == "released by the operator":
            self._released(ev, held)
        elif ev.reason == "its login or configuration has changed":
            if not RULES[held.kind].guarded or self.guard_of(held.tier) == held.guard:
                self.broken("return", f"nothing about the login of {held} has changed")
        elif held.kind == "token_budget":
            self.at_commit(held, ev, commit)
        else:
            self.broken("return", f"{held} is released: {ev.reason}")
        if RULES[held.kind].probation:
            law.doubted.add(held.target)
        self.freed[key] = commit.at
        return self._is_active(ev)

    def _released(self, ev: Ev, held: Held) -> None:
        for chain, tier, kind in self.orders.releases:
            tiers = [each for each in self.law.tiers(chain) if tier in (None, each.name)]
            if kind in (None, held.kind) and any(held.target in self.law.targets(chain, each) for each in tiers):
                return None
        return self.broken("operator", f"nobody asked for {ev}")

    # ── the rest ─────────────────────────────────────────────────────────────────────────────────────────

    def _succeeded(self, ev: Ev) -> None:
        law = self.law
        targets: set[str] = set(self._vouched(ev))
        law.strikes = {key: count for key, count in law.strikes.items() if key[0] not in targets}
        law.doubted -= targets
        law.soft.pop(ev.tier or "", None)

    def _vouched(self, ev: Ev) -> list[str]:
        row = self.success
        if row is None or (row.chain, row.tier, row.task) != (ev.chain, ev.tier, ev.task):
            self.broken("success", f"nothing has succeeded so: {ev}")
            return []
        base = [f"chain:{row.chain}", f"rung:{row.chain}/{row.tier}", f"tier:{row.tier}", f"account:{row.account}"]
        return base + ([f"model:{row.account}|{row.model}"] if row.model else [])

    def _switched(self, ev: Ev) -> None:
        if (ev.chain, ev.kind) not in self.orders.pauses:
            self.broken("operator", f"nobody asked for {ev}")
        (self.law.paused.add if ev.kind == "paused" else self.law.paused.discard)(ev.chain)

    def _is_active(self, ev: Ev) -> None:
        free = self.law.first_free(ev.chain, ev.at) if ev.chain in self.law.setup.chains else None
        if ev.active != free:
            self.broken("active", f"{ev.chain} goes on with {free}, not with {ev.active}: {ev}")
        if ev.kind in ENDS and free is not None:
            self.law.exhausted.discard(ev.chain)

    def _note(self, ev: Ev) -> None:
        if ev.failure is not None:
            self.law.last[ev.chain] = (ev.failure, ev.at, ev.tier)

    def _nothing_missing(self, commit: Commit) -> None:
        if not self._answered:
            self.broken("failure", "a run has failed and the chain's log does not say so")
        if self._pending:
            self.broken("silent", f"chains moved without a word: {self._pending}")
        if self._must_exhaust:
            self.broken("silent", f"{self._must_exhaust} are exhausted and nobody said so")
        for key, chains in self._ended.items():
            if chains != self._covered[key]:
                self.broken("silent", f"the end of {key} was told in {chains}, not in {self._covered[key]}")
        self._notices(commit)

    def _notices(self, commit: Commit) -> None:
        """Every bump, return and exhaustion is told exactly once."""
        told = [(each.event, each.kind) for each in commit.notices if each.event is not None]
        due = [(ev.seq, NOTICED[ev.kind]) for ev in commit.events if ev.kind in NOTICED and not ev.quiet]
        if sorted(told) != sorted(due):  # type: ignore[type-var]
            self.broken("notice", f"notices {told} for events {due}")
        for ev in commit.events:
            if ev.quiet and not (ev.kind in ENDS and self._still_held(ev)):
                self.broken("notice", f"nobody was told of {ev}")

    def _still_held(self, ev: Ev) -> bool:
        """Whether something else keeps the tier that came back, written or not."""
        law = self.law
        tier = law.setup.tiers.get(ev.tier or "")
        if tier is None or ev.chain not in law.setup.chains:
            return False
        own = ((ev.hold or {})["target"], (ev.hold or {})["kind"])
        ended = set(self._ended) - {own}
        targets = law.targets(ev.chain, tier)
        return any(target in targets for target, _ in (*law.holds, *ended))
