"""The operator's command after each task: due in the commit that ends the task, and what became of it."""

from __future__ import annotations

from collections.abc import Collection

from locum.policy.notice import post_task_failed
from locum.policy.task import PostTask, PostTaskState
from locum.store import notices, tasks
from locum.store.codec import Memory, Write
from locum.store.sqlite import Database, Row, Sql
from locum.store.views import PostTasksView

MOST_STARTS = 3
"""How often it is begun for one task: one that takes the daemon down with it must not do so for ever."""

GAVE_UP = f"it was started {MOST_STARTS} times, and each time the daemon ended before it did"
REMOVED = "post_task was taken out of service.json before it was run"


class PostTasks:
    """The rows of `post_task`. Every method that changes something is one transaction, as the ledger's are."""

    def __init__(self, database: Database[Memory]) -> None:
        self._database = database

    async def due(self, limit: int) -> list[str]:
        """The tasks that it has yet to follow, oldest first."""
        return await self._database.read(lambda sql: [task for (task,) in sql.rows("post_tasks_due", limit=limit)])

    async def running(self) -> list[str]:
        """The tasks that it was started for, and has not ended."""
        return await self._database.read(lambda sql: [task for (task,) in sql.rows("post_tasks_running")])

    async def of(self, task_ids: Collection[str]) -> dict[str, PostTask]:
        """Those of some tasks, by task; a task that nothing follows is left out."""

        def script(sql: Sql) -> dict[str, PostTask]:
            rows = (sql.one("post_task", task=each) for each in task_ids)
            return {row[0]: _of(row) for row in rows if row is not None}

        return await self._database.read(script)

    async def view(self) -> PostTasksView:
        """How many wait, and the one that ended last."""

        def script(sql: Sql) -> PostTasksView:
            counts = {PostTaskState(state): count for state, count in sql.rows("post_tasks_waiting")}
            row = sql.one("last_post_task")
            due, running = (counts.get(state, 0) for state in (PostTaskState.DUE, PostTaskState.RUNNING))
            return PostTasksView(due, running, None if row is None else _of(row))

        return await self._database.read(script)

    async def start(self, task_id: str, now_ms: int) -> PostTaskState:
        """Count a start; where it stands then: running, unless it was not due, or has failed after `MOST_STARTS`."""

        def script(tx: Write) -> PostTaskState:
            if tx.run("start_post_task", task=task_id, most=MOST_STARTS):
                return PostTaskState.RUNNING
            row = tx.one("post_task", task=task_id)
            assert row is not None, "only what is due is started"
            if _of(row).state is not PostTaskState.DUE:
                return _of(row).state
            _end(tx, task_id, PostTaskState.FAILED, None, GAVE_UP, now_ms)
            return PostTaskState.FAILED

        return await self._database.write(script)

    async def put_back(self, task_id: str) -> None:
        """It was started and has not come to its end: it is due again."""
        await self._database.write(lambda tx: tx.run("put_back_post_task", task=task_id))

    async def end(self, task_id: str, state: PostTaskState, exit_code: int | None, reason: str, now_ms: int) -> None:
        """Write how it ended, and tell people when it failed. What has ended already stays as it is."""
        await self._database.write(lambda tx: _end(tx, task_id, state, exit_code, reason, now_ms))

    async def drop(self, now_ms: int) -> int:
        """Nothing is to follow a task any more: what is due will not be run. Returns how many there were."""
        return await self._database.write(lambda tx: tx.run("drop_post_tasks", reason=REMOVED, now_ms=now_ms))


def _end(tx: Write, task_id: str, state: PostTaskState, exit_code: int | None, reason: str, now_ms: int) -> None:
    ended = tx.run("end_post_task", task=task_id, state=str(state), exit=exit_code, reason=reason, now_ms=now_ms)
    if ended and state is PostTaskState.FAILED:
        notices.add(tx, post_task_failed(tasks.find(tx, task_id), reason, exit_code, now_ms))


def _of(row: Row) -> PostTask:
    """One from its columns, in the order of its fields."""
    task, state, *more = row
    return PostTask(task, PostTaskState(state), *more)
