"""History that is to be counted, and how far that is, line by line."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from locum.engine import views
from locum.engine.history import Import
from locum.engine.homes import Home, histories
from locum.engine.supervisor import Supervisor
from locum.policy.board import EventKind
from locum.policy.gate import placed
from locum.policy.plan import Plan
from locum.policy.usage import NO_TOKENS
from locum.web.bodies import ImportOrder, read
from locum.web.lines import Lines


class Imports:
    """The endpoint of imports. It may be asked again at any time: what is counted is not counted twice."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor

    async def begin(self, request: Request) -> Response:
        """Count the history of the homes that are meant, and tell how far it is until it has ended."""
        order = await read(request, ImportOrder)
        boss = self.supervisor
        homes = histories(boss.attempts.seats, order.agent, Path(order.home) if order.home else None)
        since_ms = max(0, int(order.since.timestamp() * 1000)) if order.since else 0
        job = boss.history.start(homes, since_ms)
        return Lines({"schema": views.SCHEMA}, self._told(job), request.app.state.stopping)

    async def _told(self, job: Import) -> AsyncGenerator[dict[str, Any], None]:
        followed = self.supervisor.history.follow(job)
        try:
            async for each in followed:
                if not each.ended:
                    yield {"type": "progress", **_progress(each)}
            yield {"type": "ended", "state": job.ended, **_progress(job), **self._outcome(job)}
        finally:
            await followed.aclose()

    def _outcome(self, job: Import) -> dict[str, Any]:
        plan, error = self.supervisor.ledger.plan, job.error
        return {
            "homes": [_home(plan, home, job) for home in job.homes],
            "held": [
                {"chain": each.chain, "tier": each.tier, **views.hold(each.hold)}
                for each in job.events
                if each.kind in (EventKind.BUMPED, EventKind.EXTENDED) and each.hold is not None
            ],
            "unread": {"files": job.troubled, "why": job.troubles},
            "error": {"code": error.code, "detail": error.detail, "remedy": error.remedy} if error else None,
        }


def _progress(job: Import) -> dict[str, Any]:
    """How far it is: files and bytes of all that is to be read, and what was new in it."""
    return {
        "files": job.files,
        "bytes": job.size,
        "files_done": job.done,
        "bytes_done": job.read,
        "files_known": job.known,
        "counted": views.totals(job.counted),
    }


def _home(plan: Plan, home: Home, job: Import) -> dict[str, Any]:
    """What was counted of one home, and for whom."""
    place = placed(plan, None, None, home.tiers)
    return {
        "agent": home.agent.name,
        "folder": home.folder,
        "chain": place.chain.name if place else None,
        "tier": place.tier.name if place else None,
        "account": place.tier.account if place else home.account,
        "counted": views.totals(job.shares.get((home.agent.name, home.folder), NO_TOKENS)),
    }
