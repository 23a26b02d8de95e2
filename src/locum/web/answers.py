"""Everything that can be read from the daemon."""

from __future__ import annotations

import os
import platform
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from locum import __version__
from locum.engine import views
from locum.engine.supervisor import Supervisor
from locum.errors import UsageError
from locum.policy.explain import explain
from locum.policy.task import TaskState
from locum.web.alerts import channels
from locum.web.lines import Lines
from locum.words import iso

_LIMIT, _MOST = 50, 1000


class Answers:
    """The reading half of the HTTP face; each method is one endpoint."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor

    async def health(self, _: Request) -> Response:
        """Whether the daemon answers."""
        return JSONResponse({"status": "ok"})

    async def version(self, _: Request) -> Response:
        """What runs here, and since when."""
        return JSONResponse(
            {
                "schema": views.SCHEMA,
                "version": __version__,
                "python": platform.python_version(),
                "pid": os.getpid(),
                "started": iso(self.supervisor.started_ms),
            }
        )

    async def status(self, _: Request) -> Response:
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
        return JSONResponse({**chains, **more, **self._sources()})

    async def _accounts(self) -> dict[str, Any]:
        boss, now_ms = self.supervisor, self.supervisor.clock.now_ms()
        plan = boss.ledger.plan
        names = {tier.account for tier in plan.tiers.values()}
        return views.accounts(plan, {name: await boss.ledger.vendor_windows(name, now_ms) for name in names}, now_ms)

    async def usage(self, _: Request) -> Response:
        """Tokens used in the current window, by chain and by tier."""
        boss, now_ms = self.supervisor, self.supervisor.clock.now_ms()
        plan = boss.ledger.plan
        used = {scope: await boss.ledger.usage(scope, now_ms) for scope in (*plan.meters, "unattributed")}
        return JSONResponse(views.usage(boss.ledger.board, plan, used, now_ms) | self._sources())

    def _sources(self) -> dict[str, Any]:
        boss = self.supervisor
        on = boss.loaded.service.usage_sources is not False
        return {"usage_sources": views.usage_sources(boss.sources, on=on)}

    async def explain(self, request: Request) -> Response:
        """The state of one chain, or of all, in sentences."""
        boss, now_ms = self.supervisor, self.supervisor.clock.now_ms()
        plan, board, readings = boss.ledger.plan, boss.ledger.board, await boss.ledger.readings(now_ms)
        wanted = request.query_params.get("chain")
        chains = (views.chain_named(plan, wanted),) if wanted else tuple(plan.chains.values())
        told = {each.name: explain(board, plan, each, readings, now_ms, busy=boss.busy()) for each in chains}
        problems = [str(each) for each in boss.rejected]
        more = {"low_disk": boss.low_disk, "problems": problems}
        return JSONResponse({"schema": views.SCHEMA, "chains": told, **more})

    async def events(self, request: Request) -> Response:
        """The log of the chains, oldest first, after a sequence number."""
        chain = request.query_params.get("chain")
        found = await self.supervisor.ledger.events(
            after=_number(request, "after", 0), limit=_number(request, "limit", _LIMIT, _MOST), chain=chain
        )
        return JSONResponse(
            {"schema": views.SCHEMA, "events": [{"seq": seq, **views.event(each)} for seq, each in found]}
        )

    async def notices(self, request: Request) -> Response:
        """What people must hear of, oldest first, after a sequence number."""
        found = await self.supervisor.ledger.notices(
            after=_number(request, "after", 0), limit=_number(request, "limit", _LIMIT, _MOST)
        )
        return JSONResponse(
            {"schema": views.SCHEMA, "notices": [{"seq": seq, **views.notice(each)} for seq, each in found]}
        )

    async def reports(self, request: Request) -> Response:
        """What runners and sessions that are not ours have told, oldest first, after a sequence number."""
        found = await self.supervisor.ledger.reports(
            after=_number(request, "after", 0), limit=_number(request, "limit", _LIMIT, _MOST)
        )
        return JSONResponse(
            {"schema": views.SCHEMA, "reports": [{"seq": seq, **views.report(each)} for seq, each in found]}
        )

    async def audit(self, _: Request) -> Response:
        """The whole ledger added up again."""
        return JSONResponse(views.audit(await self.supervisor.ledger.audit()))

    async def tasks(self, request: Request) -> Response:
        """The newest tasks, newest first; `state` may be given several times."""
        try:
            states = tuple(TaskState(state) for state in request.query_params.getlist("state"))
        except ValueError:
            raise UsageError("there is no such task state", remedy=f"Use one of {', '.join(TaskState)}.") from None
        found = await self.supervisor.ledger.tasks(
            chain=request.query_params.get("chain"),
            states=states or None,
            limit=_number(request, "limit", _LIMIT, _MOST),
        )
        after = await self.supervisor.ledger.post_tasks.of([each.id for each in found])
        told = [{**views.task(each), "post_task": views.post_task(after.get(each.id))} for each in found]
        return JSONResponse({"schema": views.SCHEMA, "tasks": told})

    async def task(self, request: Request) -> Response:
        """One task with its runs, and what became of the operator's command after it."""
        task = await self.supervisor.ledger.task(request.path_params["id"])
        runs = [views.run(each) for each in await self.supervisor.ledger.runs(task.id)]
        after = views.post_task((await self.supervisor.ledger.post_tasks.of([task.id])).get(task.id))
        return JSONResponse({"schema": views.SCHEMA, **views.task(task), "runs": runs, "post_task": after})

    async def follow(self, request: Request) -> Response:
        """What a task does, as it happens: one JSON object a line, until it has ended."""
        task = await self.supervisor.ledger.task(request.path_params["id"])
        from_start = request.query_params.get("from_start", "true") != "false"
        happenings = self.supervisor.follow(task.id, from_start=from_start)
        return Lines({"schema": views.SCHEMA}, happenings, request.app.state.stopping)


def _number(request: Request, name: str, default: int, most: int | None = None) -> int:
    """A whole number from the query, 0 to `most`. Raises UsageError for anything else."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdecimal() or (most is not None and int(text) > most):
        up_to = "" if most is None else f" up to {most:,}"
        raise UsageError(f"`{name}` must be a whole number{up_to}", remedy=f"Write it in plain digits: {name}=10.")
    return int(text)
