"""What happens to one task, told from the beginning: from the ledger and the spool, so it survives anything."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import anyio.lowlevel

from locum.agents.base import Agent, Line, Mark, Signal, Source
from locum.clock import Clock
from locum.engine import views
from locum.engine.bell import Bell
from locum.engine.redact import Redactor
from locum.engine.spool import Spool, Tail
from locum.policy.board import Event, EventKind
from locum.policy.chain import Next, free_at_ms, pick
from locum.policy.task import PostTaskState, Run, RunState, Task, TaskState, avoided
from locum.store.ledger import Ledger

LOOK_EVERY = 0.2
LOOK_WHILE_QUEUED = 1.0
_SWITCHES = (EventKind.BUMPED, EventKind.RETURNED, EventKind.RELEASED)


class Service(Protocol):
    """What is needed of the supervisor."""

    ledger: Ledger
    clock: Clock
    bell: Bell
    low_disk: bool

    @property
    def agents(self) -> Mapping[str, Agent]:
        """Every agent by name."""
        ...

    def redactor(self) -> Redactor:
        """Takes secrets out of what is shown."""
        ...

    def spool(self, run_id: str) -> Spool:
        """The folder of a run."""
        ...


async def follow(service: Service, task_id: str, *, from_start: bool) -> AsyncGenerator[dict[str, Any], None]:
    """Yield attempts, output, failures, switches and waits of a task until it has ended.

    `from_start` False leaves out the attempts that had ended before.

    Raises:
        NotFoundError: there is no such task.

    """
    ledger = service.ledger
    task = await ledger.task(task_id)
    seen = await ledger.last_event_before(task.created_ms if from_start else service.clock.now_ms())
    shown = 0 if from_start else sum(run.state is not RunState.RUNNING for run in await ledger.runs(task.id))
    waiting: tuple[str, int | None] | None = None
    while True:
        heard = service.bell.heard()
        runs = await ledger.runs(task.id)
        for run in runs[shown:]:
            for seq, event in await ledger.events(seen, chain=task.chain):
                if event.at_ms > run.started_ms:
                    break  # it belongs behind this attempt
                seen = seq
                if event.kind in _SWITCHES:
                    yield _switch(event)
            async for happening in _attempt(service, run):
                yield happening
            shown, waiting = shown + 1, None
        for seq, event in await ledger.events(seen, chain=task.chain):
            seen = seq
            if event.kind in _SWITCHES:
                yield _switch(event)
        task = await ledger.task(task.id)
        if task.state.ended and shown >= len(await ledger.runs(task.id)):
            after = (await ledger.post_tasks.of([task.id])).get(task.id)
            if after is not None and after.state is PostTaskState.FAILED:
                yield {"type": "post_task", "state": after.state.value, "exit": after.exit, "reason": after.reason}
            yield await _ended(service, task)
            return
        if task.state is TaskState.QUEUED:
            why = _waits_for(service, task, runs)
            if why and why != waiting:
                waiting = why
                yield {"type": "waiting", "reason": why[0], "until_ms": why[1]}
        await service.bell.wait(heard, LOOK_WHILE_QUEUED)


async def _attempt(service: Service, run: Run) -> AsyncGenerator[dict[str, Any], None]:
    agent = service.agents[run.tier.agent]
    tier = run.tier
    yield {
        "type": "attempt",
        "run": run.id,
        "number": run.number,
        "tier": tier.name,
        "agent": tier.agent,
        "model": tier.model,
        "resumed": run.session is not None and run.state is RunState.RUNNING and run.number > 1,
    }
    spool = service.spool(run.id)
    hide = service.redactor()
    streams = [
        _Stream(Tail(path, source, run.id), Speech(agent, hide))
        for source, path in ((Source.OUT, spool.out), (Source.ERR, spool.err))
    ]
    while True:
        heard = service.bell.heard()
        over = (await service.ledger.run(run.id)).state is not RunState.RUNNING
        for stream in streams:
            for text in stream.texts(last=over):
                if text is None:
                    await anyio.lowlevel.checkpoint()
                else:
                    yield {"type": "output", "run": run.id, "stream": stream.tail.source.value, "text": text}
        if over:
            break
        await service.bell.wait(heard, 0 if any(stream.tail.behind for stream in streams) else LOOK_EVERY)
    run = await service.ledger.run(run.id)
    if run.state is RunState.FAILED:
        task, last = await service.ledger.task(run.task), (await service.ledger.runs(run.task))[-1]
        yield _failed(run, last=task.state is TaskState.FAILED and last.id == run.id)


@dataclass
class Speech:
    """What people want to read of what an agent writes; `begun` is what it has said of a line that goes on."""

    agent: Agent
    hide: Redactor
    begun: str = ""

    def texts(self, line: Line) -> Iterator[str]:
        """What the agent said in a new line, or plain output as it is, without secrets."""
        yield from map(self.hide, self._texts(self.hide.line(line)))

    def rest(self) -> Iterator[str]:
        """What was begun, when nothing more comes."""
        if self.begun:
            yield self.hide(self.begun)
            self.begun = ""

    def _texts(self, line: Line) -> Iterator[str]:
        told = self.agent.read(line)
        said = [each for each in told if isinstance(each, Signal) and each.mark in (Mark.SAID, Mark.PIECE)]
        pieces = "".join(each.text for each in said if each.mark is Mark.PIECE)
        if pieces:
            *whole, self.begun = (self.begun + pieces).split("\n")
            yield from whole
            return
        if self.begun:
            yield self.begun
            self.begun = ""
        if said:
            yield from (each.text for each in said)
        elif not told and not (self.agent.speaks_json and line.data.lstrip().startswith(b"{")):
            yield line.data.decode("utf-8", "replace")


@dataclass
class _Stream:
    """One stream of a run."""

    tail: Tail
    speech: Speech

    def texts(self, *, last: bool) -> Iterator[str | None]:
        """What is to be read of its new lines; None at times."""
        for written in self.tail.read(last=last):
            if written is None:
                yield None
            else:
                yield from self.speech.texts(written)
        if last:
            yield from self.speech.rest()


def _failed(run: Run, *, last: bool) -> dict[str, Any]:
    """A failure and what follows it: of the `last` one nothing, whatever would have, had there been tries left."""
    then = Next.FAIL if last else run.next
    return {
        "type": "failed",
        "run": run.id,
        "tier": run.tier.name,
        "kind": run.failure.value if run.failure else None,
        "reason": run.reason,
        "next": then.value if then else None,
        "wait_ms": run.wait_ms if then is Next.RETRY else None,
    }


def _switch(event: Event) -> dict[str, Any]:
    """A tier that is left, or that is back; `to` is the tier picked from now on, None when none is left."""
    hold = event.hold
    assert hold is not None, "whoever comes or goes does so for a hold"
    return {
        "type": "switch" if event.kind is EventKind.BUMPED else "returned",
        "from": event.tier,
        "to": event.active,
        "kind": hold.kind.value,
        "reason": event.reason,
        "until_ms": hold.until_ms if event.kind is EventKind.BUMPED else None,
    }


def _waits_for(service: Service, task: Task, runs: list[Run]) -> tuple[str, int | None] | None:
    """Why a queued task is not running, and until when (None: not known); None when it is about to start."""
    now_ms = service.clock.now_ms()
    board, chain = service.ledger.board, service.ledger.plan.chains.get(task.chain)
    if chain is None:
        return None
    if board.chain(chain.name).paused:
        return f"chain {chain.name} is paused", None
    if service.low_disk:
        return "the disk is almost full (limits.min_free)", None
    if task.not_before_ms > now_ms:
        return "it tries the same tier again", task.not_before_ms
    tried = avoided(runs)
    free_ms = free_at_ms(board, chain, now_ms, tried)
    if free_ms == now_ms:
        return None
    if tried and pick(board, chain, now_ms):
        return f"this task has failed on {', '.join(sorted(tried))}, and every other tier is held", free_ms
    return "every tier is held", free_ms


async def _ended(service: Service, task: Task) -> dict[str, Any]:
    return {
        "type": "ended",
        "state": task.state.value,
        "reason": task.reason,
        "reason_code": task.reason_code,
        "said": task.said,
        **views.spent(await service.ledger.runs(task.id)),
    }
