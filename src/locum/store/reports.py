"""What outside runners tell, each piece of work once."""

from __future__ import annotations

from dataclasses import replace

from locum.errors import ConflictError
from locum.policy.report import Report, outcome
from locum.policy.usage import NO_TOKENS, TOKEN_TYPES, Tokens
from locum.store import brakes, log, tally
from locum.store.codec import Write, token_values
from locum.store.sqlite import Row, Sql
from locum.store.views import Reported, ReportView

_NONE_TOLD = dict.fromkeys(TOKEN_TYPES)


def tell(tx: Write, report: Report, now_ms: int, jitter: float) -> Reported:
    """Count what is new in a report. Only the first of an id moves its chain: that piece of work has ended.

    Raises `ConflictError` when it was told for another tier before.
    """
    known = _known(tx, report)
    if known and report.usages and known != (report.payer.chain, report.payer.tier):
        told = f"tier {known[1]} of chain {known[0]}" if known[1] else "no tier"
        raise ConflictError(f"{report.id} was told for {told} before", remedy="Give each piece of work its own id.")
    events = brakes.settle(tx, now_ms)
    added = tally.add(tx, report.payer, report.usages, now_ms)
    if added:
        events += brakes.check_payer(tx, report.payer, now_ms)
    if known is None:
        whole = replace(report, tokens=_untold(tx, report)) if report.in_person else report
        tx.run("add_report", **_values(whole, now_ms))
        memory = tx.memory
        events += log.emit(tx, outcome(memory.board, memory.plan, report, now_ms, jitter))
        return Reported(added, events, duplicate=False)
    if added:
        tx.run("grow_report", agent=report.agent, id=report.id, **token_values(added))
    return Reported(added, events, duplicate=True)


def listed(sql: Sql, after: int, limit: int) -> list[tuple[int, ReportView]]:
    """The reports behind row `after`, oldest first, each with its row."""
    return [(row[0], _view(row[1:])) for row in sql.rows("reports", after=after, limit=limit)]


def owner(sql: Sql, session: str | None, ended_ms: int | None = None) -> str | None:
    """The run that a session belongs to: one in progress, or one that ended at that moment or later."""
    row = sql.one("session_owner", session=session, ended_ms=ended_ms)
    return None if row is None else row[0]


def _known(sql: Sql, report: Report) -> Row | None:
    """The chain and tier that this piece of work was told for first; None when it is new."""
    return sql.one("report", agent=report.agent, id=report.id)


def _untold(sql: Sql, report: Report) -> Tokens | None:
    """What was counted of a person's session, whoever read it, and was told with none of its turns; None: nothing."""
    row = sql.one("untold", agent=report.agent, session=report.session)
    tokens = Tokens(*(row or NO_TOKENS))
    return tokens if all(count >= 0 for count in tokens) and tokens else None


def _values(report: Report, now_ms: int) -> dict[str, object]:
    place, failure = report.place, report.failure
    return {
        **{name: getattr(report, name) for name in ("agent", "id", "session", "model", "provider", "cost_micros")},
        **(_NONE_TOLD if report.tokens is None else token_values(report.tokens)),
        "at_ms": now_ms,
        "chain": place.chain.name if place else None,
        "tier": place.tier.name if place else None,
        "failure": str(failure.kind) if failure else None,
        "reason": failure.evidence if failure else "",
    }


def _view(row: Row) -> ReportView:
    counts = row[-4:]
    tokens = None if None in counts else Tokens(*counts)
    return ReportView(**dict(zip(ReportView.__slots__, (*row[:-4], tokens), strict=True)))
