"""Promises of the bell: no ring is missed, and no wait is for ever."""

from __future__ import annotations

import time

import anyio
import pytest

from locum.engine.bell import Bell

pytestmark = pytest.mark.anyio


async def test_a_ring_before_the_wait_is_not_missed() -> None:
    """Whoever looked, was busy, and waits then, hears what rang meanwhile."""
    bell = Bell()
    heard = bell.heard()
    bell.ring()
    with anyio.fail_after(1):
        await bell.wait(heard, 60)


async def test_a_ring_wakes_everybody_who_waits() -> None:
    """One ring, however many listen."""
    bell = Bell()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(bell.wait, bell.heard(), 60)
            await anyio.wait_all_tasks_blocked()
            bell.ring()


async def test_a_wait_ends_by_itself() -> None:
    """Without a ring the wait lasts as long as was asked for, and no longer."""
    bell = Bell()
    began = time.monotonic()
    await bell.wait(bell.heard(), 0.05)
    assert 0.04 < time.monotonic() - began < 2
