"""Daemons that are wrong in one thing each: what the harness is for, and must therefore see."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import anyio
from msgspec import structs

from locum.engine.attempts import Attempts
from locum.engine.channels import Sender
from locum.engine.runner import Runner
from locum.policy.delivery import Outcome
from locum.policy.task import Run, Task
from locum.policy.usage import Usage
from locum.store.ledger import Ledger
from locum.store.transcripts import Share, Transcripts
from locum.store.views import Recorded

LATER = 3.0
"""Seconds by which a broken daemon is late."""


def doubled() -> None:
    """Usage is counted by who reads it: what the next daemon reads again counts again."""
    record = Runner._record

    async def by_reader(self: Runner, usages: list[Usage]) -> None:
        await record(self, [structs.replace(usage, key=f"{usage.key} read by {os.getpid()}") for usage in usages])

    Runner._record = by_reader  # type: ignore[method-assign]


def forgetful() -> None:
    """Runs that are found open are taken for runs that never started."""

    async def adopt(self: Attempts, _: Any) -> None:
        for run in await self.ledger.open_runs():
            await self.ledger.forget_run(run.id, self.clock.now_ms())

    Attempts.adopt = adopt  # type: ignore[method-assign,assignment]


def abandoning() -> None:
    """Runs that are found open are left alone."""

    async def adopt(self: Attempts, _: Any) -> None:
        pass

    Attempts.adopt = adopt  # type: ignore[method-assign,assignment]


def hasty() -> None:
    """A task is acknowledged before it is on disk."""
    submit = Ledger.submit

    async def later(self: Ledger, task: Task, prompt: bytes) -> None:
        await anyio.sleep(LATER)
        await submit(self, task, prompt)

    async def at_once(self: Ledger, task: Task, prompt: bytes) -> None:
        _in_background(later, self, task, prompt)

    Ledger.submit = at_once  # type: ignore[method-assign]


def halving() -> None:
    """A task and its prompt are two transactions."""
    submit = Ledger.submit

    async def later(self: Ledger, task: Task, prompt: bytes) -> None:
        await anyio.sleep(LATER)
        await self._write(lambda tx: tx.run("add_prompt", task=task.id, body=prompt))

    async def in_two(self: Ledger, task: Task, prompt: bytes) -> None:
        await submit(self, task, prompt)
        await self._write(lambda tx: tx.connection.execute("DELETE FROM prompt WHERE task = ?", (task.id,)).fetchall())
        _in_background(later, self, task, prompt)

    Ledger.submit = in_two  # type: ignore[method-assign]


def eager() -> None:
    """A process is started before its run is on record."""
    start, watch = Ledger.start_run, Attempts._watch
    waiting: dict[str, tuple[Run, int]] = {}

    async def not_yet(_: Ledger, run: Run, now_ms: int) -> None:
        waiting[run.id] = run, now_ms

    async def at_last(self: Attempts, watched: Any, process: Any) -> None:
        if watched.run.id in waiting:
            await anyio.sleep(LATER)
            await start(self.ledger, *waiting.pop(watched.run.id))
        await watch(self, watched, process)

    Ledger.start_run = not_yet  # type: ignore[method-assign,assignment]
    Attempts._watch = at_last  # type: ignore[method-assign]


def blaming() -> None:
    """That an agent was told to stop is not kept."""

    async def ask_stop(_: Ledger, __: str) -> None:
        pass

    Ledger.ask_stop = ask_stop  # type: ignore[method-assign,assignment]


def careless() -> None:
    """How far transcripts were read is on record before what they told."""
    record = Transcripts.record

    async def in_two(self: Transcripts, shares: Sequence[Share], now_ms: int) -> Recorded:
        await self.save([share.found for share in shares])
        await anyio.sleep(LATER)
        return await record(self, shares, now_ms)

    Transcripts.record = in_two  # type: ignore[method-assign]


def boastful() -> None:
    """A message is marked as sent before it is sent."""
    send = Sender.send

    async def later(self: Sender, *args: Any) -> None:
        await anyio.sleep(LATER)
        await send(self, *args)

    async def sent(self: Sender, *args: Any) -> Outcome:
        _in_background(later, self, *args)
        return Outcome(told=True, status=204)

    Sender.send = sent  # type: ignore[method-assign]


def _in_background(work: Callable[..., Any], *args: Any) -> None:
    """Do it when there is time, as a daemon does that does not wait for its disk."""
    import asyncio

    task = asyncio.get_running_loop().create_task(work(*args))
    _TASKS.add(task)
    task.add_done_callback(_TASKS.discard)


_TASKS: set[Any] = set()
BREAK: dict[str, Callable[[], None]] = {
    each.__name__: each for each in (doubled, forgetful, abandoning, hasty, halving, eager, blaming, careless, boastful)
}
