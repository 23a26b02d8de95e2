"""What agents and runners tell that people run themselves, and what they are answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import structs
from starlette.requests import Request

from locum.agents.hooks import Hooks, Moment
from locum.agents.registry import hooks
from locum.engine import views
from locum.engine.intake import Answer, Named
from locum.engine.supervisor import Supervisor
from locum.engine.transcript import Caller
from locum.errors import ForbiddenError, NotFoundError, UsageError
from locum.policy.explain import stopped
from locum.policy.failure import Failure
from locum.policy.gate import Place, gate, placed
from locum.policy.report import Report
from locum.policy.usage import Tokens, Usage
from locum.web.bodies import FailureTold, WorkDone, read, read_object
from locum.web.peer import caller_of
from locum.words import iso

RUNNERS = "report"
"""The agent under which the reports of other runners are kept: their ids live apart from every agent's."""


class HookCalls:
    """The half of the HTTP face that is for hooks; each method is one endpoint. All can be repeated safely."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor

    async def agent(self, request: Request, *, chain: str | None, tier: str | None) -> Mapping[str, Any]:
        """A hook of an agent: counted, judged, and answered in the agent's own format."""
        adapter = self._adapter(request.path_params["agent"])
        told = adapter.told(await read_object(request))
        named = Named(chain or None, tier or None)
        answer = await self.supervisor.intake.heed(adapter, told, self._caller(request), named)
        if told.moment is Moment.TEST:
            return _tested(adapter, answer)
        return adapter.answer(told, answer.stop, answer.note)

    async def post_task(self, request: Request) -> dict[str, Any]:
        """What another runner has done: counted, judged, and answered with what to do next."""
        body, caller = await read(request, WorkDone), self._caller(request)
        tokens = body.tokens.tokens if body.tokens else None
        usages = (Usage(body.id, tokens, body.model, body.session),) if tokens else ()
        if caller.run is not None:
            return await self._within(caller.run, body, usages)
        if caller.marked:
            raise ForbiddenError(
                "what has left a run of locum may not report: nobody can tell which run it would count for",
                remedy="Report from the agent's own processes, or from a shell that no agent started.",
            )
        place = self._place(body)
        cost = None if body.cost_usd is None else int(body.cost_usd * 1_000_000)
        failure = self._failure(body.failure)
        report = Report(RUNNERS, body.id, place, tokens, usages, failure, body.session, body.model, body.provider, cost)
        found = await self.supervisor.report(report)
        return await self._verdict(place, found.tokens, duplicate=found.duplicate)

    async def _within(self, run_id: str, body: WorkDone, usages: Sequence[Usage]) -> dict[str, Any]:
        """What an agent of ours reports counts for its own run; how that went is judged where it is watched.

        Raises ForbiddenError when it names another chain or tier.
        """
        run = await self.supervisor.ledger.run(run_id)
        if (body.chain or run.chain, body.tier or run.tier.name) != (run.chain, run.tier.name):
            raise ForbiddenError(
                f"an agent may report for its own tier only ({run.tier.name} of chain {run.chain})",
                remedy="Leave chain and tier out.",
            )
        own = [structs.replace(usage, key=f"{RUNNERS}:{usage.key}") for usage in usages]
        found = await self.supervisor.ledger.record(run.id, own, self.supervisor.clock.now_ms())
        place = placed(self.supervisor.ledger.plan, run.chain, run.tier.name)
        return await self._verdict(place, found.tokens, duplicate=bool(own) and not found.tokens)

    async def _verdict(self, place: Place | None, counted: Tokens, *, duplicate: bool) -> dict[str, Any]:
        """Whether to go on, and how the chain stands now."""
        boss = self.supervisor
        now_ms, plan = boss.clock.now_ms(), boss.ledger.plan
        verdict: dict[str, Any] = {
            "schema": views.SCHEMA,
            "go_on": True,
            "reason": None,
            "until": None,
            "chain": None,
            "tier": None,
            "active_tier": None,
            "last_failure_kind": None,
            "percent": None,
            "duplicate": duplicate,
            "counted": views.totals(counted),
        }
        if place is None:
            return verdict
        answer = gate(boss.ledger.board, place, now_ms)
        usage = await boss.ledger.usage(f"chain:{place.chain.name}", now_ms)
        return verdict | {
            "go_on": answer.go_on,
            "reason": None if answer.go_on else stopped(plan, place, answer, now_ms),
            "until": iso(answer.hold.until_ms) if answer.hold else None,
            "chain": place.chain.name,
            "tier": place.tier.name,
            "active_tier": answer.active,
            "last_failure_kind": boss.ledger.board.chain(place.chain.name).last_failure_kind,
            "percent": usage.percent,
        }

    def _adapter(self, agent: str) -> Hooks:
        known: Mapping[str, Hooks] = hooks(self.supervisor.agents)
        if agent not in known:
            raise NotFoundError(f"no hooks are known of {agent}", remedy=f"Known are those of {', '.join(known)}.")
        return known[agent]

    def _caller(self, request: Request) -> Caller:
        return caller_of(request.state.peer, self.supervisor.running())

    def _place(self, body: WorkDone) -> Place | None:
        """The tier that was named. Raises NotFoundError or UsageError."""
        plan = self.supervisor.ledger.plan
        if body.chain is None and body.tier is None:
            return None
        chain = views.chain_named(plan, body.chain) if body.chain else None
        listed = [tier.name for tier in chain.tiers] if chain else list(plan.tiers)
        place = placed(plan, body.chain, body.tier, listed)
        if place is None and body.tier is None:
            raise UsageError(f"chain {body.chain} has several tiers", remedy=f"Name one of {', '.join(listed)}.")
        if place is None:
            where = f"chain {body.chain}" if body.chain else "the configuration"
            raise NotFoundError(f"{where} has no tier {body.tier}", remedy=f"Its tiers are {', '.join(listed)}.")
        return place

    def _failure(self, told: FailureTold | None) -> Failure | None:
        """What was told, without secrets. The model of the work is not one that the vendor has named as limited."""
        if told is None:
            return None
        reset_ms = None if told.reset_at is None else int(told.reset_at.timestamp() * 1000)
        message = self.supervisor.redactor()(told.message)
        return Failure(told.kind, message or f"reported: {told.kind}", RUNNERS, reset_ms)


def _tested(adapter: Hooks, answer: Answer) -> dict[str, Any]:
    """What a hook that is tried out is answered: whom it counts for, and whether a prompt would run."""
    place = answer.place
    return {
        "schema": views.SCHEMA,
        "agent": adapter.agent,
        "attributed": {"chain": place.chain.name, "tier": place.tier.name} if place else None,
        "go_on": answer.stop is None,
        "reason": answer.stop.reason if answer.stop else answer.note or None,
    }
