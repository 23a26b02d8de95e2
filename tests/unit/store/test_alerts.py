"""Thresholds in the commits that reach them: each once, the lowest first, in the window where the usage belongs."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import anyio
import pytest

from locum.errors import StateError
from locum.policy.failure import Failure, FailureKind
from locum.policy.notice import NoticeKind
from locum.policy.plan import Brake, Threshold
from locum.policy.task import Ending, RunState
from locum.policy.transcript import Transcript
from locum.policy.usage import Tokens, Usage, Weights
from locum.policy.window import Block, Calendar, Lifetime, Rolling
from locum.store.bulk import Share
from locum.store.worker import ThreadWorker
from tests.ledgers import DAY, HOUR, START, TODAY, A, B, budget, held, opened, plan_of, run_of, spend, started

pytestmark = pytest.mark.anyio

MIDNIGHT = (START // DAY + 1) * DAY
THREE = (80, 90, 100)
COUNTED = {"chain:default": (Threshold(100, "chain:default", TODAY),)}


async def told(ledger):
    """What people were told of, as (budget, threshold), oldest first."""
    found = await ledger.notices(limit=10_000)
    crossed = [each.data for _, each in found if each.kind is NoticeKind.TOKEN_THRESHOLD_CROSSED]
    return [(each["budget"], each["threshold"]) for each in crossed]


async def percents(ledger):
    """The thresholds alone."""
    return [at for _, at in await told(ledger)]


async def test_nothing_to_above_is_told_once(tmp_path):
    """From nothing to 101 over a threshold of 100 tokens: one notice, with what a program needs to act on it."""
    ledger = await opened(tmp_path, plan_of(alerts=COUNTED))
    await spend(ledger, await started(ledger), 101)
    ((_, notice),) = await ledger.notices()
    data = notice.data
    assert (data["event"], data["threshold"], data["total_tokens"]) == ("token_threshold_crossed", 100, 101)
    assert (data["chain"], data["timestamp"], data["limit"]) == ("default", "2024-10-04T05:00:00Z", None)


async def test_below_is_not_told(tmp_path):
    """99 tokens of 100: nobody hears of anything."""
    ledger = await opened(tmp_path, plan_of(alerts=COUNTED))
    await spend(ledger, await started(ledger), 99)
    assert await told(ledger) == []


async def test_what_is_above_already_is_not_told_again(tmp_path):
    """150 tokens, and 50 more: the threshold lies behind."""
    ledger = await opened(tmp_path, plan_of(alerts=COUNTED))
    run = await started(ledger)
    await spend(ledger, run, 150)
    before = await ledger.notices()
    await spend(ledger, run, 50, START + 1)
    assert await ledger.notices() == before
    assert len(before) == 1


async def test_the_crossing_itself_is_told(tmp_path):
    """80 tokens, and 30 more: the second is the one that crosses, and its notice is there, with the sum it led to."""
    ledger = await opened(tmp_path, plan_of(alerts=COUNTED))
    run = await started(ledger)
    await spend(ledger, run, 80)
    assert await ledger.notices() == []
    await spend(ledger, run, 30, START + 1)
    ((_, notice),) = await ledger.notices()
    assert (notice.kind, notice.data["total_tokens"]) == (NoticeKind.TOKEN_THRESHOLD_CROSSED, 110)


async def test_a_jump_tells_of_each_and_the_lowest_first(tmp_path):
    """From 70 to 101 %: 80, 90 and 100, in this order, and then what is held because of it."""
    ledger = await opened(tmp_path, plan_of(budget(100), at=THREE))
    run = await started(ledger)
    await spend(ledger, run, 70)
    assert await told(ledger) == []
    await spend(ledger, run, 31, START + 1)
    kinds = [notice.kind for _, notice in await ledger.notices()]
    assert kinds == [NoticeKind.TOKEN_THRESHOLD_CROSSED] * 3 + [NoticeKind.TIER_BUMPED]
    assert await percents(ledger) == [80, 90, 100]


@pytest.mark.parametrize("used", [799, 995, 999])
async def test_nothing_is_rounded_up(tmp_path, used):
    """79.9 % is not 80, 99.5 % and 99.9 % are not 100."""
    ledger = await opened(tmp_path, plan_of(budget(1000), at=THREE))
    await spend(ledger, await started(ledger), used)
    assert await percents(ledger) == [at for at in THREE if used * 100 >= at * 1000]
    assert 100 not in await percents(ledger)


async def test_a_crowd_tells_of_each_once(tmp_path):
    """Forty writers at once on a real thread, each of whom could be the one: every threshold is told once, in order."""
    ledger = await opened(tmp_path, plan_of(budget(1000), at=(10, *THREE, 150)), worker=ThreadWorker())
    runs = [await started(ledger, number) for number in range(10)]
    async with anyio.create_task_group() as group:
        for number in range(40):
            group.start_soon(spend, ledger, runs[number % 10], 40, START + number)
    assert await percents(ledger) == [10, 80, 90, 100, 150]
    assert (await ledger.audit()).problems == ()
    await ledger.close()


async def test_two_in_flight_cannot_miss_it(tmp_path):
    """Both saw 80 of 100 and add 15: one of them crosses. Both saw 90 and add 20: only one does."""
    for name, seen, more in (("miss", 80, 15), ("twice", 90, 20)):
        (folder := tmp_path / name).mkdir()
        ledger = await opened(folder, plan_of(budget(100)), worker=ThreadWorker())
        one, two = await started(ledger, 1), await started(ledger, 2)
        await spend(ledger, one, seen)
        async with anyio.create_task_group() as group:
            group.start_soon(spend, ledger, one, more, START + 1)
            group.start_soon(spend, ledger, two, more, START + 1)
        assert await percents(ledger) == [100]
        await ledger.close()


async def test_a_raised_limit_is_told_anew(tmp_path):
    """80 % of 100 was told; 80 % of 200 is another threshold; the old one put back is none."""
    ledger = await opened(tmp_path, plan_of(budget(100), at=THREE))
    run = await started(ledger)
    await spend(ledger, run, 100)
    await ledger.replan(plan_of(budget(200), at=THREE), START + 1)
    assert await percents(ledger) == [80, 90, 100]
    await spend(ledger, run, 60, START + 2)
    await spend(ledger, run, 40, START + 3)
    assert await percents(ledger) == [80, 90, 100, 80, 90, 100]
    await ledger.replan(plan_of(budget(100), at=THREE), START + 4)
    assert len(await percents(ledger)) == 6


async def test_a_lowered_limit_tells_what_is_reached_now(tmp_path):
    """85 of 1000 is nothing; of 100 it is 80 %, told by the edit itself, and once."""
    ledger = await opened(tmp_path, plan_of(budget(1000), at=THREE))
    run = await started(ledger)
    await spend(ledger, run, 85)
    for later in (1, 2):
        await ledger.replan(plan_of(budget(100), at=THREE), START + later)
        assert await percents(ledger) == [80]
    await spend(ledger, run, 1, START + 3)
    assert await percents(ledger) == [80]


async def test_a_threshold_that_is_added_is_told_if_it_is_reached(tmp_path):
    """An edit of `at_percent` tells what has been reached by then and was not asked for before."""
    ledger = await opened(tmp_path, plan_of(budget(100), at=(80,)))
    await spend(ledger, await started(ledger), 85)
    await ledger.replan(plan_of(budget(100), at=(50, 80, 90)), START + 1)
    assert await percents(ledger) == [80, 50]


async def test_a_restart_tells_nothing_again(tmp_path):
    """What was told is on disk; what was reached while nobody looked is told by the start."""
    plan = plan_of(budget(100), at=THREE)
    ledger = await opened(tmp_path, plan)
    await spend(ledger, await started(ledger), 85)
    await ledger.close()
    ledger = await opened(tmp_path, plan, START + 1)
    assert await percents(ledger) == [80]
    await ledger.close()
    ledger = await opened(tmp_path, plan_of(budget(90), at=THREE), START + 2)
    assert await percents(ledger) == [80, 80, 90]


async def test_crossing_and_usage_are_one(tmp_path, monkeypatch):
    """Where the notice cannot be written nothing is counted either; told again, both are there, once."""
    ledger = await opened(tmp_path, plan_of(budget(100), at=THREE))
    run = await started(ledger)
    with monkeypatch.context() as patched:
        patched.setattr("locum.store.notices.add", lambda *_: (_ for _ in ()).throw(StateError("full")))
        with pytest.raises(StateError):
            await spend(ledger, run, 85, key="m1")
    assert (await ledger.run_tokens(run.id), await told(ledger)) == (Tokens(), [])
    await spend(ledger, run, 85, key="m1")
    assert await percents(ledger) == [80]


async def test_a_new_window_is_told_anew(tmp_path):
    """The next day has its own thresholds; over all time there is only one window, for ever."""
    for rule, expected in ((TODAY, [80, 80]), (Lifetime(), [80])):
        (folder := tmp_path / type(rule).__name__).mkdir()
        ledger = await opened(folder, plan_of(budget(100, rule), at=(80,)))
        run = await started(ledger)
        await spend(ledger, run, 85)
        await spend(ledger, run, 85, MIDNIGHT)
        assert await percents(ledger) == expected


async def test_late_usage_counts_where_it_belongs(tmp_path):
    """Dated yesterday it tells nothing, neither of yesterday nor of today; dated today it tells, also by an import."""
    ledger = await opened(tmp_path, plan_of(budget(100), at=THREE))
    run = await started(ledger)
    await spend(ledger, run, 79, START)
    await spend(ledger, run, 500, MIDNIGHT + 5, at=MIDNIGHT - 5)
    assert await told(ledger) == [], "the day that it would have filled is over"
    await spend(ledger, run, 85, MIDNIGHT + 9, at=MIDNIGHT + 6)
    assert await percents(ledger) == [80]
    found = Transcript("/t", "command", 0)
    payer = replace(run.payer, run=None, task=None, since_ms=0)
    old, new = (Usage(key, Tokens(500), at_ms=at) for key, at in (("old", START - DAY), ("new", MIDNIGHT + 7)))
    await ledger.record_history([Share(found, payer, [old])], MIDNIGHT + 20)
    await ledger.look_back([payer], MIDNIGHT + 20)
    assert await percents(ledger) == [80]
    await ledger.record_history([Share(found, payer, [new])], MIDNIGHT + 21)
    assert await percents(ledger) == [80], "history is looked at when it is all there"
    await ledger.look_back([payer], MIDNIGHT + 21)
    assert await percents(ledger) == [80, 90, 100]


async def test_an_import_that_moves_a_block_tells_nothing_twice(tmp_path):
    """The open block is found to have begun an hour earlier: what was told in it stays told."""
    ledger = await opened(tmp_path, plan_of(budget(100, Block(5 * HOUR)), at=(50, 80)))
    run = await started(ledger)
    await spend(ledger, run, 60, START)
    payer = replace(run.payer, run=None, task=None, since_ms=0)
    early = Usage("early", Tokens(30), at_ms=START - HOUR)
    await ledger.record_history([Share(Transcript("/t", "command", 0), payer, [early])], START + 1)
    await ledger.look_back([payer], START + 1)
    assert await percents(ledger) == [50, 80]
    assert (await ledger.audit()).problems == ()


async def test_a_rolling_window_tells_once_in_its_length(tmp_path):
    """Usage that hovers about a threshold is told of once in five hours, not each time that it comes back to it."""
    ledger = await opened(tmp_path, plan_of(budget(100, Rolling(5 * HOUR)), at=(80,)))
    run = await started(ledger)
    hours = []
    for half in range(30):  # the sum of five hours goes up and down about 80
        at = START + half * HOUR // 2
        before = len(await told(ledger))
        await spend(ledger, run, 9 if half % 4 < 2 else 7, at)
        hours += [half / 2] * (len(await told(ledger)) - before)
    assert hours
    assert all(later - earlier >= 5 for earlier, later in pairwise(hours))
    await spend(ledger, run, 100, START + 40 * HOUR)
    assert len(await told(ledger)) == len(hours) + 1, "below for hours, then above: that is told"


async def test_a_rolling_window_that_stays_full_is_told_once(tmp_path):
    """Above for days without a break: it was told, and there was nothing new since."""
    ledger = await opened(tmp_path, plan_of(budget(100, Rolling(5 * HOUR), acts=False), at=(80,)))
    run = await started(ledger)
    for hour in range(30):
        await spend(ledger, run, 50, START + hour * HOUR)
    assert await percents(ledger) == [80]
    assert (await ledger.audit()).problems == ()


async def test_chain_and_tier_and_halt_are_told_apart(tmp_path):
    """One usage, three budgets: each has its own thresholds, and only those that are reached are told."""
    budgets = (budget(100), budget(200, brake=Brake.HALT), budget(90, brake=Brake.TIER, owner="a"))
    ledger = await opened(tmp_path, plan_of(*budgets, at=(80,)))
    one, two = await started(ledger, 1, A), await started(ledger, 2, B)
    await spend(ledger, one, 75)
    assert await told(ledger) == [("tier:a", 80)]
    await spend(ledger, two, 75, START + 1)
    assert await told(ledger) == [("tier:a", 80), ("chain:default", 80)]
    await spend(ledger, two, 10, START + 2)
    assert await told(ledger) == [("tier:a", 80), ("chain:default", 80), ("halt:default", 80)]


async def test_weights_are_exact(tmp_path):
    """A token that weighs 0.333 reaches 80 % of 100 with the 241st, not with the 240th."""
    weights = Weights(0, 333, 0, 0)
    ledger = await opened(tmp_path, plan_of(budget(100, weights=weights), at=(80,)))
    run = await started(ledger)
    for number, expected in ((240, []), (1, [80])):
        await ledger.record(run.id, [Usage(f"m{number}", Tokens(5, number), at_ms=START)], START)
        assert await percents(ledger) == expected


async def test_another_window_is_looked_at_anew(tmp_path):
    """Edited from a day to a week: that is another window, and what is reached in it is told."""
    ledger = await opened(tmp_path, plan_of(budget(100), at=(80,)))
    await spend(ledger, await started(ledger), 85)
    await ledger.replan(plan_of(budget(100, Calendar("week")), at=(80,)), START + 1)
    await ledger.replan(plan_of(budget(100, Calendar("day", "Africa/Abidjan")), at=(80,)), START + 2)
    assert await percents(ledger) == [80, 80], "the same day under another name is the same window"


async def test_a_bump_and_a_return_say_what_it_cost(tmp_path):
    """The attempt's tokens, the tier's in its window, and when the chain has a tier again."""
    ledger = await opened(tmp_path, plan_of(chains={"default": (A,)}))
    await spend(ledger, await started(ledger), 1_000)
    await ledger.end_run("run-1", Ending(RunState.SUCCEEDED), None, START + 1)
    await spend(ledger, await started(ledger, 2), 234, START + 3)
    refused = Failure(FailureKind.AUTH_ERROR, "401")
    await ledger.end_run("run-2", Ending(RunState.FAILED, exit=1), refused, START + 4)
    until_ms = next(iter(held(ledger).values()))
    await ledger.settle(until_ms)
    notices = {notice.kind: notice for _, notice in await ledger.notices()}
    bumped, back = notices[NoticeKind.TIER_BUMPED], notices[NoticeKind.TIER_RETURNED]
    assert (bumped.data["attempt_tokens"], bumped.data["tier_tokens"]) == (234, 1_234)
    assert "This attempt used 234 tokens; a has used 1,234 tokens (all time)." in bumped.message
    assert (back.data["tier_tokens"], back.data["active_tier"]) == (1_234, "a")
    assert notices[NoticeKind.CHAIN_EXHAUSTED].data["back_ms"] == until_ms
    done = notices[NoticeKind.TASK_FINISHED]
    assert (done.data["task"], done.data["total_tokens"], done.data["attempts"]) == ("task-0001", 1_000, 1)


async def test_an_attempt_whose_usage_nobody_told_is_not_said_to_cost_nothing(tmp_path):
    """Unknown is not 0."""
    ledger = await opened(tmp_path)
    await started(ledger)
    failed = Failure(FailureKind.UNKNOWN, "The moon is full")
    await ledger.end_run("run-1", Ending(RunState.FAILED, exit=3, usage_known=False), failed, START + 1)
    second = run_of(2, task=1, attempt=2)
    await ledger.start_run(second, START + 2)
    refused = Failure(FailureKind.AUTH_ERROR, "401")
    await ledger.end_run("run-2", Ending(RunState.FAILED, exit=1, usage_known=False), refused, START + 3)
    notices = {notice.kind: notice for _, notice in await ledger.notices()}
    assert notices[NoticeKind.TIER_BUMPED].data["attempt_tokens"] is None
    assert "This attempt" not in notices[NoticeKind.TIER_BUMPED].message
    unknown = notices[NoticeKind.SIGNAL_UNKNOWN]
    assert (unknown.data["run"], unknown.data["exit"]) == ("run-1", 3)
    assert "The moon is full" in unknown.message
