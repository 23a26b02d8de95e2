"""What every store promises, whatever does its work."""

from __future__ import annotations

from dataclasses import replace

import pytest

from locum.errors import ConflictError, NotFoundError, NoTierError, StateError
from locum.policy.board import EventKind
from locum.policy.chain import Next
from locum.policy.failure import Failure, FailureKind
from locum.policy.notice import NoticeKind
from locum.policy.task import Ending, RunState, TaskState
from locum.policy.usage import Tokens, Usage
from locum.store.ledger import Ledger
from locum.store.worker import InlineWorker, ThreadWorker
from tests.ledgers import HOUR, START, A, B, C, budget, held, opened, plan_of, run_of, spend, started, task_of

pytestmark = pytest.mark.anyio

CRASH = Failure(FailureKind.CRASH, "it crashed")
FAILED, DONE, STOPPED = (
    Ending(RunState.FAILED, exit=1, said="tried"),
    Ending(RunState.SUCCEEDED, 0),
    Ending(RunState.STOPPED),
)


@pytest.fixture(params=[InlineWorker, ThreadWorker])
def worker(request):
    """A fresh worker of each kind."""
    return request.param()


@pytest.fixture
async def ledger(tmp_path, worker):
    """An empty ledger, audited when the test is over."""
    ledger = await opened(tmp_path, plan_of(budget(1_000_000)), worker=worker)
    yield ledger
    assert (await ledger.audit()).problems == ()
    await ledger.close()


async def kinds(ledger):
    """The kinds of all notices."""
    return [notice.kind for _, notice in await ledger.notices()]


async def test_a_task_comes_back_as_it_was_given(ledger):
    """Every field, and a prompt of any bytes and size."""
    task = replace(task_of(1), title="täsk", no_wait=True, shared_cwd=True, not_before_ms=5)
    prompt = bytes(range(256)) * 20_000
    await ledger.submit(task, prompt)
    assert await ledger.task(task.id) == task
    assert await ledger.prompt(task.id) == prompt
    with pytest.raises(ConflictError):
        await ledger.submit(task, b"again")
    assert await ledger.prompt(task.id) == prompt


async def test_a_task_is_found_by_the_beginning_of_its_id(ledger):
    """Four characters or more, if only one task begins so; the whole id always wins."""
    for name in ("abcd1", "abcd12", "abcX", "ab%d"):
        await ledger.submit(replace(task_of(), id=name), b"")
    assert (await ledger.task("abcd1")).id == "abcd1"
    assert (await ledger.task("abcX")).id == "abcX"
    for unknown in ("abc", "abcd", "ab%", "nothing", "", "ab%dd"):
        with pytest.raises(NotFoundError):
            await ledger.task(unknown)
    with pytest.raises(NotFoundError, match="more than one"):
        await ledger.task("abcd")


async def test_tasks_are_listed_newest_first(ledger):
    """By chain, by state, a page at a time."""
    for number in range(1, 6):
        await ledger.submit(task_of(number, "other" if number == 3 else "default"), b"")
    await ledger.cancel("task-0002", START)
    numbers = [task.id[-1] for task in await ledger.tasks()]
    assert numbers == ["5", "4", "3", "2", "1"]
    assert [task.id[-1] for task in await ledger.tasks(chain="other")] == ["3"]
    assert [task.id[-1] for task in await ledger.tasks(states=[TaskState.CANCELLED])] == ["2"]
    assert [task.id[-1] for task in await ledger.tasks(limit=2, before="task-0004")] == ["3", "2"]
    assert [task.id[-1] for task in await ledger.queue()] == ["1", "3", "4", "5"]


async def test_every_open_task_is_counted(ledger):
    """However many wait, each is in the count of its chain and state, and none that has ended."""
    for number in range(1, 1203):
        await ledger.submit(task_of(number, "other" if number % 3 == 0 else "default"), b"")
    await ledger.start_run(run_of(1), START)
    await ledger.cancel("task-0002", START)
    assert await ledger.open_counts() == {
        ("default", TaskState.RUNNING): 1,
        ("default", TaskState.QUEUED): 800,
        ("other", TaskState.QUEUED): 400,
    }
    assert await ledger.cancel("task-0004", START)
    assert (await ledger.open_counts())["default", TaskState.QUEUED] == 799


async def test_a_run_that_succeeds(ledger):
    """Started, its session seen, its usage recorded, done."""
    run = await started(ledger)
    assert (await ledger.task(run.task)).state is TaskState.RUNNING
    await ledger.saw_session(run.id, "s-1", START)
    await ledger.record(run.id, [Usage("m1", Tokens(1, 2, 3, 4), model="big", session="s-1", at_ms=START)], START)
    assert await ledger.end_run(run.id, DONE, None, START + 5) is None
    found = await ledger.run(run.id)
    assert found == replace(
        run, state=RunState.SUCCEEDED, ended_ms=START + 5, exit=0, session="s-1", tokens=Tokens(1, 2, 3, 4)
    )
    assert await ledger.runs(run.task) == [found]
    task = await ledger.task(run.task)
    assert (task.state, task.ended_ms) == (TaskState.DONE, START + 5)
    assert await ledger.task_tokens(run.task) == await ledger.run_tokens(run.id) == Tokens(1, 2, 3, 4)
    assert [event.kind for _, event in await ledger.events()] == [EventKind.STARTED, EventKind.SUCCEEDED]
    assert await ledger.queue() == await ledger.open_runs() == []
    assert await kinds(ledger) == [NoticeKind.TASK_FINISHED]


async def test_what_is_done_cannot_be_done_again(ledger):
    """Every second ending, start or cancel is a typed conflict that changes nothing."""
    run = await started(ledger)
    with pytest.raises(ConflictError, match="running"):
        await ledger.start_run(run_of(2, task=1, attempt=2), START)
    with pytest.raises(ConflictError):
        await ledger.give_up(run.task, "no", "no", START)
    await ledger.end_run(run.id, DONE, None, START)
    for again in (
        lambda: ledger.end_run(run.id, DONE, None, START),
        lambda: ledger.forget_run(run.id, START),
        lambda: ledger.cancel(run.task, START),
        lambda: ledger.give_up(run.task, "no", "no", START),
        lambda: ledger.start_run(run_of(2, task=1, attempt=2), START),
    ):
        with pytest.raises(ConflictError):
            await again()
    for unknown in (
        lambda: ledger.run("nope"),
        lambda: ledger.record("nope", [], START),
        lambda: ledger.prompt("nope"),
    ):
        with pytest.raises(NotFoundError):
            await unknown()


async def test_a_failure_is_retried_in_place_then_moves(ledger):
    """Two retries on the same tier with a wait, then a hold; the runs remember what followed."""
    await ledger.submit(task_of(), b"")
    down = Failure(FailureKind.OVERLOADED, "busy", rule="typed")
    steps = []
    for number in range(1, 4):
        await ledger.start_run(run_of(number, task=1, attempt=number), START)
        steps.append(await ledger.end_run(f"run-{number}", FAILED, down, START + number))
        task = await ledger.task("task-0001")
        assert task.state is TaskState.QUEUED
        assert task.not_before_ms == (START + number + steps[-1].wait_ms if steps[-1].wait_ms else 0)
    assert [step.next for step in steps] == [Next.RETRY, Next.RETRY, Next.MOVE]
    runs = await ledger.runs("task-0001")
    assert [(run.next, run.wait_ms) for run in runs] == [(step.next, step.wait_ms) for step in steps]
    assert (runs[0].failure, runs[0].reason, runs[0].rule, runs[0].said) == (
        FailureKind.OVERLOADED,
        "busy",
        "typed",
        "tried",
    )
    assert list(held(ledger)) == ["tier:a"]
    assert await kinds(ledger) == [NoticeKind.TIER_BUMPED]


async def test_a_lost_session_costs_nothing(ledger):
    """The run says so, the task waits again, nothing is held and no attempt is counted."""
    run = await started(ledger)
    step = await ledger.end_run(run.id, FAILED, Failure(FailureKind.UNKNOWN, "gone", lost_session=True), START)
    assert step.next is Next.RETRY
    assert (await ledger.run(run.id)).lost_session
    assert (await ledger.task(run.task)).state is TaskState.QUEUED
    assert held(ledger) == {}


async def test_a_task_that_can_never_succeed_fails_and_is_told(ledger):
    """A failure that no other tier would mend ends the task, with a notice that names it."""
    run = await started(ledger)
    await ledger.end_run(run.id, FAILED, Failure(FailureKind.CONTEXT_OVERFLOW, "too long"), START)
    task = await ledger.task(run.task)
    assert (task.state, task.reason, task.reason_code) == (TaskState.FAILED, "too long", "context_overflow")
    assert await kinds(ledger) == [NoticeKind.TASK_FAILED]
    assert held(ledger) == {}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"attempts": 1}, "attempts"),
        ({"task_tokens": 10}, "task_tokens"),
        ({"chains": {"default": (A,)}}, "every_tier"),
    ],
)
async def test_a_task_ends_at_its_limits(ledger, change, code):
    """Attempts, tokens, and tiers to try: each is an end with its own reason."""
    await ledger.replan(plan_of(**change), START)
    run = await started(ledger)
    await spend(ledger, run, 10)
    await ledger.end_run(run.id, FAILED, CRASH, START)
    task = await ledger.task(run.task)
    assert (task.state, task.reason_code) == (TaskState.FAILED, code)
    assert "it crashed" in task.reason
    assert await kinds(ledger) == [NoticeKind.TASK_FAILED]


async def test_a_crash_moves_the_task_and_holds_nothing_until_another_crashes(ledger):
    """One bad task holds no tier; a second task failing so does."""
    one, two = await started(ledger, 1), await started(ledger, 2)
    assert (await ledger.end_run(one.id, FAILED, CRASH, START)).next is Next.MOVE
    assert held(ledger) == {}
    await ledger.end_run(two.id, FAILED, CRASH, START)
    assert list(held(ledger)) == ["tier:a"]


async def test_a_chain_that_is_gone_fails_its_task(ledger):
    """A failure in a chain no longer configured ends the task with that reason; a success stays one."""
    one, two = await started(ledger, 1), await started(ledger, 2)
    await ledger.replan(plan_of(chains={"new": (B,)}), START)
    assert await ledger.end_run(one.id, FAILED, CRASH, START) is None
    assert (await ledger.task(one.task)).reason_code == "chain_gone"
    await ledger.end_run(two.id, DONE, None, START)
    assert (await ledger.task(two.task)).state is TaskState.DONE


@pytest.mark.parametrize("between", ["hold", "pause", "edit"])
async def test_a_run_does_not_start_where_it_may_not_any_more(ledger, between):
    """Between the pick and the start another run failed, or people acted: the task waits, and is offered again."""
    await ledger.submit(task_of(), b"do it")
    match between:
        case "hold":
            await ledger.bump("default", "a", START + 10, "x", START)
        case "pause":
            await ledger.pause("default", START)
        case _:
            await ledger.replan(plan_of(chains={"new": (B,)}), START)
    with pytest.raises(ConflictError, match="by now"):
        await ledger.start_run(run_of(), START)
    assert (await ledger.task("task-0001")).state is TaskState.QUEUED
    assert await ledger.runs("task-0001") == []
    if between == "hold":
        await ledger.start_run(run_of(), START + 10)


async def test_a_stopped_run_is_nobodys_fault(ledger):
    """A clean stop or a process that never started puts the task back, without a failure."""
    run = await started(ledger)
    assert await ledger.end_run(run.id, STOPPED, None, START) is None
    await ledger.start_run(run_of(2, task=1, attempt=2), START)
    assert (await ledger.forget_run("run-2", START)).state is TaskState.QUEUED
    assert [run.state for run in await ledger.runs("task-0001")] == [RunState.STOPPED, RunState.LOST]
    assert ledger.board.chain("default").last_failure_kind is None


async def test_a_run_that_is_to_stop_says_so(ledger):
    """By a daemon that was stopping, or by a cancel; of itself alone, and not of the task's next attempt."""
    run, other = await started(ledger), await started(ledger, 2)
    assert not await ledger.stop_asked(run.id)
    await ledger.ask_stop(run.id)
    assert await ledger.stop_asked(run.id)
    assert not await ledger.stop_asked(other.id)
    await ledger.end_run(run.id, STOPPED, None, START)
    await ledger.start_run(run_of(3, task=1, attempt=2), START)
    assert not await ledger.stop_asked("run-3")
    await ledger.cancel(other.task, START)
    assert await ledger.stop_asked(other.id)
    assert not await ledger.stop_asked("run-9")


async def test_a_new_boot_stops_what_was_in_progress(ledger):
    """Every run of the host's last life is to stop, and none of this one, however often the daemon starts."""
    run = await started(ledger)
    assert not await ledger.booted("first"), "nothing was before"
    assert not await ledger.booted("first")
    assert not await ledger.stop_asked(run.id)
    assert await ledger.booted("second")
    assert await ledger.stop_asked(run.id)
    other = await started(ledger, 2)
    assert not await ledger.booted("second")
    assert not await ledger.stop_asked(other.id)


@pytest.mark.parametrize("ending", [(STOPPED, None), (FAILED, CRASH)])
async def test_a_cancelled_run_ends_its_task_cancelled(ledger, ending):
    """However the run ends that was asked to stop, the task is not tried again."""
    run = await started(ledger)
    assert (await ledger.cancel(run.task, START)).cancel_asked
    await ledger.end_run(run.id, *ending, START + 1)
    task = await ledger.task(run.task)
    assert (task.state, task.ended_ms) == (TaskState.CANCELLED, START + 1)


async def test_giving_up_ends_a_waiting_task(ledger):
    """The reason and its code are kept, and people hear of it."""
    await ledger.submit(task_of(), b"")
    task = await ledger.give_up("task-0001", "every tier is held", "no_tier", START)
    assert task == await ledger.task("task-0001")
    assert (task.state, task.reason_code) == (TaskState.FAILED, "no_tier")
    assert await kinds(ledger) == [NoticeKind.TASK_FAILED]


async def test_a_runs_sum_is_the_agents_own_total(ledger):
    """Reconciled at the end, up or down, and again whenever a later correction comes."""
    run = await started(ledger)
    await ledger.record(run.id, [Usage("m", Tokens(10, 10))], START)
    await ledger.end_run(run.id, replace(DONE, total=Tokens(4, 20, 6)), None, START + 1)
    assert await ledger.run_tokens(run.id) == Tokens(4, 20, 6)
    assert (await ledger.record(run.id, [Usage("m", Tokens(30, 10))], START + 2)).tokens == Tokens()
    assert await ledger.run_tokens(run.id) == Tokens(4, 20, 6)
    assert (await ledger.usage("total", START)).totals == Tokens(4, 20, 6)


async def test_a_key_counts_once_whoever_reads_it(ledger):
    """The same message seen by two runs of one agent is one message; another agent's is another."""
    one, two, three = await started(ledger, 1, A), await started(ledger, 2, B), await started(ledger, 3, C)
    usage = Usage("m", Tokens(5))
    added = [(await ledger.record(run.id, [usage, usage], START)).tokens.total for run in (one, two, three)]
    assert added == [5, 0, 5]


async def test_the_operator_bumps_and_releases(ledger):
    """The active tier when none is named, for a time or until released."""
    step = await ledger.bump("default", None, START + HOUR, "maintenance", START)
    assert step.events[0].active == "b"
    await ledger.bump("default", "b", None, "maintenance", START)
    await ledger.bump("default", None, None, "maintenance", START)
    assert held(ledger) == {"tier:a": START + HOUR, "tier:b": None, "tier:c": None}
    assert ledger.board.chain("default").exhausted
    with pytest.raises(NoTierError):
        await ledger.bump("default", None, None, "more", START)
    for wrong in (("nope", None), ("default", "nope")):
        with pytest.raises(NotFoundError, match="There are"):
            await ledger.bump(*wrong, None, "x", START)
    assert [event.kind for event in await ledger.release("default", "b", None, START)] == [EventKind.RELEASED]
    assert await ledger.release("default", "b", None, START) == ()
    assert await ledger.release("default", None, FailureKind.AUTH_ERROR, START) == ()
    assert len(await ledger.release("default", None, None, START)) == 2
    assert held(ledger) == {}


async def test_pausing_is_written_once(ledger):
    """A pause or resume that changes nothing leaves no trace."""
    assert len(await ledger.pause("default", START)) == 1
    assert await ledger.pause("default", START) == ()
    assert ledger.board.chain("default").paused
    assert len(await ledger.resume("default", START)) == 1
    assert await ledger.resume("default", START) == ()
    assert not ledger.board.chain("default").paused


async def test_a_tier_that_comes_back_while_something_else_holds_it_is_quiet(ledger):
    """People hear of a return only when the tier can really be used again."""
    run = await started(ledger)
    await ledger.bump("default", "a", START + 10, "x", START)
    await ledger.end_run(run.id, FAILED, Failure(FailureKind.AUTH_ERROR, "no"), START)
    assert len(await ledger.settle(START + 10)) == 1
    assert NoticeKind.TIER_RETURNED not in await kinds(ledger)
    assert await ledger.settle(START + 31 * 60_000)
    assert (await kinds(ledger)).count(NoticeKind.TIER_RETURNED) == 1


async def test_a_hold_of_a_chain_that_is_gone_still_returns(ledger):
    """Configuration may have left it behind: the hold ends all the same, and the log adds up."""
    await ledger.bump("default", "a", START + 10, "x", START)
    await ledger.replan(plan_of(chains={"new": (B,)}), START)
    assert [event.kind for event in await ledger.settle(START + 10)] == [EventKind.RETURNED]
    for call in (ledger.pause("default", START), ledger.release("default", None, None, START)):
        with pytest.raises(NotFoundError, match="There are: new"):
            await call


async def test_a_new_login_lifts_its_hold(ledger):
    """The guard of a tier changed by an edit releases what was held for its sake."""
    run = await started(ledger)
    await ledger.end_run(run.id, FAILED, Failure(FailureKind.AUTH_ERROR, "no"), START)
    assert await ledger.settle(START + 1) == ()
    await ledger.replan(plan_of(chains={"default": (replace(A, guard="new"), B, C)}), START + 1)
    assert [event.kind for event in await ledger.settle(START + 1)] == [EventKind.RELEASED]


async def test_everything_is_there_after_a_restart(ledger, tmp_path):
    """Board, queue, runs, log and notices: another ledger on the same file sees the same."""
    run = await started(ledger)
    await ledger.end_run(run.id, FAILED, Failure(FailureKind.USAGE_LIMIT, "5h", reset_ms=START + HOUR), START)
    await started(ledger, 2, C)
    await ledger.reject_config("service.json:3:1: no", START)
    again = await Ledger.open(tmp_path / "ledger.db", ledger.plan, START, InlineWorker())
    assert again.board == ledger.board
    assert again.plan is ledger.plan
    for read in (Ledger.queue, Ledger.open_runs, Ledger.events, Ledger.notices, Ledger.tasks):
        assert await read(again) == await read(ledger) != []
    await again.close()


async def test_the_log_is_read_in_pages(ledger):
    """Behind a row, so many at a time, of one chain only."""
    for number in range(6):
        await (ledger.resume if number % 2 else ledger.pause)("default", START + number)
    rows = await ledger.events(limit=2)
    assert [event.at_ms for _, event in rows] == [START, START + 1]
    assert [event.at_ms for _, event in await ledger.events(after=rows[-1][0], limit=2)] == [START + 2, START + 3]
    assert await ledger.events(chain="other") == []
    assert await ledger.last_event_before(START + 1) == rows[0][0]
    assert await ledger.last_event_before(START) == 0


async def test_usage_is_shown_over_the_meter_of_its_scope(ledger):
    """Scopes without a meter are shown over all time; anything else is not counted."""
    run = await started(ledger)
    await spend(ledger, run, 250_000)
    view = await ledger.usage("chain:default", START)
    assert (view.totals, view.window.end_ms is None) == (Tokens(250_000), False)
    (reading,) = await ledger.readings(START)
    assert (reading.used, reading.over) == (Tokens(250_000), False)
    for scope in ("tier:a", "account:acme", "total"):
        assert (await ledger.usage(scope, START)).totals == Tokens(250_000)
    with pytest.raises(NotFoundError):
        await ledger.usage("planet:earth", START)


async def test_old_prompts_go_and_usage_stays(ledger):
    """Retention deletes prompts of tasks that ended long ago, nothing else."""
    run = await started(ledger)
    await spend(ledger, run, 7)
    await ledger.end_run(run.id, DONE, None, START)
    await started(ledger, 2)
    assert await ledger.prune(START) == 0
    assert await ledger.prune(START + 1) == 1
    with pytest.raises(NotFoundError, match="deleted"):
        await ledger.prompt(run.task)
    assert await ledger.prompt("task-0002") == b"do it"
    assert (await ledger.usage("total", START)).totals == Tokens(7)


async def test_a_closed_ledger_refuses(tmp_path, worker):
    """Nothing is lost silently after the end."""
    ledger = await opened(tmp_path, worker=worker)
    await ledger.close()
    with pytest.raises(StateError, match="closed"):
        await ledger.submit(task_of(), b"")


async def test_unknown_usage_is_counted_as_unknown(ledger):
    """A run that told nothing is not taken for one that used nothing: each scope says how many there were."""
    first = await started(ledger, 1, A)
    await ledger.end_run(first.id, replace(DONE, usage_known=False), None, START)
    second = await started(ledger, 2, C)
    await ledger.end_run(second.id, DONE, None, START)
    known = {scope: (await ledger.usage(scope, START)).unknown_runs for scope in ("chain:default", "tier:a", "tier:c")}
    assert known == {"chain:default": 1, "tier:a": 1, "tier:c": 0}
    later = await ledger.usage("chain:default", START + 24 * HOUR)
    assert later.unknown_runs == 0, "it was in another window"
