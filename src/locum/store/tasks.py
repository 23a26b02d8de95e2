"""Tasks from submission to their end, and the runs they are made of."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from locum.errors import ConflictError, NotFoundError
from locum.policy.board import Event, EventKind
from locum.policy.chain import holds_on
from locum.policy.notice import task_failed, task_finished
from locum.policy.task import Run, RunState, Task, TaskState, attempts
from locum.store import log, notices, tally
from locum.store.codec import Write, run_of, run_values, task_of, task_values
from locum.store.sqlite import Sql

_LAST_CHARACTER = "\U0010ffff"


def submit(tx: Write, task: Task, prompt: bytes) -> None:
    """Take in a new task. Raises `ConflictError` when its id is taken."""
    assert task.state is TaskState.QUEUED, "a task starts in the queue"
    tx.run("add_task", **task_values(task))
    tx.run("add_prompt", task=task.id, body=prompt)


def prompt(sql: Sql, task_id: str) -> bytes:
    """The prompt of a task. Raises `NotFoundError` when there is none, or it was deleted after its time."""
    row = sql.one("prompt", task=find(sql, task_id).id)
    if row is None:
        raise NotFoundError(f"the prompt of task {task_id} has been deleted after its time")
    body: bytes = row[0]
    return body


def find(sql: Sql, task_id: str) -> Task:
    """The task of that id, or the only one whose id begins with those four or more characters.

    Raises `NotFoundError` when there is none, or more than one.
    """
    rows = sql.all("find_tasks", id=task_id, behind=task_id + _LAST_CHARACTER)
    if not rows:
        raise NotFoundError(f"no task {task_id!r}", remedy="See `locum tasks`")
    if rows[0][0] != task_id and len(rows) > 1:
        raise NotFoundError(f"more than one task begins with {task_id!r}", remedy="Give more of its id")
    return task_of(rows[0])


def listed(
    sql: Sql, chain: str | None, states: Collection[TaskState] | None, limit: int, before: str | None
) -> list[Task]:
    """The newest tasks first; `before` is the id of a task: only those submitted ahead of it."""
    names = None if states is None else f",{','.join(states)},"
    return [task_of(row) for row in sql.rows("tasks", chain=chain, states=names, limit=limit, before=before)]


def queue(sql: Sql) -> list[Task]:
    """The tasks that have not ended, oldest first."""
    return [task_of(row) for row in sql.rows("queue")]


def open_counts(sql: Sql) -> dict[tuple[str, TaskState], int]:
    """How many tasks have not ended, by chain and state; what there is none of is left out."""
    return {(chain, TaskState(state)): number for chain, state, number in sql.rows("open_counts")}


def run(sql: Sql, run_id: str) -> Run:
    """One run. Raises `NotFoundError`."""
    row = sql.one("run", id=run_id)
    if row is None:
        raise NotFoundError(f"no run {run_id!r}")
    return run_of(row)


def runs(sql: Sql, task_id: str) -> list[Run]:
    """The runs of a task, first to last."""
    return [run_of(row) for row in sql.rows("runs", task=task_id)]


def open_runs(sql: Sql) -> list[Run]:
    """The runs that have not ended, oldest first."""
    return [run_of(row) for row in sql.rows("open_runs")]


def start(tx: Write, run: Run, now_ms: int) -> None:
    """Begin an attempt at a queued task.

    Raises `ConflictError` when the task is not waiting for one, or its tier may not be used any more: between the
    pick and this commit another run may have failed, or somebody paused the chain or edited it away.
    """
    assert run.state is RunState.RUNNING, "a run starts running"
    task = find(tx, run.task)
    if task.state is not TaskState.QUEUED or task.cancel_asked:
        raise ConflictError(f"task {task.id} is {task.state}: it cannot be started")
    chain, board = tx.memory.plan.chains.get(run.chain), tx.memory.board
    if chain is None or board.chain(chain.name).paused or holds_on(board, chain, run.tier, now_ms):
        raise ConflictError(f"tier {run.tier.name} of {run.chain} is held, paused or gone by now")
    tx.run("add_run", **run_values(run))
    save(tx, replace(task, state=TaskState.RUNNING))
    log.emit(tx, (Event(EventKind.STARTED, run.chain, now_ms, run.tier.name, run.task),))


def forget(tx: Write, run_id: str, now_ms: int) -> Task:
    """A run that was never started after all: its task waits again, and nobody is to blame."""
    found = running(tx, run_id)
    tx.run("save_run", **run_values(replace(found, state=RunState.LOST, ended_ms=max(now_ms, found.started_ms))))
    return again(tx, find(tx, found.task), now_ms)


def booted(tx: Write, boot: str) -> bool:
    """Keep the host's start; whether it is another than before. Then the runs in progress ended with the last one."""
    before = tx.one("boot")
    if before == (boot,):
        return False
    tx.run("save_boot", boot=boot)
    if before is None:
        return False
    tx.run("ask_stop_all")
    return True


def stop_asked(sql: Sql, run_id: str) -> bool:
    """Whether a run is to stop: its task was cancelled, or its daemon or its host was stopping."""
    return bool((sql.one("stop_asked", id=run_id) or (False,))[0])


def running(sql: Sql, run_id: str) -> Run:
    """A run that has not ended. Raises `NotFoundError`, or `ConflictError` when it has ended already."""
    found = run(sql, run_id)
    if found.state is not RunState.RUNNING:
        raise ConflictError(f"run {run_id} has ended already ({found.state})")
    return found


def cancel(tx: Write, task_id: str, now_ms: int) -> Task:
    """End a waiting task at once, ask a running one to stop. Raises `ConflictError` when it has ended already."""
    task = find(tx, task_id)
    if task.state.ended:
        raise ConflictError(f"task {task.id} is {task.state} already")
    if task.state is TaskState.RUNNING:
        return save(tx, replace(task, cancel_asked=True))
    return again(tx, replace(task, cancel_asked=True), now_ms)


def give_up(tx: Write, task_id: str, reason: str, reason_code: str, now_ms: int) -> Task:
    """End a waiting task failed. Raises `ConflictError` when it runs or has ended."""
    task = find(tx, task_id)
    if task.state is not TaskState.QUEUED:
        raise ConflictError(f"task {task.id} is {task.state}: it is not waiting")
    return fail(tx, task, reason, reason_code, now_ms)


def again(tx: Write, task: Task, now_ms: int, wait_ms: int = 0) -> Task:
    """Back into the queue, for `wait_ms` at least; or to its end, if it was to be cancelled."""
    if task.cancel_asked:
        return close(tx, task, TaskState.CANCELLED, now_ms)
    return save(tx, replace(task, state=TaskState.QUEUED, not_before_ms=now_ms + wait_ms if wait_ms else 0))


def fail(tx: Write, task: Task, reason: str, reason_code: str, now_ms: int) -> Task:
    """End a task failed, and tell."""
    failed = close(tx, replace(task, reason=reason, reason_code=reason_code), TaskState.FAILED, now_ms)
    notices.add(tx, task_failed(failed, tally.task_tokens(tx, task.id).total, now_ms))
    return failed


def finish(tx: Write, task: Task, now_ms: int) -> Task:
    """End a task done, and tell whoever asked to hear of that."""
    done = close(tx, replace(task, reason="", reason_code=""), TaskState.DONE, now_ms)
    tried = attempts(runs(tx, task.id))
    notices.add(tx, task_finished(done, tally.task_tokens(tx, task.id).total, tried, now_ms))
    return done


def close(tx: Write, task: Task, state: TaskState, now_ms: int) -> Task:
    """End a task, however it ends: the only way. What is to follow it is due in the same commit."""
    assert state.ended, "a task ends done, failed or cancelled"
    if tx.memory.plan.post_task:
        tx.run("post_task_due", task=task.id, now_ms=now_ms)
    return save(tx, replace(task, state=state, ended_ms=now_ms))


def save(tx: Write, task: Task) -> Task:
    """Write what has changed in a task; returns it."""
    tx.run("save_task", **task_values(task))
    return task
