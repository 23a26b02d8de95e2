"""A rig with a command after each task, and ways to wait for it."""

from __future__ import annotations

from typing import Any

from locum.policy.notice import NoticeKind
from locum.policy.task import PostTask, PostTaskState, Task
from tests.unit.engine.rig import FakeChild, Rig, service_of

AFTER = {"command": ["./after.sh", "now"], "time_limit": "1m"}
RELOADED = {**service_of("a", "b"), "limits": {"min_free": "1K", "stop_grace": "3s"}}


def config(**after: Any) -> dict[str, Any]:
    """A service.json of the tiers a and b with a command after each task."""
    return {**RELOADED, "post_task": {**AFTER, **after}}


async def after(rig: Rig, task: Task) -> PostTask | None:
    """What became of the command after a task."""
    return (await rig.ledger.post_tasks.of([task.id])).get(task.id)


async def reached(rig: Rig, task: Task, state: PostTaskState) -> PostTask:
    """The command after a task, once it is in that state."""

    async def there() -> bool:
        found = await after(rig, task)
        return found is not None and found.state is state

    await rig.until_async(there)
    found = await after(rig, task)
    assert found is not None
    return found


async def begun(rig: Rig, number: int = 1) -> FakeChild:
    """The command that was begun as the `number`th, once it was."""
    await rig.until(lambda: len(rig.processes.begun) >= number)
    return rig.processes.begun[number - 1]


async def told(rig: Rig) -> list[str]:
    """The messages of all notices of a failed command."""
    return [notice.message for _, notice in await rig.ledger.notices() if notice.kind is NoticeKind.POST_TASK_FAILED]
