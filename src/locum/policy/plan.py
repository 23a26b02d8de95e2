"""What service.json asks for, in the words policy understands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import NewType

from locum.policy.failure import ALWAYS_ACT, DEFAULT_TRIGGERS, FailureKind
from locum.policy.usage import EACH_TYPE_ONCE, Tokens, Weights
from locum.policy.window import Block, Lifetime, WindowRule

Target = NewType("Target", str)
"""What a hold is placed on: `chain:C`, `rung:C/T` (tier T in chain C only), `tier:T`, `account:A`, `model:A|M`."""


def chain_target(chain: str) -> Target:
    """The whole chain: how a halt is held."""
    return Target(f"chain:{chain}")


def rung_target(chain: str, tier: str) -> Target:
    """One tier, in one chain only: how a chain's own budget holds without touching other chains."""
    return Target(f"rung:{chain}/{tier}")


def tier_target(tier: str) -> Target:
    """One tier, in every chain that lists it."""
    return Target(f"tier:{tier}")


def account_target(account: str) -> Target:
    """Every tier that this account pays for, in every chain."""
    return Target(f"account:{account}")


def model_target(account: str, model: str) -> Target:
    """One model of one account, in every chain."""
    return Target(f"model:{account}|{model}")


@dataclass(frozen=True, slots=True)
class Tier:
    """One rung: a name, and whose login and which model it uses. `guard` changes when its login or config does."""

    name: str
    agent: str
    account: str
    model: str | None = None
    guard: str = ""


@dataclass(frozen=True)
class Chain:
    """An ordered list of tiers. Tier names and chain names match `[A-Za-z0-9][A-Za-z0-9._-]*`."""

    name: str
    tiers: tuple[Tier, ...]
    triggers: frozenset[FailureKind] = DEFAULT_TRIGGERS

    def tier(self, name: str) -> Tier | None:
        """The tier of that name, if this chain lists it."""
        return next((tier for tier in self.tiers if tier.name == name), None)

    def targets(self, tier: Tier) -> tuple[Target, ...]:
        """Everything whose hold keeps `tier` from being picked in this chain."""
        shared = (
            chain_target(self.name),
            rung_target(self.name, tier.name),
            tier_target(tier.name),
            account_target(tier.account),
        )
        return (*shared, model_target(tier.account, tier.model)) if tier.model else shared

    @cached_property
    def rungs(self) -> tuple[tuple[Tier, tuple[Target, ...]], ...]:
        """Each tier with its targets, in order."""
        return tuple((tier, self.targets(tier)) for tier in self.tiers)

    def acts_on(self, kind: FailureKind) -> bool:
        """Whether a failure of this kind may move the chain."""
        return kind in self.triggers or kind in ALWAYS_ACT


class Brake(StrEnum):
    """The three brakes of a budget: what is held when `used >= limit`."""

    CHAIN = "chain"  # 1: usage_threshold_tokens of a chain holds the tier that crossed
    TIER = "tier"  # 2: usage_threshold_tokens of a tier holds that tier
    HALT = "halt"  # 3: usage_halt_tokens of a chain holds every tier


@dataclass(frozen=True, slots=True)
class Budget:
    """One limit over one window. `owner` is the chain (brakes 1 and 3) or the tier (brake 2) whose usage counts.

    `acts` False: a crossing is told, but holds nothing (token_budget is not among the triggers, the chain
    has one tier, or the window never ends).
    """

    brake: Brake
    owner: str
    limit: int
    window: WindowRule
    weights: Weights = EACH_TYPE_ONCE
    acts: bool = True

    @property
    def id(self) -> str:
        """Stable name of this budget: `chain:default`, `tier:claude-max`, `halt:default`."""
        return f"{self.brake}:{self.owner}"

    @property
    def scope(self) -> str:
        """Whose usage counts, as the ledger names it: `chain:NAME` or `tier:NAME`."""
        return f"tier:{self.owner}" if self.brake is Brake.TIER else f"chain:{self.owner}"


class Unit(StrEnum):
    """What a threshold is told in."""

    PERCENT = "percent"  # of a budget's limit
    TOKENS = "tokens"


@dataclass(frozen=True, slots=True)
class Threshold:
    """So much usage that people want to hear of it: `at` percent of `budget`, or without a budget `at` tokens.

    `scope` (`chain:NAME`, `tier:NAME`) is whose usage counts, `window` over which, `weights` how much of each type.
    """

    at: int
    scope: str
    window: WindowRule
    weights: Weights = EACH_TYPE_ONCE
    budget: Budget | None = None

    def __post_init__(self) -> None:
        assert self.at > 0, "nothing used is nothing to tell"
        own = (self.budget.scope, self.budget.window, self.budget.weights) if self.budget else None
        assert own in (None, (self.scope, self.window, self.weights)), "a budget's percent count as the budget does"

    @property
    def unit(self) -> Unit:
        """What `at` is in."""
        return Unit.TOKENS if self.budget is None else Unit.PERCENT

    @property
    def owner(self) -> str:
        """What it is on record for: the budget's id, else the scope."""
        return self.scope if self.budget is None else self.budget.id

    @property
    def limit(self) -> int:
        """The limit that it is on record with: with another one it is another threshold. `at` without a budget."""
        return self.at if self.budget is None else self.budget.limit

    @property
    def thousandths(self) -> int:
        """How much reaches it, in thousandths of a token: whole numbers, so that 99.999 % is not 100 %."""
        return self.at * 1000 if self.budget is None else self.budget.limit * self.at * 10

    def reached_by(self, used: Tokens) -> bool:
        """Whether so much has been used."""
        return self.weights.thousandths(used) >= self.thousandths


@dataclass(frozen=True, slots=True)
class Meter:
    """How usage of a chain or tier is shown: over which window, weighed how, against which limit (None: no limit)."""

    window: WindowRule = field(default_factory=Lifetime)
    weights: Weights = EACH_TYPE_ONCE
    limit: int | None = None


@dataclass(frozen=True)
class Plan:
    """One whole, valid configuration as policy sees it. Never changed, only replaced."""

    chains: Mapping[str, Chain]
    budgets: tuple[Budget, ...] = ()
    meters: Mapping[str, Meter] = field(default_factory=dict)  # by scope: `chain:NAME`, `tier:NAME`
    attempts: int = 6
    task_tokens: int | None = None
    post_task: bool = False  # whether something is to be done after each task
    alerts: Mapping[str, tuple[Threshold, ...]] = field(default_factory=dict)  # by scope, the lowest first
    channels: Mapping[str, str] = field(default_factory=dict)  # where notices go: name to what tells two entries apart

    def budgets_of(self, chain: str, tier: str) -> tuple[Budget, ...]:
        """The budgets that usage of `tier` in `chain` counts against."""
        return self._budgets_by_scope.get(f"chain:{chain}", ()) + self._budgets_by_scope.get(f"tier:{tier}", ())

    def chains_under(self, target: Target) -> tuple[Chain, ...]:
        """The chains that list a tier which `target` covers."""
        return self._chains_by_target.get(target, ())

    @cached_property
    def tiers(self) -> Mapping[str, Tier]:
        """Every tier by name."""
        return {tier.name: tier for chain in self.chains.values() for tier in chain.tiers}

    @cached_property
    def blocks(self) -> Mapping[str, frozenset[Block]]:
        """The block windows that look at each scope."""
        looked_at = [(budget.scope, budget.window) for budget in self.budgets]
        looked_at += [(scope, meter.window) for scope, meter in self.meters.items()]
        looked_at += [(scope, each.window) for scope, alerts in self.alerts.items() for each in alerts]
        found: dict[str, frozenset[Block]] = {}
        for scope, rule in looked_at:
            if isinstance(rule, Block):
                found[scope] = found.get(scope, frozenset()) | {rule}
        return found

    @cached_property
    def budgets_by_id(self) -> Mapping[str, Budget]:
        """Every budget by its id."""
        return {budget.id: budget for budget in self.budgets}

    @cached_property
    def _budgets_by_scope(self) -> dict[str, tuple[Budget, ...]]:
        found: dict[str, tuple[Budget, ...]] = {}
        for budget in self.budgets:
            found[budget.scope] = (*found.get(budget.scope, ()), budget)
        return found

    @cached_property
    def _chains_by_target(self) -> dict[Target, tuple[Chain, ...]]:
        found: dict[Target, dict[str, Chain]] = {}
        for chain in self.chains.values():
            for _, targets in chain.rungs:
                for target in targets:
                    found.setdefault(target, {})[chain.name] = chain
        return {target: tuple(chains.values()) for target, chains in found.items()}
