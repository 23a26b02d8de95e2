"""Parts of what the daemon knows, each by its own path: chains, tiers, holds, the configuration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from locum.config.conceal import concealed
from locum.config.problem import Problem
from locum.engine import views
from locum.engine.supervisor import Supervisor
from locum.errors import NotFoundError
from locum.policy.chain import state_of
from locum.policy.plan import Tier
from locum.store.views import UsageView
from locum.web.endpoint import Told
from locum.web.match import tag_of


class Resources:
    """The half of the reading face that is told thing by thing; each method is one endpoint."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor

    async def chains(self, _: Request) -> dict[str, Any]:
        """How every chain stands."""
        found = await self._standings()
        return {"schema": views.SCHEMA, "chains": [{"name": name, **each} for name, each in found.items()]}

    async def chain(self, request: Request) -> Told:
        """How one chain stands; its ETag changes with what is held in it and whether it is paused."""
        boss = self.supervisor
        chain = views.chain_named(boss.ledger.plan, request.path_params["chain"])
        found = (await self._standings())[chain.name]
        tag = tag_of(boss.ledger.board, chain)
        return Told({"schema": views.SCHEMA, "name": chain.name, **found}, {"etag": tag})

    async def _standings(self) -> Mapping[str, dict[str, Any]]:
        boss = self.supervisor
        counts = await boss.ledger.open_counts()
        told = views.status(boss.ledger.board, boss.ledger.plan, boss.clock.now_ms(), busy=boss.busy(), counts=counts)
        found: dict[str, dict[str, Any]] = told["chains"]
        return found

    async def tiers(self, _: Request) -> dict[str, Any]:
        """Every tier: what it runs, where it stands, what it has used."""
        plan = self.supervisor.ledger.plan
        used = await self._used(plan.tiers)
        return {"schema": views.SCHEMA, "tiers": [self._tier(each, used[each.name]) for each in plan.tiers.values()]}

    async def tier(self, request: Request) -> dict[str, Any]:
        """One tier: what it runs, where it stands, what it has used."""
        tiers, name = self.supervisor.ledger.plan.tiers, request.path_params["tier"]
        if name not in tiers:
            raise NotFoundError(f"no tier {name}", remedy=f"The tiers are {', '.join(tiers)}.")
        used = await self._used([name])
        return {"schema": views.SCHEMA, **self._tier(tiers[name], used[name])}

    async def _used(self, names: Any) -> dict[str, UsageView]:
        boss = self.supervisor
        found = await boss.ledger.usages([f"tier:{name}" for name in names], boss.clock.now_ms())
        return dict(zip(names, found, strict=True))

    def _tier(self, tier: Tier, used: UsageView) -> dict[str, Any]:
        boss = self.supervisor
        board, plan, now_ms, busy = boss.ledger.board, boss.ledger.plan, boss.clock.now_ms(), boss.busy()
        chains = [each for each in plan.chains.values() if each.tier(tier.name)]
        targets = {target for each in chains for target in each.targets(tier)}
        holds = [each for target in targets for each in board.holds_by_target.get(target, ()) if each.active(now_ms)]
        running = Counter(run.tier.name for run in boss.attempts)
        return {
            "name": tier.name,
            "agent": tier.agent,
            "model": tier.model,
            "account": tier.account,
            "chains": [
                {"chain": each.name, "state": state_of(board, each, tier, now_ms, busy).value} for each in chains
            ],
            "holds": [views.hold(each) for each in sorted(holds, key=lambda each: (each.since_ms, each.target))],
            "running": running[tier.name],
            "usage": views.measured(used, board, now_ms, plan.budgets_by_id.get(f"tier:{tier.name}")),
        }

    async def holds(self, _: Request) -> dict[str, Any]:
        """Every hold there is now, oldest first, with the chains that feel it."""
        boss = self.supervisor
        now_ms, plan = boss.clock.now_ms(), boss.ledger.plan
        found = sorted(boss.ledger.board.holds.values(), key=lambda each: (each.since_ms, each.target, each.kind))
        told = [
            {
                **views.hold(each),
                "chain": each.chain,
                "tier": each.tier,
                "chains": [chain.name for chain in plan.chains_under(each.target)],
            }
            for each in found
            if each.active(now_ms)
        ]
        return {"schema": views.SCHEMA, "holds": told}

    async def config(self, _: Request) -> Told:
        """The configuration in use, without secrets, and what is wrong with a newer edit of it."""
        boss = self.supervisor
        loaded = boss.loaded
        told = {
            "schema": views.SCHEMA,
            "path": str(loaded.path),
            "digest": loaded.digest,
            "config": concealed(loaded.document, boss.redactor()),
            "rules": [rule.id for rule in loaded.added],
            "problems": [_problem(each) for each in boss.rejected],
            "warnings": [_problem(each) for each in loaded.warnings],
        }
        return Told(told, {"etag": f'"{loaded.digest[:32]}"'})


def _problem(each: Problem) -> dict[str, Any]:
    return {
        "path": str(each.path),
        "line": each.line,
        "column": each.column,
        "severity": str(each.severity),
        "what": each.what,
        "why": each.why,
        "remedy": each.remedy,
    }
