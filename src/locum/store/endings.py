"""How a run ends: its bookkeeping, what that means for its chain, and what becomes of its task, all at once."""

from __future__ import annotations

from dataclasses import replace

from locum.policy.chain import Next, Step, bump, succeeded
from locum.policy.failure import Failure, FailureKind
from locum.policy.notice import signal_unknown
from locum.policy.plan import Chain
from locum.policy.task import Ending, Run, RunState, Task, attempts, avoided, retries_in_place
from locum.store import brakes, log, notices, tally, tasks
from locum.store.codec import Write, run_values, token_values


def end(tx: Write, run_id: str, ending: Ending, verdict: Failure | None, now_ms: int, jitter: float) -> Step | None:
    """Close a run; returns the answer to its failure, None without one or when its chain is gone."""
    assert (verdict is not None) == (ending.state is RunState.FAILED), "exactly the failed have a failure"
    assert ending.state is not RunState.RUNNING, "an ending ends"
    run = _closed(tasks.running(tx, run_id), ending, verdict, now_ms)
    tx.run("save_run", **run_values(run))
    if ending.total is not None:
        tx.run("save_told", id=run.id, **token_values(ending.total))
    brakes.settle(tx, now_ms)
    if tally.reconcile(tx, run.payer):
        brakes.check(tx, run.chain, run.tier, now_ms)
    task = tasks.find(tx, run.task)
    task = replace(task, said=ending.said or task.said)
    if verdict is not None:
        return _failed(tx, run, task, verdict, now_ms, jitter)
    if ending.state is RunState.SUCCEEDED:
        tasks.finish(tx, task, now_ms)
        chain = tx.memory.plan.chains.get(run.chain) or Chain(run.chain, (run.tier,))
        log.emit(tx, (succeeded(chain, run.tier, task.id, now_ms),))
    else:
        tasks.again(tx, task, now_ms)
    return None


def _closed(run: Run, ending: Ending, verdict: Failure | None, now_ms: int) -> Run:
    closed = replace(
        run,
        state=ending.state,
        ended_ms=max(now_ms, run.started_ms),
        exit=ending.exit,
        said=ending.said,
        session=ending.session or run.session,
        usage_known=ending.usage_known,
        reason=ending.note,
    )
    if verdict is None:
        return closed
    return replace(
        closed,
        failure=verdict.kind,
        reason="; ".join(filter(None, (verdict.evidence, ending.note))),
        rule=verdict.rule,
        lost_session=verdict.lost_session,
    )


def _failed(tx: Write, run: Run, task: Task, failure: Failure, now_ms: int, jitter: float) -> Step | None:
    if failure.kind is FailureKind.UNKNOWN:
        notices.add(tx, signal_unknown(run, task, now_ms))
    memory = tx.memory
    chain = memory.plan.chains.get(run.chain)
    if chain is None:
        gone = f"{failure.kind}: {failure.evidence}; and the chain {run.chain} is not configured any more"
        tasks.fail(tx, task, gone, "chain_gone", now_ms)
        return None
    before = [each for each in tasks.runs(tx, task.id) if each.number < run.number]
    retries = retries_in_place(before, run.tier.name)
    step = bump(
        memory.board, memory.plan, chain, run.tier, failure, now_ms, task=task.id, retries=retries, jitter=jitter
    )
    log.emit(tx, step.events)
    tx.run("save_run", **run_values(replace(run, next=step.next, wait_ms=step.wait_ms)))
    enough = _enough(tx, task, [*before, run], chain)
    if step.next is Next.FAIL:
        tasks.fail(tx, task, failure.evidence or str(failure.kind), str(failure.kind), now_ms)
    elif enough is not None and not task.cancel_asked:
        code, reason = enough
        tasks.fail(tx, task, f"{reason}; last: {failure.kind}: {failure.evidence}", code, now_ms)
    else:
        tasks.again(tx, task, now_ms, step.wait_ms)
    return step


def _enough(tx: Write, task: Task, runs: list[Run], chain: Chain) -> tuple[str, str] | None:
    """Why there shall be no further attempt, as a code and a sentence; None while there may be."""
    plan = tx.memory.plan
    tried = max(attempts(runs), sum(run.lost_session for run in runs))
    if tried >= plan.attempts:
        return "attempts", f"no success in {tried} attempts"
    spent = tally.task_tokens(tx, task.id).total
    if plan.task_tokens is not None and spent >= plan.task_tokens:
        return "task_tokens", f"{spent:,} of {plan.task_tokens:,} tokens of limits.task_tokens used"
    if avoided(runs) >= {tier.name for tier in chain.tiers}:
        return "every_tier", "every tier has been tried"
    return None
