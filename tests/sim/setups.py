"""service.json as the world knows it: what was written into the file, and what that must mean."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

ALL_TRIGGERS = (
    "auth_error", "usage_limit", "rate_limit", "credit_exhausted", "overloaded", "server_error", "model_unavailable",
    "network", "crash", "stalled", "no_result", "token_budget",
)  # fmt: skip
ALWAYS = frozenset({"operator", "unknown"})
Reset = tuple[str, int]
"""A window as ("day" | "week" | "all" | "madrid" | "rolling" | "block", minutes)."""


@dataclass(frozen=True)
class TierSetup:
    """One tier of the file; `account` is always named."""

    name: str
    agent: str
    account: str
    model: str | None = None
    threshold: int | None = None
    reset: Reset | None = None

    def written(self) -> dict[str, Any]:
        """As it stands in the file."""
        entry: dict[str, Any] = {"name": self.name, "agent": self.agent, "account": self.account}
        entry |= {"command": ["./agent"]} if self.agent == "command" else {"home": f"home-{self.account}"}
        entry |= {"model": self.model} if self.model else {}
        entry |= {"usage_threshold_tokens": self.threshold} if self.threshold else {}
        return entry | ({"usage_reset": written_reset(self.reset)} if self.reset else {})

    @property
    def guard(self) -> tuple[str, ...]:
        """What of it decides whose login it is and how it is started."""
        return (self.name, self.agent, self.account, self.model or "")


@dataclass(frozen=True)
class ChainSetup:
    """One chain of the file."""

    tiers: tuple[str, ...]
    triggers: tuple[str, ...] = ALL_TRIGGERS
    threshold: int | None = None
    halt: int | None = None
    reset: Reset = ("day", 0)
    weights: tuple[int, int, int, int] = (1000, 1000, 1000, 1000)

    def written(self) -> dict[str, Any]:
        """Its budgets as they stand in the file."""
        names = ("input", "output", "cache_read", "cache_write")
        told: dict[str, Any] = {"usage_reset": written_reset(self.reset)}
        told |= {"usage_threshold_tokens": self.threshold} if self.threshold else {}
        told |= {"usage_halt_tokens": self.halt} if self.halt else {}
        if set(self.weights) != {1000}:
            told["count_tokens"] = {name: weight / 1000 for name, weight in zip(names, self.weights, strict=True)}
        return told

    def acts_on(self, kind: str) -> bool:
        """Whether a failure of this kind may move the chain."""
        stripped = kind == "token_budget" and len(self.tiers) == 1
        return kind in ALWAYS or (kind in self.triggers and not stripped)


@dataclass(frozen=True)
class BudgetSetup:
    """One limit over one window; `acts` False: a crossing is only told."""

    brake: str  # chain, tier or halt
    owner: str
    limit: int
    reset: Reset
    weights: tuple[int, int, int, int]
    acts: bool

    @property
    def id(self) -> str:
        """As notices and holds name it."""
        return f"{self.brake}:{self.owner}"

    @property
    def scope(self) -> str:
        """Whose usage counts."""
        return f"tier:{self.owner}" if self.brake == "tier" else f"chain:{self.owner}"


@dataclass(frozen=True)
class Setup:
    """One whole content of service.json."""

    tiers: dict[str, TierSetup]
    chains: dict[str, ChainSetup]
    limits: dict[str, Any] = field(default_factory=dict)
    watched: bool = False

    def written(self) -> dict[str, Any]:
        """As JSON; a tier is described where it stands first, and named elsewhere."""
        described: set[str] = set()
        routes: dict[str, dict[str, Any]] = {}
        for name, chain in self.chains.items():
            listed = []
            for tier in chain.tiers:
                listed.append(tier if tier in described else self.tiers[tier].written())
                described.add(tier)
            routes[name] = {"tiers": listed}
            if chain.triggers != ALL_TRIGGERS:
                routes[name]["triggers"] = list(chain.triggers)
        more = {name: route | self.chains[name].written() for name, route in routes.items() if name != "default"}
        service = {**self.chains["default"].written(), "failover": routes["default"], "limits": self.limits}
        service["usage_sources"] = self.watched
        return service | ({"chains": more} if more else {})

    def listing(self, tier: str) -> list[str]:
        """The chains that list this tier, in the order of the file."""
        return [name for name, chain in self.chains.items() if tier in chain.tiers]

    def budgets(self) -> list[BudgetSetup]:
        """Every limit in the file."""
        found = []
        for name, chain in self.chains.items():
            if chain.threshold:
                acts = chain.acts_on("token_budget") and chain.reset[0] != "all"
                found.append(BudgetSetup("chain", name, chain.threshold, chain.reset, chain.weights, acts))
            if chain.halt:
                found.append(BudgetSetup("halt", name, chain.halt, chain.reset, chain.weights, acts=True))
        for tier in self.tiers.values():
            at = self.listing(tier.name)
            if tier.threshold and at:
                acts = any(self.chains[name].acts_on("token_budget") for name in at)
                home = self.chains[at[0]]
                found.append(
                    BudgetSetup("tier", tier.name, tier.threshold, tier.reset or home.reset, home.weights, acts)
                )
        return found


def written_reset(reset: Reset) -> Any:
    """`usage_reset` as it stands in the file."""
    kind, minutes = reset
    if kind == "madrid":
        return {"calendar": "day", "at": "04:00", "timezone": "Europe/Madrid"}
    return {kind: f"{minutes}m"} if kind in ("rolling", "block") else kind


def draw_reset(dice: random.Random) -> Reset:
    """Some window."""
    kind = dice.choice(("day", "week", "all", "madrid", "rolling", "rolling", "block", "block"))
    return (kind, dice.choice((20, 60, 150)) if kind in ("rolling", "block") else 0)


def draw_setup(dice: random.Random, *, budgets: bool, claude: bool) -> Setup:
    """A first configuration: one to three chains that share accounts and tiers."""
    accounts = [f"acct{number}" for number in range(dice.randint(1, 4))]
    tiers = {}
    for number in range(dice.randint(2, 6)):
        agent = "claude-code" if claude and dice.random() < 0.5 else "command"
        tiers[f"t{number}"] = draw_tier(dice, f"t{number}", agent, dice.choice(accounts), budgets=budgets)
    chains = {"default": draw_chain(dice, tiers, budgets=budgets)}
    for number in range(dice.choice((0, 0, 1, 1, 2))):
        chains[f"c{number}"] = draw_chain(dice, tiers, budgets=budgets)
    listed = {tier for chain in chains.values() for tier in chain.tiers}
    limits = {"min_free": "1M", "parallel": dice.choice((1, 2, 4)), "attempts": dice.choice((3, 6, 6, 10))}
    limits |= {"stall_after": dice.choice(("3m", "6m", "10m")), "stop_grace": "10s"}
    limits |= {"task_tokens": dice.randint(3_000, 60_000)} if dice.random() < 0.2 else {}
    return Setup({name: tier for name, tier in tiers.items() if name in listed}, chains, limits)


def draw_tier(dice: random.Random, name: str, agent: str, account: str, *, budgets: bool) -> TierSetup:
    """Some tier."""
    model = dice.choice((None, "big", "small"))
    tier = TierSetup(name, agent, account, model)
    if budgets and dice.random() < 0.4:
        own = draw_reset(dice) if dice.random() < 0.6 else None
        tier = replace(tier, threshold=dice.randint(2_000, 90_000), reset=own)
    return tier


def draw_chain(dice: random.Random, tiers: dict[str, TierSetup], *, budgets: bool) -> ChainSetup:
    """Some of these tiers, in some order."""
    names = dice.sample(sorted(tiers), dice.randint(1, min(4, len(tiers))))
    chain = ChainSetup(tuple(names), reset=draw_reset(dice))
    if dice.random() < 0.2:
        chain = replace(chain, triggers=tuple(kind for kind in ALL_TRIGGERS if dice.random() < 0.8))
    if not budgets:
        return chain
    if dice.random() < 0.5:
        chain = replace(chain, threshold=dice.randint(3_000, 150_000))
    if dice.random() < 0.3:
        chain = replace(chain, halt=dice.randint(10_000, 250_000))
    if dice.random() < 0.3:
        chain = replace(chain, weights=(1000, dice.choice((1000, 5000)), dice.choice((0, 100)), 1250))
    return chain
