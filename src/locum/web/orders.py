"""Everything that can be asked of the daemon."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from locum.config.reload import Applied, Rejected, Unchanged
from locum.engine import views
from locum.engine.supervisor import Supervisor
from locum.errors import NotFoundError
from locum.policy.board import Event, EventKind
from locum.policy.chain import pick
from locum.policy.plan import Chain
from locum.web.bodies import LARGEST_TASK, BumpOrder, NewTask, ReleaseOrder, read
from locum.web.endpoint import Told
from locum.web.match import guard_of

BY_HAND = "taken off by the operator"
"""Why a tier was bumped, where nobody said."""


class Orders:
    """The changing half of the HTTP face; each method is one endpoint.

    All but `submit` can be repeated safely; a bump that names no tier takes the next one when it is repeated.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor

    async def submit(self, request: Request) -> Told:
        """Take a task; answered once it is durable."""
        order = await read(request, NewTask, LARGEST_TASK)
        task = await self.supervisor.submit(
            order.chain or views.main_chain(self.supervisor.ledger.plan),
            order.prompt.encode(),
            order.cwd,
            title=order.title,
            no_wait=order.no_wait,
            shared_cwd=order.shared_cwd,
        )
        return Told({"schema": views.SCHEMA, **views.task(task)}, {"location": f"/tasks/{task.id}"})

    async def cancel(self, request: Request) -> dict[str, Any]:
        """Stop a task, or keep it from starting; one that has ended stays as it is."""
        task = await self.supervisor.cancel(request.path_params["id"])
        return {"schema": views.SCHEMA, **views.task(task)}

    async def bump(self, request: Request) -> dict[str, Any]:
        """Take a chain off a tier."""
        chain, order = self._chain(request), await read(request, BumpOrder)
        self._tier(chain, order.tier)
        until_ms = None if order.for_ms is None else self.supervisor.clock.now_ms() + order.for_ms
        step = await self.supervisor.bump(
            chain.name, order.tier, until_ms, order.reason or BY_HAND, guard_of(request, chain)
        )
        placed = next((each for each in step.events if each.hold is not None), None)
        return {
            **self._standing(chain),
            "tier": placed.tier if placed else order.tier,
            "hold": views.hold(placed.hold) if placed and placed.hold else None,
            "already_held": placed is not None and placed.kind is EventKind.EXTENDED,
        }

    async def release(self, request: Request) -> dict[str, Any]:
        """Lift holds; lifting what is not held does nothing."""
        chain, order = self._chain(request), await read(request, ReleaseOrder)
        self._tier(chain, order.tier)
        events = await self.supervisor.release(chain.name, order.tier, order.kind, guard_of(request, chain))
        return {**self._standing(chain), "released": _released(chain, events)}

    async def pause(self, request: Request) -> dict[str, Any]:
        """Start no more tasks of a chain; running attempts finish."""
        chain = self._chain(request)
        already = self.supervisor.ledger.board.chain(chain.name).paused
        await self.supervisor.pause(chain.name, guard_of(request, chain))
        return {**self._standing(chain), "already_paused": already}

    async def resume(self, request: Request) -> dict[str, Any]:
        """Start tasks of a chain again."""
        chain = self._chain(request)
        already = not self.supervisor.ledger.board.chain(chain.name).paused
        await self.supervisor.resume(chain.name, guard_of(request, chain))
        return {**self._standing(chain), "already_running": already}

    async def reload(self, _: Request) -> dict[str, Any]:
        """Read service.json again, now."""
        match await self.supervisor.reload():
            case Unchanged():
                result, problems = "unchanged", self.supervisor.rejected
            case Applied():
                result, problems = "applied", ()
            case Rejected(problems):
                result = "rejected"
        loaded = self.supervisor.loaded
        return {
            "schema": views.SCHEMA,
            "result": result,
            "path": str(loaded.path),
            "problems": [str(each) for each in problems],
            "warnings": [str(each) for each in loaded.warnings],
        }

    def _chain(self, request: Request) -> Chain:
        return views.chain_named(self.supervisor.ledger.plan, request.path_params["chain"])

    def _tier(self, chain: Chain, name: str | None) -> None:
        if name is not None and chain.tier(name) is None:
            names = ", ".join(tier.name for tier in chain.tiers)
            raise NotFoundError(f"chain {chain.name} has no tier {name}", remedy=f"Its tiers are {names}.")

    def _standing(self, chain: Chain) -> dict[str, Any]:
        """Where the chain stands now, after whatever was done."""
        board = self.supervisor.ledger.board
        active = pick(board, chain, self.supervisor.clock.now_ms(), busy=self.supervisor.busy())
        return {
            "schema": views.SCHEMA,
            "chain": chain.name,
            "active_tier": active.name if active else None,
            "paused": board.chain(chain.name).paused,
        }


def _released(chain: Chain, events: tuple[Event, ...]) -> list[dict[str, Any]]:
    """What was lifted, each hold once however many chains it was felt in."""
    found = {
        each.hold.key: {"tier": each.tier, **views.hold(each.hold)}
        for each in events
        if each.kind is EventKind.RELEASED and each.hold is not None and each.chain == chain.name
    }
    return list(found.values())
