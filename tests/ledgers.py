"""Small plans, tasks and runs for tests that need a ledger."""

from __future__ import annotations

from pathlib import Path

from locum.policy.notice import NoticeKind
from locum.policy.plan import Brake, Budget, Chain, Meter, Plan, Threshold, Tier
from locum.policy.task import Run, RunState, Task, TaskState
from locum.policy.usage import Tokens, Usage
from locum.policy.window import Calendar, Lifetime, WindowRule
from locum.store.ledger import Ledger
from locum.store.worker import InlineWorker, Worker

HOUR = 3_600_000
DAY = 24 * HOUR
START = 20_000 * DAY + 5 * HOUR  # five in the morning of some day

A = Tier("a", "command", "acme", "big")
B = Tier("b", "command", "acme", "small")
C = Tier("c", "codex", "bravo")
TIERS = {"a": A, "b": B, "c": C}

TODAY = Calendar("day")


def budget(
    limit: int, window: WindowRule = TODAY, brake: Brake = Brake.CHAIN, owner: str = "default", **more
) -> Budget:
    """A budget of the chain `default` unless said otherwise."""
    return Budget(brake, owner, limit, window, **more)


def plan_of(*budgets: Budget, chains: dict[str, tuple[Tier, ...]] | None = None, at=(100,), **more) -> Plan:
    """A plan with these budgets; by default one chain of the tiers a, b and c, and `at` 100 % of each is told."""
    chains = chains or {"default": (A, B, C)}
    meters = {"chain:default": Meter(budgets[0].window if budgets else Lifetime())}
    alerts: dict[str, tuple[Threshold, ...]] = {}
    for each in budgets:
        told = (Threshold(percent, each.scope, each.window, each.weights, each) for percent in at)
        alerts[each.scope] = (*alerts.get(each.scope, ()), *told)
    return Plan(
        {name: Chain(name, tiers) for name, tiers in chains.items()}, budgets, meters, **{"alerts": alerts, **more}
    )


def task_of(number: int = 1, chain: str = "default", **more) -> Task:
    """A task in the queue, called `task-0001`, `task-0002`, ..."""
    return Task(f"task-{number:04}", chain, "/srv", TaskState.QUEUED, START, **more)


def run_of(
    number: int = 1, tier: Tier = A, *, task: int | None = None, attempt: int = 1, chain: str = "default", at=START
) -> Run:
    """A run called `run-1`, ... of the task of the same number unless said otherwise."""
    task_id = f"task-{number if task is None else task:04}"
    return Run(f"run-{number}", task_id, attempt, chain, tier, "/srv", RunState.RUNNING, at)


async def started(ledger: Ledger, number: int = 1, tier: Tier = A, *, chain: str = "default", at: int = START) -> Run:
    """Submit a task and start its first run."""
    await ledger.submit(task_of(number, chain), b"do it")
    run = run_of(number, tier, chain=chain, at=at)
    await ledger.start_run(run, at)
    return run


async def spend(
    ledger: Ledger, run: Run, tokens: int, now_ms: int = START, *, key: str | None = None, at: int | None = None
):
    """Record `tokens` of input under a key of their own."""
    usage = Usage(key or f"{run.id}@{now_ms}+{tokens}", Tokens(tokens), at_ms=at)
    return await ledger.record(run.id, [usage], now_ms)


async def crossings(ledger: Ledger) -> int:
    """How many token_threshold_crossed notices there are."""
    found = await ledger.notices(limit=10_000)
    return sum(notice.kind is NoticeKind.TOKEN_THRESHOLD_CROSSED for _, notice in found)


def held(ledger: Ledger) -> dict[str, int | None]:
    """What the board holds: target to until."""
    return {target: hold.until_ms for (target, _), hold in ledger.board.holds.items()}


async def opened(folder: Path, plan: Plan | None = None, now_ms: int = START, worker: Worker | None = None) -> Ledger:
    """A ledger in that folder, by default without a thread."""
    return await Ledger.open(folder / "ledger.db", plan or plan_of(), now_ms, worker or InlineWorker())
