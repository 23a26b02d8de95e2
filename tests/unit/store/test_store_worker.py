"""Lanes: order, shared batches, and nobody left waiting."""

from __future__ import annotations

from threading import Event, get_ident

import anyio
import pytest

from locum.errors import StateError
from locum.store.worker import InlineWorker, ThreadWorker

pytestmark = pytest.mark.anyio


class Batches:
    """Runs jobs and remembers how they were grouped."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.threads: set[int] = set()

    def __call__(self, jobs):
        """Run one batch."""
        self.sizes.append(len(jobs))
        self.threads.add(get_ident())
        for job in jobs:
            job.value = job.work(None)


@pytest.mark.parametrize("worker", [InlineWorker(), ThreadWorker()])
async def test_work_is_done_in_order(worker):
    """Each caller gets its own answer, and work is done in the order it was asked for."""
    done: list[int] = []

    def work(number):
        done.append(number)
        return number * 2

    batches = Batches()
    lane = worker.lane("test", batches, 100)
    assert [await lane.call(lambda _, n=number: work(n)) for number in range(20)] == [2 * n for n in range(20)]
    assert done == list(range(20))
    await lane.close()
    assert (get_ident() in batches.threads) is isinstance(worker, InlineWorker)


@pytest.mark.parametrize("worker", [InlineWorker(), ThreadWorker()])
async def test_a_closed_lane_refuses(worker):
    """After closing, twice even, work is refused with a typed error."""
    lane = worker.lane("test", Batches(), 100)
    await lane.close()
    await lane.close()
    with pytest.raises(StateError, match="closed"):
        await lane.call(lambda _: 1)


async def test_what_queues_up_shares_a_batch():
    """While one batch is busy the rest gathers, and goes together, at most so many at a time."""
    batches, begun, go = Batches(), Event(), Event()
    lane = ThreadWorker().lane("test", batches, 4)

    def busy(_):
        begun.set()
        go.wait(5)

    async with anyio.create_task_group() as group:
        group.start_soon(lane.call, busy)
        while not begun.is_set():
            await anyio.lowlevel.checkpoint()
        for _ in range(10):
            group.start_soon(lane.call, lambda _: None)
        while lane._queue.qsize() < 10:
            await anyio.lowlevel.checkpoint()
        go.set()
    assert batches.sizes == [1, 4, 4, 2]
    await lane.close()


async def test_closing_finishes_what_was_asked_for():
    """Whoever waits when the lane closes still gets the answer."""
    lane, go, answers = ThreadWorker().lane("test", Batches(), 4), Event(), []

    async def ask(number):
        answers.append(await lane.call(lambda _: go.wait(5) and number))

    async with anyio.create_task_group() as group:
        for number in range(6):
            group.start_soon(ask, number)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(lane.close)
        go.set()
    assert sorted(answers) == list(range(6))


async def test_a_cancelled_caller_cancels_no_work():
    """The work of a caller that left is done all the same, and the lane goes on."""
    lane, go, done = ThreadWorker().lane("test", Batches(), 4), Event(), []
    async with anyio.create_task_group() as group:
        group.start_soon(lane.call, lambda _: go.wait(5) and done.append(1))
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    go.set()
    await lane.call(lambda _: None)
    assert done == [1]
    await lane.close()


async def test_a_batch_with_a_bug_leaves_nobody_waiting():
    """Should running a batch itself fail, each caller is told, and the next batch runs."""

    def broken(jobs):
        raise RuntimeError("bug")

    lane = ThreadWorker().lane("test", broken, 4)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="bug"):
            await lane.call(lambda _: None)
    await lane.close()


def test_a_loop_that_ended_does_not_stop_the_lane():
    """Those who waited in a finished event loop are gone; those of the next one are served."""
    lane, go = ThreadWorker().lane("test", Batches(), 1), Event()

    async def leave():
        with anyio.move_on_after(0.01):
            await lane.call(lambda _: go.wait(5))

    async def come():
        assert await lane.call(lambda _: 5) == 5
        await lane.close()

    anyio.run(leave)
    go.set()
    anyio.run(come)
