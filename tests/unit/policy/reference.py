"""A second, deliberately plain chain: one mutable board of dicts, written from the promises and not from the code."""

from __future__ import annotations

from dataclasses import dataclass, field

from locum.policy.board import Board
from locum.policy.chain import CLOCK_STEP_MS
from locum.policy.failure import ALWAYS_ACT, ANSWERS, Breadth, Failure, FailureKind, hold_until_ms
from locum.policy.plan import Brake, Budget, Chain, Plan, Tier

FOREVER = float("inf")
REPLACED = (FailureKind.OPERATOR, FailureKind.TOKEN_BUDGET)
Key = tuple[str, FailureKind]


def end_of(hold: dict) -> float:
    """An end as a number: no end is the latest of all."""
    return FOREVER if hold["until"] is None else hold["until"]


@dataclass
class Model:
    """What is held, counted, doubted and remembered. `holds` maps (target, kind) to {until, tier, guard}."""

    plan: Plan
    holds: dict[Key, dict] = field(default_factory=dict)
    strikes: dict[Key, int] = field(default_factory=dict)
    probation: set[str] = field(default_factory=set)
    soft: dict[str, str] = field(default_factory=dict)  # tier: the last task that failed softly there
    last: dict[str, tuple] = field(default_factory=dict)  # chain: (kind, at, tier)
    exhausted: set[str] = field(default_factory=set)
    told: list[str] = field(default_factory=list)  # each chain of which the last operation said: exhausted

    def held(self, chain: Chain, tier: Tier, now: int) -> dict[Key, dict]:
        """Every hold in force on any of the things this tier needs."""
        covers = {f"chain:{chain.name}", f"rung:{chain.name}/{tier.name}", f"tier:{tier.name}"}
        covers |= {f"account:{tier.account}", f"model:{tier.account}|{tier.model}"}
        return {key: hold for key, hold in self.holds.items() if key[0] in covers and now < end_of(hold)}

    def doubts(self, chain: Chain, tier: Tier, now: int) -> set[str]:
        """What this tier needs that must still prove itself: back from a hold, noticed or not."""
        over = {
            target for (target, kind), hold in self.holds.items() if end_of(hold) <= now and ANSWERS[kind].probation
        }
        return (self.probation | over) & set(chain.targets(tier))

    def pick(self, chain: Chain, now: int, busy: frozenset = frozenset(), avoid: frozenset = frozenset()) -> str | None:
        """The first tier in the list that is neither held, nor avoided, nor on probation with a run in progress."""
        for tier in chain.tiers:
            if tier.name in avoid or self.held(chain, tier, now) or self.doubts(chain, tier, now) & busy:
                continue
            return tier.name
        return None

    def bump(
        self,
        chain: Chain,
        tier: Tier,
        failure: Failure,
        now: int,
        task: str | None,
        retries: int,
        budget: Budget | None,
    ) -> tuple[str, int]:
        """What becomes of the task, and after how long a wait: ('retry' | 'move' | 'fail', wait)."""
        self.told = []
        if failure.lost_session:
            return "retry", 0
        answer = ANSWERS[failure.kind]
        self.last[chain.name] = (failure.kind, now, tier.name)
        before = self.soft.get(tier.name)
        if answer.soft and task is not None:
            self.soft[tier.name] = task
        acts = budget is not None or failure.kind in ALWAYS_ACT or failure.kind in chain.triggers
        if not acts or answer.breadth is Breadth.NOTHING:
            return "fail", 0
        if not self.held(chain, tier, now):
            asked = None if failure.reset_ms is None else max(0, failure.reset_ms - now)
            if retries == 0 and asked is not None and answer.wait_in_place_ms and asked <= answer.wait_in_place_ms:
                return "retry", asked
            if retries < answer.retries:
                return "retry", answer.retry_base_ms * 2**retries
        if answer.soft and task is not None and before in (None, task):
            return "move", 0
        self.hold(self.target(chain, tier, failure, budget), chain, tier, failure, now)
        return "move", 0

    def target(self, chain: Chain, tier: Tier, failure: Failure, budget: Budget | None) -> str:
        """What failed: the least thing that accounts for the failure."""
        if budget is not None:
            brakes = {Brake.CHAIN: f"rung:{chain.name}/{tier.name}", Brake.HALT: f"chain:{chain.name}"}
            return brakes.get(budget.brake, f"tier:{tier.name}")
        breadth = ANSWERS[failure.kind].breadth
        if breadth is Breadth.ACCOUNT or (breadth is Breadth.ACCOUNT_OR_MODEL and failure.model is None):
            return f"account:{tier.account}"
        if breadth is Breadth.ACCOUNT_OR_MODEL and tier.model:
            return f"model:{tier.account}|{tier.model}"
        return f"tier:{tier.name}"

    def hold(self, target: str, chain: Chain, tier: Tier, failure: Failure, now: int) -> None:
        """Place or extend one hold; every chain that loses its active tier to it hears of it."""
        before = {each.name: self.pick(each, now) for each in self.plan.chains.values()}
        key = (target, failure.kind)
        old = self.holds.get(key)
        alive = old is not None and now < end_of(old)
        strikes = max(1, self.strikes.get(key, 0) + (0 if alive else 1))
        new = {"until": hold_until_ms(failure, strikes, now), "tier": tier.name, "guard": tier.guard, "since": now}
        new["chain"] = chain.name
        if alive:
            new["since"] = old["since"]
        new["guard"] = next(
            (t.guard for c in self.plan.chains.values() for t in c.tiers if t.name == tier.name), tier.guard
        )
        if alive and failure.kind not in REPLACED and end_of(old) > end_of(new):
            new["until"] = old["until"]
        self.strikes[key], self.holds[key] = strikes, new
        for each in self.plan.chains.values():
            own, covered = each.name == chain.name, any(target in each.targets(t) for t in each.tiers)
            after = self.pick(each, now)
            if covered and not own and after != before[each.name]:
                self.last[each.name] = (failure.kind, now, before[each.name])
            if (
                (own or covered)
                and after is None
                and (before[each.name] is not None or each.name not in self.exhausted)
            ):
                self.exhausted.add(each.name)
                self.told.append(each.name)

    def end(self, keys: list[Key], now: int) -> None:
        """Holds end; who comes back from a vendor's or a credential's hold must prove itself."""
        for key in keys:
            hold = self.holds.pop(key)
            if ANSWERS[key[1]].probation:
                self.probation.add(key[0])
            covered = [c for c in self.plan.chains.values() if any(key[0] in c.targets(tier) for tier in c.tiers)]
            # What covers nobody any more is told where it began: that chain may have been edited free meanwhile.
            for each in covered or [c for c in self.plan.chains.values() if c.name == hold["chain"]]:
                if self.pick(each, now) is not None:
                    self.exhausted.discard(each.name)

    def settle(self, now: int) -> None:
        """What time has ended, and what a new login or configuration has."""
        tiers = {tier.name: tier for chain in self.plan.chains.values() for tier in chain.tiers}
        for hold in self.holds.values():
            if hold["since"] > now + CLOCK_STEP_MS:
                hold["until"] = None if hold["until"] is None else now + hold["until"] - hold["since"]
                hold["since"] = now
        over = [key for key, hold in self.holds.items() if end_of(hold) <= now]
        for key, hold in self.holds.items():
            guarded = ANSWERS[key[1]].guarded and hold["tier"] in tiers
            if key not in over and guarded and tiers[hold["tier"]].guard != hold["guard"]:
                over.append(key)
        self.end(over, now)

    def release(self, chain: Chain, now: int, tier: Tier | None = None, kind: FailureKind | None = None) -> None:
        """Lift what holds one tier, or all of them; of every kind, or of one."""
        keys = {key for each in ([tier] if tier else chain.tiers) for key in self.held(chain, each, now)}
        self.end([key for key in keys if kind in (None, key[1])], now)

    def succeeded(self, chain: Chain, tier: Tier) -> None:
        """A success vouches for its tier, account and model."""
        mine = set(chain.targets(tier))
        self.strikes = {key: count for key, count in self.strikes.items() if key[0] not in mine}
        self.probation -= mine
        self.soft.pop(tier.name, None)

    def as_seen(self) -> dict:
        """Everything a board can be asked, as plain values."""
        holds = {key: (hold["until"], hold["tier"], hold["guard"], hold["since"]) for key, hold in self.holds.items()}
        return {
            "holds": holds,
            "strikes": self.strikes,
            "probation": self.probation,
            "soft": self.soft,
            "last": self.last,
            "exhausted": self.exhausted,
        }


def seen(board: Board) -> dict:
    """The same values of a real board."""
    return {
        "holds": {key: (hold.until_ms, hold.tier, hold.guard, hold.since_ms) for key, hold in board.holds.items()},
        "strikes": dict(board.strikes),
        "probation": set(board.doubtful),
        "soft": dict(board.soft),
        "last": {
            name: (state.last_failure_kind, state.last_failure_at_ms, state.last_failure_tier)
            for name, state in board.chains.items()
            if state.last_failure_kind is not None
        },
        "exhausted": {name for name, state in board.chains.items() if state.exhausted},
    }
