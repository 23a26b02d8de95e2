"""Where work that waits for the disk is done: on threads of its own, or at once in the caller (for simulation)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Protocol, TypeVar

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread

from locum.errors import StateError

T = TypeVar("T")


@dataclass(slots=True)
class Job:
    """One piece of work and, once it has run, what came of it."""

    work: Callable[[Any], Any]
    value: Any = None
    error: Exception | None = None

    def outcome(self) -> Any:
        """The value, or the error raised."""
        if self.error is not None:
            raise self.error
        return self.value


Batch = Callable[[Sequence[Job]], None]
"""Runs jobs together and fills in what came of each. Does not raise."""


class Lane(Protocol):
    """Runs jobs one batch after another, in the order they came."""

    async def call(self, work: Callable[[Any], Any]) -> Any:
        """Have `work` done in a batch and wait until that batch is finished; a cancelled caller cancels no work."""
        ...

    async def close(self) -> None:
        """Finish what was asked for, then refuse more."""
        ...


class Worker(Protocol):
    """Makes lanes."""

    def lane(self, name: str, batch: Batch, most: int) -> Lane:
        """A lane that hands at most `most` jobs to `batch` at a time."""
        ...

    async def aside(self, work: Callable[[], T]) -> T:
        """Have `work` done where it keeps nobody waiting but the caller; the value it returns, or what it raises."""
        ...


class InlineWorker:
    """Does everything at once, in the caller."""

    def lane(self, name: str, batch: Batch, most: int) -> Lane:  # noqa: ARG002 - the caller waits: a batch is one job
        """A lane without a thread."""
        return _InlineLane(batch)

    async def aside(self, work: Callable[[], T]) -> T:
        """As `Worker` says."""
        await anyio.lowlevel.checkpoint()
        return work()


class ThreadWorker:
    """Gives every lane a thread. Under load whatever has queued up shares one batch; nothing ever lingers for more."""

    def lane(self, name: str, batch: Batch, most: int) -> Lane:
        """A lane with a thread called `name`."""
        return _ThreadLane(name, batch, most)

    async def aside(self, work: Callable[[], T]) -> T:
        """As `Worker` says."""
        return await anyio.to_thread.run_sync(work)


class _InlineLane:
    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._closed = False

    async def call(self, work: Callable[[Any], Any]) -> Any:
        """As `Lane` says."""
        await anyio.lowlevel.checkpoint()
        if self._closed:
            raise _closed()
        job = Job(work)
        self._batch([job])
        return job.outcome()

    async def close(self) -> None:
        """As `Lane` says."""
        self._closed = True


@dataclass(slots=True)
class _Waiting:
    job: Job
    done: anyio.Event
    loop: anyio.lowlevel.EventLoopToken


class _ThreadLane:
    def __init__(self, name: str, batch: Batch, most: int) -> None:
        self._batch = batch
        self._most = most
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._closed = False
        self._thread = Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    async def call(self, work: Callable[[Any], Any]) -> Any:
        """As `Lane` says."""
        if self._closed:
            raise _closed()
        waiting = _Waiting(Job(work), anyio.Event(), anyio.lowlevel.current_token())
        self._queue.put(waiting)
        await waiting.done.wait()
        return waiting.job.outcome()

    async def close(self) -> None:
        """As `Lane` says."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._thread.join)

    def _serve(self) -> None:
        more = True
        while more:
            waiting, more = self._take()
            jobs = [each.job for each in waiting]
            try:
                self._batch(jobs)
            except Exception as error:  # noqa: BLE001 - nobody may wait for ever because of a bug in a batch
                for job in jobs:
                    job.error = job.error or error
            _wake(waiting)

    def _take(self) -> tuple[list[_Waiting], bool]:
        """The next job and those queued behind it; False with them once the lane is closed."""
        taken: list[_Waiting] = []
        each = self._queue.get()
        while each is not None:
            taken.append(each)
            if len(taken) == self._most:
                return taken, True
            try:
                each = self._queue.get_nowait()
            except Empty:
                return taken, True
        return taken, False


def _wake(waiting: Sequence[_Waiting]) -> None:
    """Wake all who wait, in one hop to each event loop."""
    loops: dict[anyio.lowlevel.EventLoopToken, list[anyio.Event]] = {}
    for each in waiting:
        loops.setdefault(each.loop, []).append(each.done)
    for loop, events in loops.items():
        with suppress(anyio.RunFinishedError):  # that loop has ended, and with it everybody who waited in it
            anyio.from_thread.run_sync(_set, events, token=loop)


def _set(events: Sequence[anyio.Event]) -> None:
    for event in events:
        event.set()


def _closed() -> StateError:
    return StateError("the ledger is closed")
