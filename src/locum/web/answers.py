"""Everything that can be read from the daemon."""

from __future__ import annotations

import os
import platform
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from locum import __version__
from locum.engine import views
from locum.engine.output import output
from locum.engine.supervisor import Supervisor
from locum.policy.explain import explain
from locum.policy.task import TaskState
from locum.web.alerts import channels
from locum.web.feed import Feed, Place, place_of
from locum.web.lines import Lines
from locum.web.network import Network
from locum.web.query import cursor
from locum.web.recent import Recent
from locum.web.stream import Stream
from locum.words import iso

Json = dict[str, Any]


class Answers:
    """The reading half of the HTTP face; each method is one endpoint."""

    def __init__(self, supervisor: Supervisor, feed: Feed, network: Network) -> None:
        self.supervisor = supervisor
        self.network = network
        self.feed = feed
        self.recent = Recent(supervisor, self._used)

    async def health(self, _: Request) -> Json:
        """Whether the daemon answers."""
        return {"status": "ok"}

    async def version(self, _: Request) -> Json:
        """What runs here, and since when."""
        return {
            "schema": views.SCHEMA,
            "version": __version__,
            "python": platform.python_version(),
            "pid": os.getpid(),
            "started": iso(self.supervisor.started_ms),
        }

    async def status(self, _: Request) -> Json:
        """Every chain: its tiers, their holds, the last failure; the configuration in use; whether the disk is full."""
        boss = self.supervisor
        counts = await boss.ledger.open_counts()
        chains = views.status(boss.ledger.board, boss.ledger.plan, boss.clock.now_ms(), busy=boss.busy(), counts=counts)
        config = {
            "path": str(boss.loaded.path),
            "problems": [str(each) for each in boss.rejected],
            "warnings": [str(each) for each in boss.loaded.warnings],
        }
        more = {"low_disk": boss.low_disk, "config": config, "version": __version__, "started": iso(boss.started_ms)}
        more["post_task"] = views.post_tasks(await boss.ledger.post_tasks.view())
        more["channels"] = await channels(boss)
        more["accounts"] = await self._accounts()
        return {**chains, **more, **self._sources(), "http": self.network.standing()}

    async def _accounts(self) -> dict[str, Any]:
        boss, now_ms = self.supervisor, self.supervisor.clock.now_ms()
        plan = boss.ledger.plan
        names = {tier.account for tier in plan.tiers.values()}
        return views.accounts(plan, await boss.ledger.vendor_windows(names, now_ms), now_ms)

    async def usage(self, _: Request) -> bytes:
        """Tokens used in the current window, by chain and by tier."""
        return await self.recent.usage()

    async def _used(self) -> Json:
        boss, now_ms = self.supervisor, self.supervisor.clock.now_ms()
        plan = boss.ledger.plan
        scopes = [*plan.meters, "unattributed"]
        used = dict(zip(scopes, await boss.ledger.usages(scopes, now_ms), strict=True))
        return views.usage(boss.ledger.board, plan, used, now_ms) | self._sources()

    def _sources(self) -> dict[str, Any]:
        boss = self.supervisor
        on = boss.loaded.service.usage_sources is not False
        return {"usage_sources": views.usage_sources(boss.sources, on=on)}

    async def explain(self, _: Request, *, chain: str | None) -> Json:
        """The state of one chain, or of all, in sentences."""
        boss, now_ms = self.supervisor, self.supervisor.clock.now_ms()
        plan, board, readings = boss.ledger.plan, boss.ledger.board, await boss.ledger.readings(now_ms)
        chains = (views.chain_named(plan, chain),) if chain else tuple(plan.chains.values())
        told = {each.name: explain(board, plan, each, readings, now_ms, busy=boss.busy()) for each in chains}
        problems = [str(each) for each in boss.rejected]
        more = {"low_disk": boss.low_disk, "problems": problems}
        return {"schema": views.SCHEMA, "chains": told, **more}

    async def events(
        self, request: Request, *, after: int, limit: int, chain: str | None, cursor: int | None
    ) -> Json | Response:
        """The log of the chains, oldest first, after a sequence number; with `Accept: text/event-stream` as it grows.

        The stream goes on behind Last-Event-ID, else behind `after` if it is given, else from now on.
        """
        last = request.headers.get("last-event-id")
        place = place_of(last) if last else None
        if "text/event-stream" in request.headers.get("accept", ""):
            if place is None and "after" in request.query_params:
                place = Place(after, 0)
            return Stream(await self.feed.begin(place, chain), request.app.state.stopping)
        found = await self.supervisor.ledger.events(
            after=after if cursor is None else cursor, limit=limit + 1, chain=chain
        )
        return _page("events", [{"seq": seq, **views.event(each)} for seq, each in found], limit)

    async def notices(self, _: Request, *, after: int, limit: int, cursor: int | None) -> Json:
        """What people must hear of, oldest first, after a sequence number."""
        found = await self.supervisor.ledger.notices(after=after if cursor is None else cursor, limit=limit + 1)
        return _page("notices", [{"seq": seq, **views.notice(each)} for seq, each in found], limit)

    async def reports(self, _: Request, *, after: int, limit: int, cursor: int | None) -> Json:
        """What runners and sessions that are not ours have told, oldest first, after a sequence number."""
        found = await self.supervisor.ledger.reports(after=after if cursor is None else cursor, limit=limit + 1)
        return _page("reports", [{"seq": seq, **views.report(each)} for seq, each in found], limit)

    async def audit(self, _: Request) -> Json:
        """The whole ledger added up again."""
        return views.audit(await self.supervisor.ledger.audit())

    async def tasks(
        self, _: Request, *, chain: str | None, state: tuple[str, ...] | None, limit: int, cursor: str | None
    ) -> Json:
        """The newest tasks, newest first; `state` may be given several times."""
        states = tuple(map(TaskState, state)) if state else None
        ledger = self.supervisor.ledger
        found = await ledger.tasks(chain=chain, states=states, limit=limit + 1, before=cursor)
        after = await ledger.post_tasks.of([each.id for each in found[:limit]])
        told = [{**views.task(each), "post_task": views.post_task(after.get(each.id))} for each in found]
        return _page("tasks", told, limit)

    async def task(self, request: Request) -> Json:
        """One task with its runs, and what became of the operator's command after it."""
        task = await self.supervisor.ledger.task(request.path_params["id"])
        runs = [views.run(each) for each in await self.supervisor.ledger.runs(task.id)]
        after = views.post_task((await self.supervisor.ledger.post_tasks.of([task.id])).get(task.id))
        return {"schema": views.SCHEMA, **views.task(task), "runs": runs, "post_task": after}

    async def output(self, request: Request, *, run: int | None, stream: str, after: int) -> Json:
        """What the agent of an attempt wrote, as it is but without secrets, piece by piece."""
        task = await self.supervisor.ledger.task(request.path_params["id"])
        return {"schema": views.SCHEMA, **await output(self.supervisor, task, run, stream, after)}

    async def follow(self, request: Request, *, from_start: bool) -> Response:
        """What a task does, as it happens: one JSON object a line, until it has ended."""
        task = await self.supervisor.ledger.task(request.path_params["id"])
        happenings = self.supervisor.follow(task.id, from_start=from_start)
        return Lines({"schema": views.SCHEMA}, happenings, request.app.state.stopping)


def _page(name: str, rows: list[Json], limit: int) -> Json:
    """Rows, one more of which was asked for than are told: whether it came says whether there is a next page."""
    shown = rows[:limit]
    more = len(rows) > limit and bool(shown)
    place = (shown[-1]["id"] if name == "tasks" else shown[-1]["seq"]) if more else None
    return {"schema": views.SCHEMA, name: shown, "next": cursor(name, place) if more else None}
