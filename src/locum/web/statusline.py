"""One line for an agent's own status bar: which tier, how full its chain's budget is, and when that begins anew."""

from __future__ import annotations

from dataclasses import dataclass

import anyio
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from locum.engine import views
from locum.engine.supervisor import Supervisor
from locum.policy.chain import free_at_ms, pick
from locum.policy.plan import Chain
from locum.store.views import UsageView
from locum.words import span

FRESH_S = 1.0
"""How old what was used may be."""
WAIT_S = 0.01
"""How long somebody who asks waits for a newer figure: a busy ledger keeps no status bar waiting."""


@dataclass(slots=True)
class _Seen:
    at: float
    view: UsageView


class StatusLine:
    """The endpoint. It answers from memory, and looks into the ledger beside that."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        self._seen: dict[str, _Seen] = {}

    async def answer(self, _: Request, *, chain: str | None) -> Response:
        """The active tier, how much of the budget is used, and when it begins anew, as one line of text."""
        plan = self.supervisor.ledger.plan
        found = views.chain_named(plan, chain or views.main_chain(plan))
        with anyio.move_on_after(WAIT_S):
            await self._look(found.name)
        return PlainTextResponse(self._line(found) + "\n")

    async def _look(self, chain: str) -> None:
        clock, ledger = self.supervisor.clock, self.supervisor.ledger
        seen = self._seen.get(chain)
        if seen is None or clock.monotonic() - seen.at >= FRESH_S:
            view = await ledger.usage(f"chain:{chain}", clock.now_ms())
            self._seen[chain] = _Seen(clock.monotonic(), view)

    def _line(self, chain: Chain) -> str:
        boss = self.supervisor
        board, now_ms, seen = boss.ledger.board, boss.clock.now_ms(), self._seen.get(chain.name)
        active = pick(board, chain, now_ms, busy=boss.busy())
        if active is None:
            free_ms = free_at_ms(board, chain, now_ms)
            wait = f", next in {span(free_ms - now_ms)}" if free_ms is not None and free_ms > now_ms else ""
            parts = [f"every tier is held{wait}"]
        else:
            parts = [active.name]
        if board.chain(chain.name).paused:
            parts.append("paused")
        if seen is not None and seen.view.percent is not None:
            parts.append(f"{seen.view.percent:g} %")
            end_ms = seen.view.window.end_ms
            if end_ms is not None and end_ms > now_ms:
                parts.append(f"anew in {span(end_ms - now_ms)}")
        return " | ".join(parts)
