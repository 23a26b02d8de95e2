"""What people were told, through which channels, and what came of it; to tell it again, and to try a channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request

from locum.engine import views
from locum.engine.supervisor import Supervisor
from locum.errors import UsageError
from locum.policy.delivery import Delivery
from locum.policy.notice import Notice
from locum.store.views import ChannelView
from locum.web.bodies import ReplayOrder, TrialOrder, read
from locum.words import iso


class Alerts:
    """The endpoints below /alerts; each method is one."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor

    async def alerts(
        self, _: Request, *, before: int | None, limit: int, kind: str | None, chain: str | None, failed: bool
    ) -> dict[str, Any]:
        """The newest notices first, each with what became of it in each channel; and how the channels stand."""
        found = await self.supervisor.ledger.outbox.alerts(
            before=before, limit=limit, kind=kind, chain=chain, failed=failed
        )
        told = [_told(*each) for each in found]
        return {"schema": views.SCHEMA, "alerts": told, "channels": await channels(self.supervisor)}

    async def alert(self, request: Request) -> dict[str, Any]:
        """One notice by its name."""
        found = await self.supervisor.ledger.outbox.alert(request.path_params["id"])
        return {"schema": views.SCHEMA, **_told(*found)}

    async def replay(self, request: Request) -> dict[str, Any]:
        """Send a notice again, or whatever a channel was not told; sent again, it has the same name."""
        order = await read(request, ReplayOrder)
        if order.id is None and order.channel is None:
            raise UsageError("nothing is named to be sent again", remedy="Name a notice, a channel or both.")
        row = None if order.id is None else (await self.supervisor.ledger.outbox.alert(order.id))[0]
        found = await self.supervisor.outbox.replay(row, order.channel)
        replayed = [{"channel": name, "messages": count} for name, count in found]
        return {"schema": views.SCHEMA, "replayed": replayed}

    async def test(self, request: Request) -> dict[str, Any]:
        """Send a sample through one channel or all, and wait for what comes back."""
        order = await read(request, TrialOrder)
        return {"schema": views.SCHEMA, "tested": await self.supervisor.outbox.test(order.channel)}


async def channels(supervisor: Supervisor) -> list[dict[str, Any]]:
    """How every channel of service.json stands."""
    types = {each.name: each.type for each in supervisor.loaded.service.notify}
    found = await supervisor.ledger.outbox.channels()
    return [_channel(each, types[each.name]) for each in found if each.name in types]


def _channel(view: ChannelView, kind: str) -> dict[str, Any]:
    return {
        "name": view.name,
        "type": kind,
        "waiting": view.waiting,
        "oldest": iso(view.oldest_ms),
        "given_up": view.given_up,
        "failures": view.failures,
        "failing_since": iso(view.failing_ms),
        "last_sent": iso(view.sent_ms),
        "disabled": view.disabled,
        "disabled_at": iso(view.disabled_ms),
    }


def _told(seq: int, notice: Notice, found: Sequence[Delivery]) -> dict[str, Any]:
    return {"seq": seq, **views.notice(notice), "deliveries": [_delivery(each) for each in found]}


def _delivery(each: Delivery) -> dict[str, Any]:
    return {
        "channel": each.channel,
        "state": each.state,
        "attempts": each.attempts,
        "first_attempt": iso(each.first_ms),
        "next_attempt": iso(each.due_ms) if each.state == "waiting" else None,
        "ended": iso(each.ended_ms),
        "status": each.status,
        "answer": each.answer or None,
        "count": each.count,
        "folded_into": each.fold,
    }
