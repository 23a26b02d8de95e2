"""One look at the daemon: everything that the page shows, asked at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from locum.engine import views
from locum.engine.lately import lately
from locum.engine.supervisor import Supervisor
from locum.page.scene import AT_WORK, HAPPENED, LINES, LISTED, Scene
from locum.page.work import FILTERS, Where, Working
from locum.policy.failure import DAY, HOUR
from locum.policy.plan import Chain
from locum.policy.task import Task, TaskState
from locum.policy.usage import NO_TOKENS, Tokens
from locum.store.views import UsageView
from locum.web.match import tag_of
from locum.web.query import Cursor, cursor


async def look(boss: Supervisor, where: Where, *, steers: bool) -> Scene:
    """Look. `steers`: who looks may also change something.

    Raises NotFoundError when there is no such chain or task, and UsageError for a cursor that makes no sense.
    """
    ledger, plan, now_ms = boss.ledger, boss.ledger.plan, boss.clock.now_ms()
    opened = await ledger.task(where.task) if where.task else None
    chain = views.chain_named(plan, where.chain or (opened.chain if opened else views.main_chain(plan)))
    where = where._replace(chain=chain.name, state=where.state if where.state in FILTERS else "")
    counts, busy = await ledger.open_counts(), boss.busy()
    standings = [
        {"name": each.name, **views.standing(ledger.board, each, now_ms, busy, counts)} for each in plan.chains.values()
    ]
    used = await _used(boss, chain, now_ms)
    states = (TaskState(where.state),) if where.state else None
    before = Cursor(of="tasks").parsed(where.cursor) if where.cursor else None
    found = await ledger.tasks(chain=chain.name, states=states, limit=LISTED + 1, before=before)
    events, notices = await ledger.latest(chain.name, HAPPENED)
    accounts = dict.fromkeys(tier.account for tier in chain.tiers)
    windows = await ledger.vendor_windows(accounts, now_ms)
    own = f"chain:{chain.name}"
    return Scene(
        now_ms=now_ms,
        where=where,
        chain=next(each for each in standings if each["name"] == chain.name),
        chains=standings,
        measure=views.of_chain(ledger.board, plan, chain.name, used[own], now_ms),
        usage={
            tier.name: views.measured(view, ledger.board, now_ms, plan.budgets_by_id.get(view.scope))
            for tier in chain.tiers
            if (view := used[f"tier:{tier.name}"])
        },
        days=await _days(boss, used, now_ms),
        running=Counter(run.tier.name for run in boss.attempts if run.chain == chain.name),
        match=tag_of(ledger.board, chain) if steers else None,
        working=await _working(boss, chain),
        opened=await _opened(boss, opened) if opened else None,
        tasks=[views.task(each) for each in found[:LISTED]],
        older=cursor("tasks", found[LISTED - 1].id) if len(found) > LISTED else None,
        counts={"queued": counts.get((chain.name, TaskState.QUEUED), 0)},
        events=[{"seq": seq, **views.event(each)} for seq, each in events],
        notices=[{"seq": seq, **views.notice(each)} for seq, each in notices],
        accounts=views.accounts_of(chain.tiers, windows, now_ms),
        problems=boss.rejected,
        warnings=boss.loaded.warnings,
        low_disk=boss.low_disk,
        config=str(boss.loaded.path),
        started_ms=boss.started_ms,
    )


async def _used(boss: Supervisor, chain: Chain, now_ms: int) -> dict[str, UsageView]:
    """What the chain and each of its tiers has used, by scope."""
    scopes = [f"chain:{chain.name}", *(f"tier:{tier.name}" for tier in chain.tiers)]
    return dict(zip(scopes, await boss.ledger.usages(scopes, now_ms), strict=True))


async def _days(boss: Supervisor, used: Mapping[str, UsageView], now_ms: int) -> dict[str, float]:
    """What each scope has used in the last 24 h, as its own budget weighs it."""
    sums: dict[str, Tokens] = {}
    for row in await boss.ledger.spent.between(now_ms - DAY + HOUR, now_ms):
        for scope in (f"chain:{row.chain}", f"tier:{row.tier}"):
            if scope in used:
                sums[scope] = sums.get(scope, NO_TOKENS) + row.tokens
    return {scope: float(used[scope].meter.weights.whole(tokens)) for scope, tokens in sums.items()}


async def _working(boss: Supervisor, chain: Chain) -> list[Working]:
    """The tasks at work that began first, with what their agents said last."""
    found = await boss.ledger.tasks(chain=chain.name, states=(TaskState.RUNNING,), limit=AT_WORK, before=None)
    return [await _at_work(boss, each) for each in reversed(found)]


async def _opened(boss: Supervisor, task: Task) -> Working:
    """A task with all its attempts."""
    found, runs = await _at_work(boss, task), await boss.ledger.runs(task.id)
    return found._replace(runs=[*map(views.run, runs[:-1]), *found.runs])


async def _at_work(boss: Supervisor, task: Task) -> Working:
    runs = await boss.ledger.runs(task.id)
    if not runs:
        return Working(views.task(task), (), "", 0)
    said = lately(boss, runs[-1], None, LINES)
    last = views.run(runs[-1]) | {"tokens": views.totals(await boss.ledger.run_tokens(runs[-1].id))}
    return Working(views.task(task), [last], "\n".join(said.lines), said.after)
