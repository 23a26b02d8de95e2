"""What was used in the past, hour by hour or day by day."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from starlette.requests import Request

from locum.engine import views
from locum.engine.supervisor import Supervisor
from locum.errors import UsageError
from locum.policy.failure import DAY, HOUR
from locum.policy.usage import NO_TOKENS, Tokens
from locum.words import iso

MOST_MS = {"hour": 31 * DAY, "day": 400 * DAY}
"""How long a time may be asked for."""
USUAL_MS = {"hour": 2 * DAY, "day": 30 * DAY}
"""Which is told where nobody says."""


class Spending:
    """The endpoint of history."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor

    async def history(
        self, _: Request, *, by: str, start: int | None, end: int | None, timezone: str, **of: str | None
    ) -> dict[str, Any]:
        """Tokens by type, chain, tier, account and model, for each hour or day in which there were any.

        An hour belongs to the day in which it begins.
        """
        zone = _zone(timezone)
        end_ms = min(end or self.supervisor.clock.now_ms(), views.LAST_MS)
        start_ms = max(0, end_ms - USUAL_MS[by]) if start is None else start
        if not 0 <= end_ms - start_ms <= MOST_MS[by]:
            remedy = f"Ask for {MOST_MS[by] // DAY} days at most, `start` ahead of `end`."
            raise UsageError(f"that is no time of which each {by} can be told", remedy=remedy)
        start_ms = _beginning(start_ms, by, zone)
        found = await self.supervisor.ledger.spent.between(start_ms, end_ms, **of)
        sums: dict[tuple[int, str | None, str | None, str | None, str | None], Tokens] = {}
        for row in found:
            key = (_beginning(row.hour_ms, by, zone), row.chain, row.tier, row.account, row.model)
            sums[key] = sums.get(key, NO_TOKENS) + row.tokens
        rows = [
            {
                "start": iso(at_ms),
                "chain": chain,
                "tier": tier,
                "account": account,
                "model": model,
                "tokens": views.totals(tokens),
            }
            for (at_ms, chain, tier, account, model), tokens in sums.items()
        ]
        told = {"by": by, "start": iso(start_ms), "end": iso(end_ms), "timezone": timezone}
        return {"schema": views.SCHEMA, **told, "rows": rows}


def _zone(name: str) -> tzinfo:
    """The time zone of that name. Raises UsageError."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise UsageError("there is no such `timezone`", remedy="Name one as Europe/Madrid or UTC.") from None


def _beginning(at_ms: int, by: str, zone: tzinfo) -> int:
    """Where the hour or the day begins that a moment is in."""
    if by == "hour":
        return at_ms // HOUR * HOUR
    at = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(zone)
    began = at.replace(hour=0, minute=0, second=0, microsecond=0)
    return max(0, int(began.timestamp() * 1000))
