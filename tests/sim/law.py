"""The rules, as docs/specs/failover.md tells them: what must be held and for how long. Shares no code with policy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.sim.accounts import Refusal
from tests.sim.setups import Setup, TierSetup

SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000
DAY = 24 * HOUR


class Rule(NamedTuple):
    """One row of the table of failure kinds."""

    on: str = "tier"  # account, account_or_model, tier; "": the task fails
    base: int = 0
    cap: int = 0
    retries: int = 0
    patience: int = 0
    soft: bool = False
    guarded: bool = False
    probation: bool = False


_SOFT = Rule("tier", MINUTE, 30 * MINUTE, soft=True)
RULES = {
    "auth_error": Rule("account", 30 * MINUTE, 6 * HOUR, guarded=True, probation=True),
    "credit_exhausted": Rule("account", HOUR, 12 * HOUR, guarded=True, probation=True),
    "usage_limit": Rule("account_or_model", 30 * MINUTE, 5 * HOUR, probation=True),
    "rate_limit": Rule("tier", MINUTE, 30 * MINUTE, patience=60 * SECOND, probation=True),
    "overloaded": Rule("tier", MINUTE, 10 * MINUTE, retries=2),
    "server_error": Rule("tier", MINUTE, 10 * MINUTE, retries=2),
    "network": Rule("tier", 30 * SECOND, 10 * MINUTE, retries=2),
    "model_unavailable": Rule("tier", 6 * HOUR, 6 * HOUR, guarded=True),
    "crash": _SOFT,
    "stalled": _SOFT,
    "no_result": _SOFT,
    "unknown": _SOFT,
    "token_budget": Rule(),
    "operator": Rule(),
    "context_overflow": Rule(""),
    "invalid_request": Rule(""),
}
LONGEST = 12 * HOUR
"""The longest back-off of the table."""
BELIEVED = {"five_hour": 6 * HOUR, "seven_day": 8 * DAY}
WINDOWS = {"five_hour": 5 * HOUR, "seven_day": 7 * DAY}


@dataclass
class Held:
    """One hold, as the log told of it."""

    target: str
    kind: str
    since: int
    until: int | None
    chain: str
    tier: str
    strikes: int
    guard: tuple[Any, ...]
    budget: str | None

    def active(self, now: int) -> bool:
        """Whether it still holds."""
        return self.until is None or self.until > now


class Wanted(NamedTuple):
    """What the table says a failure must lead to."""

    next: str  # fail, retry, move
    wait: tuple[int, int] = (0, 0)
    target: str = ""  # "": nothing is held
    until: tuple[int | None, int | None] = (None, None)
    strikes: int = 1


@dataclass
class Law:
    """What is held, doubted and suspected, kept from the log and held against the table."""

    setup: Setup
    holds: dict[tuple[str, str], Held] = field(default_factory=dict)
    strikes: dict[tuple[str, str], int] = field(default_factory=dict)
    doubted: set[str] = field(default_factory=set)
    soft: dict[str, str] = field(default_factory=dict)  # tier: the task that failed softly there last
    paused: set[str] = field(default_factory=set)
    exhausted: set[str] = field(default_factory=set)
    last: dict[str, tuple[str, int, str | None]] = field(default_factory=dict)  # by chain: kind, when, tier

    def targets(self, chain: str, tier: TierSetup) -> list[str]:
        """Everything whose hold keeps this tier from being picked in this chain."""
        found = [f"chain:{chain}", f"rung:{chain}/{tier.name}", f"tier:{tier.name}", f"account:{tier.account}"]
        return found + ([f"model:{tier.account}|{tier.model}"] if tier.model else [])

    def held(self, chain: str, tier: TierSetup, now: int) -> list[Held]:
        """What holds it."""
        targets = self.targets(chain, tier)
        return [hold for (target, _), hold in self.holds.items() if target in targets and hold.active(now)]

    def tiers(self, chain: str) -> list[TierSetup]:
        """The tiers of a chain, most preferred first."""
        return [self.setup.tiers[name] for name in self.setup.chains[chain].tiers]

    def first_free(self, chain: str, now: int) -> str | None:
        """What would be picked."""
        return next((tier.name for tier in self.tiers(chain) if not self.held(chain, tier, now)), None)

    def doubts(self, chain: str, tier: TierSetup, now: int) -> set[str]:
        """What of this tier is on probation, or has just come back and nobody has written it."""
        stale = {t for (t, kind), hold in self.holds.items() if RULES[kind].probation and not hold.active(now)}
        return (self.doubted | stale) & set(self.targets(chain, tier))

    def under(self, target: str) -> list[str]:
        """The chains with a tier that this target covers."""
        return [
            name for name in self.setup.chains if any(target in self.targets(name, tier) for tier in self.tiers(name))
        ]

    def answer(
        self, chain: str, tier: TierSetup, task: str, kind: str, told: Refusal | None, retried: int, now: int
    ) -> Wanted:
        """What a failure of this tier must lead to."""
        rule = RULES[kind]
        reset = told.reset_ms if told else None
        if not rule.on or not self.setup.chains[chain].acts_on(kind):
            return Wanted("fail")
        if not self.held(chain, tier, now):
            if rule.patience and not retried and reset is not None and reset - now <= rule.patience:
                wait = max(0, reset - now)
                return Wanted("retry", (wait, wait))
            if retried < rule.retries:
                wait = 2 * SECOND << retried
                return Wanted("retry", (wait, wait * 3 // 2))
        if rule.soft and self.soft.get(tier.name, task) == task:
            return Wanted("move")
        target = self._target(rule, tier, told)
        before = self.holds.get((target, kind))
        in_force = before is not None and before.active(now)
        strikes = max(1, self.strikes.get((target, kind), 0) + (not in_force))
        low, high = self._until(kind, rule, told, strikes, now)
        if before is not None and in_force:
            low, high = (None, None) if before.until is None else (max(low, before.until), max(high, before.until))
        return Wanted("move", (0, 0), target, (low, high), strikes)

    def _target(self, rule: Rule, tier: TierSetup, told: Refusal | None) -> str:
        named = told is not None and told.model is not None
        if rule.on == "account" or (rule.on == "account_or_model" and not named):
            return f"account:{tier.account}"
        if rule.on == "account_or_model" and tier.model:
            return f"model:{tier.account}|{tier.model}"
        return f"tier:{tier.name}"

    def _until(self, kind: str, rule: Rule, told: Refusal | None, strikes: int, now: int) -> tuple[int, int]:
        window = (told.window if told else None) or ""
        reset = told.reset_ms if told else None
        if reset is None or reset < now - 2 * MINUTE:
            cap = WINDOWS.get(window, rule.cap) if kind == "usage_limit" else rule.cap
            end = now + min(cap, rule.base * 2 ** (strikes - 1))
            return end, end
        longest = BELIEVED.get(window, 8 * DAY if kind == "usage_limit" else 6 * HOUR)
        end = max(reset, now + 5 * SECOND)
        jitter = min(30 * SECOND, max(0, reset - now) // 10 + 1)
        return min(end, now + longest), min(end + jitter, now + longest)
