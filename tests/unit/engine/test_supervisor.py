"""Promises of the supervisor: it keeps going through clock steps, full disks and edits, and loses nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import anyio
import pytest

from locum.clock import SystemClock
from locum.config.reload import Applied, Rejected, Unchanged
from locum.engine import supervisor as module
from locum.engine.retire import once
from locum.errors import NotFoundError, StateError
from locum.policy.board import EventKind
from locum.policy.failure import FailureKind
from locum.policy.notice import NoticeKind
from locum.policy.task import TaskState
from tests.ledgers import HOUR
from tests.unit.engine.rig import Flaky, Rig, done, fails, make, running, service_of

pytestmark = pytest.mark.anyio
YEAR = 365 * 24 * 3600


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits as long for the disk as a daemon does."""
    monkeypatch.setattr(module, "STATE_PAUSE", 0.02)


async def tell_kinds(rig: Rig) -> list[NoticeKind]:
    """The kinds of all notices."""
    return [notice.kind for _, notice in await rig.ledger.notices(limit=1000)]


async def test_a_clock_set_forward_ends_holds_and_nothing_else(tmp_path: Path) -> None:
    """A year's leap brings a held tier back at once; usage recorded before and after is there once."""
    usage = json.dumps({"type": "usage", "id": "m", "input": 7}) + "\n"
    rig = await make(tmp_path, service_of("a"), fails("auth_error"), lambda run: (run.say(usage), done(run)))
    async with running(rig):
        task = await rig.submit()
        await rig.until(lambda: len(rig.ledger.board.holds) == 1)
        assert rig.boss._sleep() == module.LONGEST_SLEEP
        rig.leap(YEAR)
        assert (await rig.ended(task)).state is TaskState.DONE
        kinds = [event.kind for _, event in await rig.ledger.events()]
        assert kinds.count(EventKind.RETURNED) == 1
        rig.leap(-YEAR)
        again = await rig.submit()
        assert (await rig.ended(again)).state is TaskState.DONE
        assert (await rig.ledger.task_tokens(again.id)).total == 7
        assert (await rig.ledger.audit()).problems == ()


async def test_a_clock_set_back_prolongs_no_hold(tmp_path: Path) -> None:
    """A hold placed by a clock that was a year ahead ends after its own length, not after a year."""
    rig = await make(tmp_path, service_of("a", "b"), fails("rate_limit"), done)
    async with running(rig):
        assert (await rig.ended(await rig.submit())).state is TaskState.DONE
        rig.leap(-YEAR)
        await rig.until(lambda: 0 < (rig.ledger.next_due_ms() or 0) - rig.clock.now_ms() <= HOUR)
        rig.leap(HOUR / 1000)
        await rig.until(lambda: not rig.ledger.board.holds)


async def test_a_clock_set_back_prolongs_no_retry(tmp_path: Path) -> None:
    """A retry in place that was due in seconds is not due in a year when the clock is set back."""
    rig = await make(tmp_path, service_of("a"), fails("overloaded"), done)
    async with running(rig):
        task = await rig.submit()
        await rig.until_async(lambda: _waits(rig, task.id))
        await rig.until(lambda: rig.boss._sleep() <= 2.1)
        rig.leap(-YEAR)
        assert (await rig.ended(task)).state is TaskState.DONE
        runs = await rig.ledger.runs(task.id)
        assert all(run.ended_ms is not None and run.ended_ms >= run.started_ms for run in runs)


async def _waits(rig: Rig, task: str) -> bool:
    return (await rig.ledger.task(task)).not_before_ms > rig.clock.now_ms()


async def test_a_retry_is_not_made_before_its_time(tmp_path: Path) -> None:
    """Between two attempts in place lies the whole wait, however often the daemon is woken."""
    rig = await make(tmp_path, service_of("a"), fails("overloaded"), done)
    async with running(rig):
        task = await rig.submit()
        await rig.until_async(lambda: _waits(rig, task.id))
        for _ in range(5):
            rig.leap(0.3)
            await anyio.sleep(0.01)
        assert len(rig.processes.started) == 1
        rig.leap(0.6)
        assert (await rig.ended(task)).state is TaskState.DONE


async def test_a_ledger_that_fails_for_a_while_is_asked_again(tmp_path: Path) -> None:
    """Neither a queue that cannot be read nor a return that cannot be written ends the daemon."""
    rig = await make(tmp_path, service_of("a"), done)
    queue = Flaky(rig.ledger, "queue")
    async with running(rig):
        task = await rig.submit()
        await rig.until(lambda: queue.failed > 2)
        queue.broken = False
        assert (await rig.ended(task)).state is TaskState.DONE


async def test_a_state_folder_that_cannot_be_looked_at_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the disk while its free space is asked for does not end the daemon."""
    rig = await make(tmp_path, service_of("a"), done)
    asked = []

    def fails_twice(_: Path) -> int:
        asked.append(1)
        if len(asked) < 3:
            raise OSError(5, os.strerror(5))
        return 1 << 40

    monkeypatch.setattr(module, "free_bytes", fails_twice)
    async with running(rig):
        assert (await rig.ended(await rig.submit())).state is TaskState.DONE


async def test_a_reload_that_cannot_be_recorded_is_taken_over_later(tmp_path: Path) -> None:
    """An edit made while the disk takes nothing is told as trouble, and in force as soon as it can be written."""
    rig = await make(tmp_path, service_of("a"))
    replan = Flaky(rig.ledger, "replan")
    rig.configure(service_of("b"))
    with pytest.raises(StateError):
        await rig.boss.reload()
    await rig.boss.refresh()
    replan.broken = False
    async with running(rig):
        await rig.until(lambda: list(rig.ledger.plan.tiers) == ["b"])


async def test_a_rejected_edit_is_told_once_even_on_a_full_disk(tmp_path: Path) -> None:
    """People hear of a bad edit exactly once, if need be when the disk takes it again."""
    rig = await make(tmp_path, service_of("a"))
    reject = Flaky(rig.ledger, "reject_config")
    rig.config.write_text("{")
    with pytest.raises(StateError):
        await rig.boss.reload()
    assert len(rig.boss.rejected) == 1
    async with running(rig):
        await rig.until(lambda: reject.failed > 3)
        reject.broken = False
        await rig.until_async(lambda: _told(rig))
        assert isinstance(await rig.boss.reload(), Unchanged)
    assert reject.failed > 3


async def _told(rig: Rig) -> bool:
    return await tell_kinds(rig) == [NoticeKind.CONFIG_REJECTED]


async def test_reload_tells_what_became_of_it(tmp_path: Path) -> None:
    """Applied, rejected and unchanged are three answers, and a bad file leaves the plan as it was."""
    rig = await make(tmp_path, service_of("a"))
    assert isinstance(await rig.boss.reload(), Unchanged)
    rig.configure(service_of("b"))
    assert isinstance(await rig.boss.reload(), Applied)
    rig.config.write_text("[]")
    assert isinstance(await rig.boss.reload(), Rejected)
    assert list(rig.ledger.plan.tiers) == ["b"]
    assert rig.boss.rejected[0].path == rig.config
    await rig.ledger.close()


async def test_old_runs_are_retired_and_nothing_else(tmp_path: Path) -> None:
    """Folders of runs that ended before the retention go, with their prompts; open and recent ones stay."""
    rig = await make(tmp_path, service_of("a"), done)
    rig.clock.wall_ms = SystemClock().now_ms()
    async with running(rig):
        old, recent = await rig.submit(), await rig.submit()
        for task in (old, recent):
            await rig.ended(task)
        folders = {task.id: rig.boss.spool((await rig.ledger.runs(task.id))[0].id).folder for task in (old, recent)}
        rig.processes.acts = [lambda _: None]
        living = await rig.submit()
        await rig.until(lambda: bool(rig.boss.running()))
        folders[living.id] = rig.boss.spool(next(iter(rig.boss.running()))).folder
        for task in (old, living):
            os.utime(folders[task.id], (0, 0))
        await once(rig.boss)
        assert [folders[task.id].exists() for task in (old, recent, living)] == [False, True, True]
        rig.clock.wall_ms += 30 * 24 * HOUR
        await once(rig.boss)
        assert folders[living.id].exists()
        with pytest.raises(NotFoundError):
            await rig.ledger.prompt(old.id)


async def test_retiring_survives_a_disk_that_fails(tmp_path: Path) -> None:
    """Housekeeping that fails is tried again an hour later; the daemon goes on."""
    rig = await make(tmp_path, service_of("a"), done)
    prune = Flaky(rig.ledger, "prune")
    async with running(rig):
        assert (await rig.ended(await rig.submit())).state is TaskState.DONE
        await rig.until(lambda: prune.failed == 1)


async def test_orders_name_what_there_is(tmp_path: Path) -> None:
    """Unknown chains, tiers, tasks and folders are refused by name; nothing is queued."""
    rig = await make(tmp_path, service_of("a"))
    boss = rig.boss
    for refused in (
        boss.submit("nochain", b"x", "/"),
        boss.submit("default", b"x", "/no/such/folder"),
        boss.bump("nochain", None, None, ""),
        boss.bump("default", "nobody", None, ""),
        boss.release("nochain", None, None),
        boss.pause("nochain"),
        boss.resume("nochain"),
        boss.cancel("t-none"),
    ):
        with pytest.raises(NotFoundError):
            await refused
    assert await rig.ledger.queue() == []
    await rig.ledger.close()


async def test_no_more_runs_at_once_than_allowed(tmp_path: Path) -> None:
    """`limits.parallel` bounds the runs of a chain; the next starts when one ends."""
    service = service_of("a")
    service["limits"]["parallel"] = 2
    rig = await make(tmp_path, service, lambda _: None)
    async with running(rig):
        tasks = [await rig.submit() for _ in range(4)]
        await rig.until(lambda: len(rig.processes.started) == 2)
        await anyio.sleep(0.05)
        assert len(rig.processes.started) == 2
        rig.processes.acts = [done]
        for process in list(rig.processes.started):
            process.end(0)
        for task in tasks:
            assert (await rig.ended(task)).state is TaskState.DONE


async def test_a_title_is_the_prompts_first_words(tmp_path: Path) -> None:
    """A task without a title is called by the beginning of its prompt, on one line."""
    rig = await make(tmp_path, service_of("a"))
    task = await rig.submit("write \n  the\treport " + "x" * 200)
    assert task.title == ("write the report " + "x" * 200)[:80]
    assert (await rig.submit("x", title="my own")).title == "my own"
    await rig.ledger.close()


async def test_an_operators_hold_survives_what_a_login_ends(tmp_path: Path) -> None:
    """While a guarded hold is in force logins are looked at; a hold that is not guarded stays."""
    rig = await make(tmp_path, service_of("a", "b", "c"), fails("auth_error"), done)
    async with running(rig):
        await rig.boss.bump("default", "b", None, "not today")
        assert (await rig.ended(await rig.submit())).state is TaskState.DONE
        kinds = {hold.kind for hold in rig.ledger.board.holds.values()}
        assert kinds == {FailureKind.OPERATOR, FailureKind.AUTH_ERROR}
        service = service_of("a", "b", "c")
        service["failover"]["tiers"][0]["args"] = ["--new"]
        rig.configure(service)
        await rig.boss.reload()
        await rig.until(lambda: {hold.kind for hold in rig.ledger.board.holds.values()} == {FailureKind.OPERATOR})
        assert await rig.boss.release("default", None, None)
        assert rig.ledger.board.holds == {}
