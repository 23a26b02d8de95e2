"""What the daemon knows, as plain dicts for JSON: times in ISO 8601 UTC, unknown as null and never as 0."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from locum.engine.sources import Sources
from locum.errors import NotFoundError
from locum.policy.board import Board, Event, Hold
from locum.policy.budget import effect
from locum.policy.chain import TierState, holds_on, is_exhausted, pick, state_of
from locum.policy.notice import Notice
from locum.policy.plan import Budget, Chain, Plan, Target, Tier
from locum.policy.task import PostTask, PostTaskState, Run, Task, TaskState
from locum.policy.usage import NO_TOKENS, TOKEN_TYPES, Tokens
from locum.policy.window import Window, WindowRule, kind, timezone_of
from locum.store.views import AuditReport, PostTasksView, ReportView, UsageView, VendorView
from locum.words import iso

SCHEMA = 1
"""The version of these shapes: keys are added without changing it, never renamed or removed."""
LAST_MS = 253_402_214_400_000
"""Late in the year 9999: the last day that can be written in every time zone."""


def main_chain(plan: Plan) -> str:
    """The chain that is meant where none is named: `default`, else the first."""
    return "default" if "default" in plan.chains else next(iter(plan.chains))


def chain_named(plan: Plan, name: str) -> Chain:
    """The chain of that name. Raises NotFoundError, naming those there are."""
    if name not in plan.chains:
        raise NotFoundError(f"no chain {name}", remedy=f"The chains are {', '.join(plan.chains)}.")
    return plan.chains[name]


def status(
    board: Board, plan: Plan, now_ms: int, *, busy: Collection[Target] = (), counts: Mapping[tuple[str, TaskState], int]
) -> dict[str, Any]:
    """How every chain stands. `busy` are the targets at work, `counts` the tasks that have not ended."""
    return {
        "schema": SCHEMA,
        "chains": {name: standing(board, chain, now_ms, busy, counts) for name, chain in plan.chains.items()},
    }


def standing(
    board: Board, chain: Chain, now_ms: int, busy: Collection[Target], counts: Mapping[tuple[str, TaskState], int]
) -> dict[str, Any]:
    """How one chain stands."""
    state = board.chain(chain.name)
    active = pick(board, chain, now_ms, busy=busy)
    return {
        "active_tier": active.name if active else None,
        "last_failure_kind": state.last_failure_kind,
        "last_failure_at": iso(state.last_failure_at_ms),
        "last_failure_reason": state.last_failure_reason or None,
        "last_failure_tier": state.last_failure_tier,
        "paused": state.paused,
        "exhausted": is_exhausted(board, chain, now_ms),
        "tiers": [_tier(board, chain, index, now_ms, busy) for index in range(len(chain.tiers))],
        "running": counts.get((chain.name, TaskState.RUNNING), 0),
        "queued": counts.get((chain.name, TaskState.QUEUED), 0),
    }


def _tier(board: Board, chain: Chain, index: int, now_ms: int, busy: Collection[Target]) -> dict[str, Any]:
    tier = chain.tiers[index]
    state = state_of(board, chain, tier, now_ms, busy)
    holds = holds_on(board, chain, tier, now_ms)
    assert bool(holds) == (state is TierState.HELD), "a tier is held exactly when a hold says so"
    return {
        "name": tier.name,
        "state": state,
        "hold": hold(holds[-1]) if holds else None,
        "holds": [hold(each) for each in holds],
        "agent": tier.agent,
        "model": tier.model,
        "account": tier.account,
    }


def accounts(plan: Plan, windows: Mapping[str, Sequence[VendorView]], now_ms: int) -> dict[str, Any]:
    """Every account with its tiers and what its vendor last said of its windows; `windows` by account."""
    return accounts_of(plan.tiers.values(), windows, now_ms)


def accounts_of(paid: Iterable[Tier], windows: Mapping[str, Sequence[VendorView]], now_ms: int) -> dict[str, Any]:
    """The accounts of those tiers, as above."""
    tiers: dict[str, list[str]] = {}
    for tier in paid:
        tiers.setdefault(tier.account, []).append(tier.name)
    return {
        name: {"tiers": names, "windows": [vendor_window(each, now_ms) for each in windows[name]]}
        for name, names in tiers.items()
    }


def vendor_window(view: VendorView, now_ms: int) -> dict[str, Any]:
    """One reading of a vendor's window, and what was counted here in it."""
    window = view.window
    return {
        "name": window.name,
        "model": window.model,
        "status": window.status,
        "used_percent": window.used,
        "resets": iso(window.reset_ms),
        "read": iso(window.at_ms),
        "freshness": window.freshness(now_ms),
        "counted": None if view.counted is None else totals(view.counted),
    }


def hold(held: Hold) -> dict[str, Any]:
    """One hold; `until` null means that only a release ends it."""
    return {
        "kind": held.kind,
        "until": iso(held.until_ms),
        "reason": held.reason,
        "since": iso(held.since_ms),
        "target": held.target,
        "budget": held.budget,
    }


def usage(board: Board, plan: Plan, views: Mapping[str, UsageView], now_ms: int) -> dict[str, Any]:
    """Tokens used by every chain and tier; `views` by scope (`chain:NAME`, `tier:NAME`, `account:NAME`).

    The top is the main chain.

    `unattributed` is what sessions have used of which it is not known whose tier they use, ever.
    """
    chains = {name: of_chain(board, plan, name, views[f"chain:{name}"], now_ms) for name in plan.chains}
    tiers = {
        name: measured(views[f"tier:{name}"], board, now_ms, plan.budgets_by_id.get(f"tier:{name}"))
        for name in plan.tiers
    }
    accounts = {
        view.scope.partition(":")[2]: measured(view, board, now_ms)
        for view in views.values()
        if view.scope.startswith("account:")
    }
    nobody = {"totals": totals(views["unattributed"].totals)}
    more = {"accounts": accounts, "unattributed": nobody}
    return {"schema": SCHEMA, **chains[main_chain(plan)], "chains": chains, "tiers": tiers, **more}


def usage_sources(sources: Sources, *, on: bool) -> dict[str, Any]:
    """The homes whose transcripts are watched."""
    homes = [
        {
            "agent": each.home.agent.name,
            "folder": each.home.folder,
            "tiers": each.home.tiers,
            "account": each.home.account,
            "since": iso(each.since_ms),
            "there": bool(each.tree.folders),
            "files": each.tree.files,
            "last_counted": iso(each.last_counted_ms),
            "trouble": each.trouble or None,
        }
        for each in sources.watched
    ]
    return {"on": on, "without_events": sources.without_events or None, "homes": homes}


def of_chain(board: Board, plan: Plan, chain: str, view: UsageView, now_ms: int) -> dict[str, Any]:
    """One chain's usage against its two budgets."""
    budgets = plan.budgets_by_id
    return measured(view, board, now_ms, budgets.get(f"chain:{chain}"), budgets.get(f"halt:{chain}"))


def measured(
    view: UsageView, board: Board, now_ms: int, budget: Budget | None = None, halt: Budget | None = None
) -> dict[str, Any]:
    """One chain's or tier's usage in its current window; `budget` is its threshold, `halt` `usage_halt_tokens`."""
    return {
        "threshold_tokens": view.limit,
        "threshold_effect": effect(board, budget, view.totals, now_ms) if budget else None,
        "halt_tokens": halt.limit if halt else None,
        "halt_effect": effect(board, halt, view.totals, now_ms) if halt else None,
        "used_tokens": view.meter.weights.whole(view.totals),
        "totals": totals(view.totals),
        "window": _window(view.meter.window, view.window),
        "percent": view.percent,
        "unknown_usage_runs": view.unknown_runs,
    }


def spent(runs: Sequence[Run]) -> dict[str, Any]:
    """What attempts have used together; tokens are null where none told any and what one used is unknown."""
    known, tokens = all(each.usage_known for each in runs), sum((each.tokens for each in runs), NO_TOKENS)
    return {"tokens": totals(tokens) if known or tokens else None, "usage_known": known}


def totals(tokens: Tokens) -> dict[str, int]:
    """Token counts by type, and their plain sum."""
    return {name: getattr(tokens, name) for name in (*TOKEN_TYPES, "total")}


def _window(rule: WindowRule, window: Window) -> dict[str, Any]:
    """A window that has no beginning (all time) or is not open (a block before its first use) has no start."""
    started = window.start_ms > 0 and window.start_ms != window.end_ms
    return {
        "kind": kind(rule),
        "start": iso(window.start_ms) if started else None,
        "end": iso(window.end_ms) if started else None,
        "timezone": timezone_of(rule),
    }


def task(each: Task) -> dict[str, Any]:
    """One task, without its runs."""
    return {
        "id": each.id,
        "chain": each.chain,
        "state": each.state,
        "title": each.title,
        "cwd": each.cwd,
        "created": iso(each.created_ms),
        "ended": iso(each.ended_ms),
        "reason": each.reason or None,
        "reason_code": each.reason_code or None,
        "said": each.said or None,
    }


def run(each: Run) -> dict[str, Any]:
    """One attempt; tokens are null while or where its usage is unknown."""
    return {
        "id": each.id,
        "number": each.number,
        "tier": each.tier.name,
        "agent": each.tier.agent,
        "model": each.tier.model,
        "state": each.state,
        "started": iso(each.started_ms),
        "ended": iso(each.ended_ms),
        "exit": each.exit,
        "failure": each.failure,
        "reason": each.reason or None,
        "rule": each.rule or None,
        "next": each.next,
        "session": each.session,
        "tokens": totals(each.tokens) if each.usage_known else None,
    }


def post_task(each: PostTask | None) -> dict[str, Any] | None:
    """What became of the operator's command after a task; null where none follows it."""
    if each is None:
        return None
    return {"state": each.state, "exit": each.exit, "reason": each.reason or None, "ended": iso(each.ended_ms)}


def post_tasks(view: PostTasksView) -> dict[str, Any]:
    """How the commands after tasks stand; the one that ended last is shown when it failed."""
    last = view.last if view.last is not None and view.last.state is PostTaskState.FAILED else None
    told = {"task": last.task, "reason": last.reason, "at": iso(last.ended_ms)} if last else None
    return {"due": view.due, "running": view.running, "last_failure": told}


def event(each: Event) -> dict[str, Any]:
    """One line of a chain's log."""
    return {
        "kind": each.kind,
        "chain": each.chain,
        "at": iso(each.at_ms),
        "tier": each.tier,
        "task": each.task,
        "failure": each.failure,
        "reason": each.reason or None,
        "hold": hold(each.hold) if each.hold else None,
        "active_tier": each.active,
    }


def notice(each: Notice) -> dict[str, Any]:
    """One thing that people must hear of."""
    return {
        "id": each.id,
        "kind": each.kind,
        "severity": each.severity,
        "at": iso(each.at_ms),
        "chain": each.chain,
        "title": each.title,
        "message": each.message,
        "link": each.link,
        "data": dict(each.data),
    }


def report(each: ReportView) -> dict[str, Any]:
    """What a runner or session that is not ours has told of one piece of work; tokens are null where unknown."""
    return {
        "agent": each.agent,
        "id": each.id,
        "at": iso(each.at_ms),
        "chain": each.chain,
        "tier": each.tier,
        "session": each.session,
        "model": each.model,
        "provider": each.provider,
        "failure": each.failure,
        "reason": each.reason or None,
        "cost_usd": None if each.cost_micros is None else each.cost_micros / 1_000_000,
        "tokens": None if each.tokens is None else totals(each.tokens),
    }


def audit(report: AuditReport) -> dict[str, Any]:
    """The verdict of an audit."""
    return {
        "schema": SCHEMA,
        "clean": not report.problems,
        "entries": report.entries,
        "events": report.events,
        "tokens": totals(report.tokens),
        "problems": list(report.problems),
    }
