"""What follows a task: due in the commit that ends it, started so often and no more, and told when it fails."""

from __future__ import annotations

from dataclasses import replace

import pytest

from locum.errors import StateError
from locum.policy.failure import Failure, FailureKind
from locum.policy.notice import NoticeKind
from locum.policy.task import Ending, PostTaskState, RunState, TaskState
from locum.store.post_task import GAVE_UP, MOST_STARTS, REMOVED
from tests.ledgers import HOUR, START, opened, plan_of, run_of, started, task_of

pytestmark = pytest.mark.anyio

PLAN = plan_of(post_task=True)
DONE, FAILED = Ending(RunState.SUCCEEDED, 0), Ending(RunState.FAILED, 1)


@pytest.fixture
async def ledger(tmp_path):
    """A ledger whose plan has a post_task; audited when the test is over."""
    ledger = await opened(tmp_path, PLAN)
    yield ledger
    assert (await ledger.audit()).problems == ()
    await ledger.close()


async def ended(ledger, number=1, at=START):
    """A task that is done; its id."""
    run = await started(ledger, number)
    await ledger.end_run(run.id, DONE, None, at)
    return run.task


async def done(ledger):
    """A run that succeeds."""
    await ended(ledger)


async def gave_up(ledger):
    """A task that is ended while it waits."""
    await ledger.submit(task_of(), b"")
    await ledger.give_up("task-0001", "no", "no_tier", START)


async def cancelled_waiting(ledger):
    """A task that is cancelled while it waits."""
    await ledger.submit(task_of(), b"")
    await ledger.cancel("task-0001", START)


async def cancelled_running(ledger):
    """A task that is cancelled while it runs."""
    run = await started(ledger)
    await ledger.cancel(run.task, START)
    assert await ledger.post_tasks.due(9) == [], "it has not ended yet"
    await ledger.end_run(run.id, Ending(RunState.STOPPED), None, START)


async def cancelled_unstarted(ledger):
    """A task that is cancelled while its run is being started, which it then never was."""
    run = await started(ledger)
    await ledger.cancel(run.task, START)
    await ledger.forget_run(run.id, START)


async def refused(ledger):
    """A failure that no other tier would mend."""
    run = await started(ledger)
    await ledger.end_run(run.id, FAILED, Failure(FailureKind.INVALID_REQUEST, "no"), START)


async def exhausted(ledger):
    """A task that has had all its attempts."""
    await ledger.replan(replace(PLAN, attempts=1), START)
    run = await started(ledger)
    await ledger.end_run(run.id, FAILED, Failure(FailureKind.CRASH, "no"), START)


async def chain_gone(ledger):
    """A run whose chain is taken out of the configuration before it fails."""
    run = await started(ledger)
    await ledger.replan(replace(plan_of(chains={"other": ()}), post_task=True), START)
    await ledger.end_run(run.id, FAILED, Failure(FailureKind.CRASH, "no"), START)


WAYS = (done, gave_up, cancelled_waiting, cancelled_running, cancelled_unstarted, refused, exhausted, chain_gone)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_it_is_due_however_a_task_ends(ledger, way):
    """Done, failed or cancelled, on every path: exactly one row, there as soon as the task has ended."""
    await way(ledger)
    (task,) = await ledger.tasks()
    assert task.state.ended
    assert await ledger.post_tasks.due(9) == [task.id]
    after = (await ledger.post_tasks.of([task.id]))[task.id]
    assert (after.state, after.starts, after.due_ms, after.ended_ms) == (PostTaskState.DUE, 0, START, None)


@pytest.mark.parametrize("way", WAYS[:-1], ids=lambda way: way.__name__)
async def test_nothing_is_due_where_nothing_is_asked_for(tmp_path, way, monkeypatch):
    """Without post_task in the configuration no row is ever written."""
    monkeypatch.setattr(f"{__name__}.PLAN", plan_of())
    ledger = await opened(tmp_path, plan_of())
    await way(ledger)
    (task,) = await ledger.tasks()
    assert await ledger.post_tasks.due(9) == []
    assert await ledger.post_tasks.of([task.id]) == {}
    await ledger.close()


async def test_a_task_that_goes_on_is_not_followed(ledger):
    """A failed attempt that another tier takes over, and a run put back by a stop, end no task."""
    run = await started(ledger)
    await ledger.end_run(run.id, FAILED, Failure(FailureKind.AUTH_ERROR, "401"), START)
    again = replace(run_of(2, task=1, attempt=2), tier=PLAN.tiers["c"])
    await ledger.start_run(again, START)
    await ledger.end_run(again.id, Ending(RunState.STOPPED), None, START)
    assert (await ledger.task(run.task)).state is TaskState.QUEUED
    assert await ledger.post_tasks.due(9) == []


async def test_the_oldest_comes_first_and_only_so_many(ledger):
    """What has waited longest is next, whatever order the tasks were submitted in."""
    for number, at in ((1, START + 2), (2, START), (3, START + 1)):
        await ended(ledger, number, at)
    assert await ledger.post_tasks.due(2) == ["task-0002", "task-0003"]
    assert len(await ledger.post_tasks.due(9)) == 3


async def alarms(ledger):
    """What people were told of, beside the end of each task."""
    daily = (NoticeKind.TASK_FINISHED, NoticeKind.TASK_FAILED)
    return [notice for _, notice in await ledger.notices() if notice.kind not in daily]


async def test_starts_are_counted_and_then_it_has_failed(ledger):
    """One that takes the daemon down each time is begun three times; then people are told, once."""
    task = await ended(ledger)
    for number in range(MOST_STARTS):
        assert await ledger.post_tasks.start(task, START) is PostTaskState.RUNNING
        assert (await ledger.post_tasks.of([task]))[task].starts == number + 1
        assert await ledger.post_tasks.running() == [task]
        assert await ledger.post_tasks.due(9) == []
        await ledger.post_tasks.put_back(task)
    assert await ledger.post_tasks.start(task, START + HOUR) is PostTaskState.FAILED
    after = (await ledger.post_tasks.of([task]))[task]
    assert (after.state, after.starts, after.ended_ms) == (PostTaskState.FAILED, MOST_STARTS, START + HOUR)
    assert after.reason == GAVE_UP
    assert await ledger.post_tasks.start(task, START) is PostTaskState.FAILED
    (told,) = await alarms(ledger)
    assert GAVE_UP in told.message


async def test_what_it_does_touches_no_task_and_no_chain(ledger):
    """A failure is a row and a notice: task, runs, board and log are as they were."""
    task = await ended(ledger)
    before = (await ledger.task(task), await ledger.runs(task), ledger.board, await ledger.events())
    await ledger.post_tasks.start(task, START)
    await ledger.post_tasks.end(task, PostTaskState.FAILED, 3, "exit code 3: no", START + 5)
    assert (await ledger.task(task), await ledger.runs(task), ledger.board, await ledger.events()) == before
    (told,) = await alarms(ledger)
    assert (told.kind, told.chain, told.data["task"], told.data["exit"]) == ("post_task_failed", "default", task, 3)
    assert "exit code 3: no" in told.message


async def test_an_end_is_written_once(ledger):
    """A second end, a put back and a start after it change nothing, and nobody is told twice."""
    task = await ended(ledger)
    await ledger.post_tasks.start(task, START)
    await ledger.post_tasks.end(task, PostTaskState.FAILED, 1, "no", START)
    before = await ledger.post_tasks.of([task])
    await ledger.post_tasks.end(task, PostTaskState.DONE, 0, "", START + 1)
    await ledger.post_tasks.end(task, PostTaskState.FAILED, 2, "no", START + 1)
    await ledger.post_tasks.put_back(task)
    assert await ledger.post_tasks.start(task, START) is PostTaskState.FAILED
    assert await ledger.post_tasks.of([task]) == before
    assert len(await alarms(ledger)) == 1


async def test_a_failure_and_its_notice_are_one(ledger, monkeypatch):
    """Where the notice cannot be written the end is not either: it is neither failed in silence nor told in vain."""
    task = await ended(ledger)
    await ledger.post_tasks.start(task, START)
    monkeypatch.setattr("locum.store.notices.add", lambda *_: (_ for _ in ()).throw(StateError("full")))
    with pytest.raises(StateError):
        await ledger.post_tasks.end(task, PostTaskState.FAILED, 1, "no", START)
    assert (await ledger.post_tasks.of([task]))[task].state is PostTaskState.RUNNING


async def test_what_is_due_is_dropped_when_there_is_no_command_any_more(ledger):
    """A reload without post_task ends what is due, not what runs or has ended; nobody is alarmed."""
    for number in (1, 2, 3):
        await ended(ledger, number, START + number)
    await ledger.post_tasks.start("task-0001", START)
    await ledger.post_tasks.start("task-0002", START)
    await ledger.post_tasks.end("task-0002", PostTaskState.DONE, 0, "", START)
    assert await ledger.post_tasks.drop(START + 9) == 1
    found = await ledger.post_tasks.of(["task-0001", "task-0002", "task-0003", "nothing"])
    assert [each.state for each in found.values()] == ["running", "done", "dropped"]
    assert (found["task-0003"].reason, found["task-0003"].ended_ms) == (REMOVED, START + 9)
    assert await alarms(ledger) == []


async def test_the_view_counts_and_shows_the_last(ledger):
    """How many wait and run, and the one that ended last of those that were run."""
    assert (await ledger.post_tasks.view()).last is None
    for number in range(1, 6):
        await ended(ledger, number, START + number)
    for number, state in ((1, PostTaskState.FAILED), (2, PostTaskState.DONE)):
        await ledger.post_tasks.start(f"task-{number:04}", START)
        await ledger.post_tasks.end(f"task-{number:04}", state, number, "x", START + 10 - number)
    await ledger.post_tasks.start("task-0003", START)
    view = await ledger.post_tasks.view()
    assert (view.due, view.running) == (2, 1)
    assert view.last is not None
    assert view.last.task == "task-0001", "by when it ended, not by task"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE post_task SET ended_ms = 5",
        "UPDATE post_task SET state = 'done'",
        "UPDATE post_task SET state = 'running'",
        "UPDATE post_task SET state = 'well', ended_ms = 5",
        "UPDATE task SET state = 'queued', ended_ms = NULL",
    ],
)
async def test_the_audit_finds_a_broken_row(tmp_path, statement):
    """A row that was changed behind the ledger's back is told."""
    ledger = await opened(tmp_path, PLAN)
    await ended(ledger)
    assert (await ledger.audit()).problems == ()
    await ledger._database.write(lambda tx: tx.connection.execute(statement).fetchall())
    assert any("the post_task of task task-0001 has" in each for each in (await ledger.audit()).problems)
    await ledger.close()
