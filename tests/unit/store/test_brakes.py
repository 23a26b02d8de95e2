"""The three brakes in the commits that set them off."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest

from locum.policy.board import EventKind
from locum.policy.failure import FailureKind
from locum.policy.plan import Brake, Tier
from locum.policy.task import Ending, RunState
from locum.policy.usage import Tokens, Usage
from locum.policy.window import Block, Calendar, Lifetime, Rolling
from locum.store.worker import ThreadWorker
from tests.ledgers import DAY, HOUR, START, A, B, C, budget, crossings, held, opened, plan_of, run_of, spend, started

pytestmark = pytest.mark.anyio

MIDNIGHT = (START // DAY + 1) * DAY


async def test_two_runs_in_flight_cannot_miss_the_crossing(tmp_path):
    """80 of 100, then +15 twice at once: one of them crosses, and only one."""
    ledger = await opened(tmp_path, plan_of(budget(100)), worker=ThreadWorker())
    one, two = await started(ledger, 1), await started(ledger, 2)
    await spend(ledger, one, 80)
    async with anyio.create_task_group() as group:
        group.start_soon(spend, ledger, one, 15, START + 1)
        group.start_soon(spend, ledger, two, 15, START + 1)
    assert await crossings(ledger) == 1
    assert held(ledger) == {"rung:default/a": MIDNIGHT}
    await ledger.close()


async def test_a_crowd_crosses_once(tmp_path):
    """Many producers at once, each over the limit by itself: one crossing, one hold."""
    ledger = await opened(tmp_path, plan_of(budget(100)), worker=ThreadWorker())
    runs = [await started(ledger, number) for number in range(20)]
    async with anyio.create_task_group() as group:
        for run in runs:
            group.start_soon(spend, ledger, run, 200)
    assert await crossings(ledger) == 1
    bumps = [event for _, event in await ledger.events() if event.kind is EventKind.BUMPED]
    assert len(bumps) == 1
    assert (await ledger.audit()).problems == ()
    await ledger.close()


async def test_exactly_the_limit_is_over_and_one_less_is_not(tmp_path):
    """`used >= limit` to the token."""
    ledger = await opened(tmp_path, plan_of(budget(100)))
    run = await started(ledger)
    assert (await spend(ledger, run, 99)).events == ()
    assert (await spend(ledger, run, 1)).events != ()


async def test_the_next_tier_is_not_held_by_the_same_budget(tmp_path):
    """Brake 1 steps down once a window: usage of the next tier, and of the held one, sets nothing off."""
    ledger = await opened(tmp_path, plan_of(budget(100)))
    one, two = await started(ledger, 1, A), await started(ledger, 2, B)
    await spend(ledger, one, 500)
    assert (await spend(ledger, two, 500)).events == ()
    assert (await spend(ledger, one, 500)).events == ()
    assert held(ledger) == {"rung:default/a": MIDNIGHT}


async def test_a_new_window_fires_anew(tmp_path):
    """The hold ends at midnight, and the next day has its own crossing."""
    ledger = await opened(tmp_path, plan_of(budget(100)))
    run = await started(ledger)
    await spend(ledger, run, 100)
    assert ledger.next_due_ms() == MIDNIGHT
    assert await ledger.settle(MIDNIGHT - 1) == ()
    assert [event.kind for event in await ledger.settle(MIDNIGHT)] == [EventKind.RETURNED]
    assert await ledger.settle(MIDNIGHT) == ()
    await spend(ledger, run, 99, MIDNIGHT)
    assert held(ledger) == {}
    await spend(ledger, run, 1, MIDNIGHT + 1)
    assert held(ledger) == {"rung:default/a": MIDNIGHT + DAY}
    assert await crossings(ledger) == 2


async def test_yesterdays_usage_told_today_holds_nothing(tmp_path):
    """An entry belongs to its own moment: told after midnight it does not count against the new day."""
    ledger = await opened(tmp_path, plan_of(budget(100)))
    run = await started(ledger)
    assert (await spend(ledger, run, 500, MIDNIGHT + 5, at=MIDNIGHT - 5)).events == ()


async def test_brake_two_holds_its_tier_everywhere(tmp_path):
    """A tier's own budget counts that tier in every chain and holds it in every chain."""
    chains = {"default": (A, B), "other": (B, C)}
    ledger = await opened(tmp_path, plan_of(budget(100, brake=Brake.TIER, owner="b"), chains=chains))
    one, two = await started(ledger, 1, B), await started(ledger, 2, B, chain="other")
    await spend(ledger, one, 50)
    result = await spend(ledger, two, 50)
    assert held(ledger) == {"tier:b": MIDNIGHT}
    assert {event.chain for event in result.events} >= {"other"}


async def test_brake_three_holds_the_chain(tmp_path):
    """A halt holds every tier of its chain, and the chain is exhausted; other chains go on."""
    chains = {"default": (A, B), "other": (A, C)}
    ledger = await opened(tmp_path, plan_of(budget(100, brake=Brake.HALT), chains=chains))
    result = await spend(ledger, await started(ledger), 100)
    assert [event.kind for event in result.events] == [EventKind.BUMPED, EventKind.EXHAUSTED]
    assert held(ledger) == {"chain:default": MIDNIGHT}


async def test_a_prepaid_halt_holds_until_it_is_raised(tmp_path):
    """A halt over all time has no end but a higher limit."""
    before = plan_of(budget(100, Lifetime(), Brake.HALT))
    ledger = await opened(tmp_path, before)
    await spend(ledger, await started(ledger), 100)
    assert held(ledger) == {"chain:default": None}
    assert ledger.next_due_ms() is None
    events = await ledger.replan(plan_of(budget(200, Lifetime(), Brake.HALT)), START + 1)
    assert [event.kind for event in events] == [EventKind.RELEASED]
    assert held(ledger) == {}


async def test_a_budget_that_does_not_act_only_tells(tmp_path):
    """Without token_budget among the triggers a crossing is a notice and holds nothing."""
    ledger = await opened(tmp_path, plan_of(budget(100, acts=False)))
    assert (await spend(ledger, await started(ledger), 900)).events == ()
    assert held(ledger) == {}
    assert await crossings(ledger) == 1


async def test_raising_lowering_and_raising_again(tmp_path):
    """Each edit is judged by the ledger: room again lifts, the old limit back holds again, each limit is told once."""
    ledger = await opened(tmp_path, plan_of(budget(100)))
    await spend(ledger, await started(ledger), 150)
    await ledger.replan(plan_of(budget(200)), START + 1)
    assert held(ledger) == {}
    await ledger.replan(plan_of(budget(100)), START + 2)
    assert held(ledger) == {"rung:default/a": MIDNIGHT}
    await ledger.replan(plan_of(budget(50)), START + 3)
    assert held(ledger) == {"rung:default/a": MIDNIGHT}, "lower still holds nothing more"
    await ledger.replan(plan_of(), START + 4)
    assert held(ledger) == {}
    assert await crossings(ledger) == 2, "100 and 50: the first is not told again when it is back"
    assert (await ledger.audit()).problems == ()


async def test_an_edit_that_changes_nothing_holds_nothing_anew(tmp_path):
    """What the operator released stays released through an unrelated edit and a restart."""
    plan = plan_of(budget(100))
    ledger = await opened(tmp_path, plan)
    await spend(ledger, await started(ledger), 150)
    await ledger.release("default", "a", FailureKind.TOKEN_BUDGET, START + 1)
    assert await ledger.replan(replace(plan, attempts=9), START + 2) == ()
    await ledger.close()
    ledger = await opened(tmp_path, plan, START + 3)
    assert held(ledger) == {}


async def test_a_lowered_limit_fires_on_what_would_be_picked(tmp_path):
    """Newly over by an edit: the active tier is held, not the one that spent it."""
    ledger = await opened(tmp_path, plan_of(budget(1000)))
    run = await started(ledger)
    await ledger.bump("default", "a", None, "by hand", START)
    await spend(ledger, run, 150)
    await ledger.replan(plan_of(budget(100)), START + 1)
    assert held(ledger) == {"tier:a": None, "rung:default/b": MIDNIGHT}


async def test_a_budget_over_while_all_is_held_acts_when_somebody_runs_again(tmp_path):
    """With no tier to hold the crossing is told; the next tier that spends anything is then held."""
    ledger = await opened(tmp_path, plan_of(budget(1000), chains={"default": (A,)}))
    run = await started(ledger)
    await spend(ledger, run, 150)
    await ledger.bump("default", "a", START + HOUR, "by hand", START)
    await ledger.replan(plan_of(budget(100), chains={"default": (A,)}), START + 1)
    assert "rung:default/a" not in held(ledger)
    await spend(ledger, run, 1, START + 2)
    assert held(ledger)["rung:default/a"] == MIDNIGHT
    assert await crossings(ledger) == 1


async def test_triggers_taken_out_and_put_back(tmp_path):
    """Without the trigger the hold goes, with it it comes back in the same window."""
    ledger = await opened(tmp_path, plan_of(budget(100)))
    await spend(ledger, await started(ledger), 150)
    await ledger.replan(plan_of(budget(100, acts=False)), START + 1)
    assert held(ledger) == {}
    await ledger.replan(plan_of(budget(100)), START + 2)
    assert held(ledger) == {"rung:default/a": MIDNIGHT}


async def test_a_longer_window_moves_the_end_of_the_hold(tmp_path):
    """A reset edited from day to week, still over: the same hold, until the week ends."""
    ledger = await opened(tmp_path, plan_of(budget(100)))
    await spend(ledger, await started(ledger), 150)
    events = await ledger.replan(plan_of(budget(100, Calendar("week"))), START + 1)
    assert [event.kind for event in events] == [EventKind.EXTENDED]
    (until_ms,) = held(ledger).values()
    assert until_ms is not None
    assert until_ms > MIDNIGHT


async def test_a_rolling_hold_ends_when_enough_has_aged_out(tmp_path):
    """The end is computed from the entries, moves with each commit, and the next crossing fires anew."""
    ledger = await opened(tmp_path, plan_of(budget(100, Rolling(5 * HOUR))))
    run = await started(ledger)
    await spend(ledger, run, 60, START)
    await spend(ledger, run, 60, START + HOUR)
    assert held(ledger) == {"rung:default/a": START + 5 * HOUR}
    result = await spend(ledger, run, 60, START + 2 * HOUR)
    assert [event.kind for event in result.events] == [EventKind.EXTENDED]
    assert held(ledger) == {"rung:default/a": START + 6 * HOUR}
    assert [event.kind for event in await ledger.settle(START + 6 * HOUR)] == [EventKind.RETURNED]
    assert held(ledger) == {}
    await spend(ledger, run, 60, START + 6 * HOUR + 1)
    assert held(ledger) == {"rung:default/a": START + 7 * HOUR}
    assert await crossings(ledger) == 2
    assert (await ledger.audit()).problems == ()


async def test_a_rolling_episode_can_end_by_a_correction(tmp_path):
    """A total below the limit ends episode and hold at once; crossing again holds again, and is told already."""
    ledger = await opened(tmp_path, plan_of(budget(100, Rolling(5 * HOUR))))
    one, two = await started(ledger, 1), await started(ledger, 2)
    await spend(ledger, one, 100)
    assert held(ledger)
    await ledger.end_run(one.id, Ending(RunState.SUCCEEDED, total=Tokens(90)), None, START + 1)
    assert held(ledger) == {}
    await spend(ledger, two, 10, START + 2)
    assert held(ledger)
    assert await crossings(ledger) == 1, "people have heard of it within this window"


async def test_an_episode_that_has_ended_does_not_hold_a_second_tier(tmp_path):
    """Usage that comes after a hold's end but ahead of the timer: the old tier returns, only the new one is held."""
    ledger = await opened(tmp_path, plan_of(budget(100, Rolling(5 * HOUR))))
    one, two = await started(ledger, 1, A), await started(ledger, 2, B)
    await spend(ledger, one, 100, START)
    events = (await spend(ledger, two, 100, START + 6 * HOUR)).events
    assert [event.kind for event in events] == [EventKind.RETURNED, EventKind.BUMPED]
    assert await ledger.settle(START + 6 * HOUR) == ()
    assert held(ledger) == {"rung:default/b": START + 11 * HOUR}
    assert await crossings(ledger) == 2


async def test_the_clock_comes_ahead_of_a_reconciled_total_too(tmp_path):
    """A run that ends after a hold's time, with tokens it had not told: the old hold returns, only its tier is held."""
    ledger = await opened(tmp_path, plan_of(budget(100, Rolling(5 * HOUR))))
    one, two = await started(ledger, 1, A), await started(ledger, 2, B)
    await spend(ledger, one, 100, START)
    await ledger.end_run(two.id, Ending(RunState.SUCCEEDED, total=Tokens(100)), None, START + 6 * HOUR)
    assert await ledger.settle(START + 6 * HOUR) == ()
    assert held(ledger) == {"rung:default/b": START + 11 * HOUR}


async def test_an_episode_without_a_hold_ends_by_itself(tmp_path):
    """A rolling budget that only tells is told again once it has been below in between, and not before."""
    ledger = await opened(tmp_path, plan_of(budget(100, Rolling(5 * HOUR), acts=False)))
    run = await started(ledger)
    for hour, told in ((0, 1), (1, 1), (4, 1), (12, 2)):
        await spend(ledger, run, 100, START + hour * HOUR)
        assert await crossings(ledger) == told


async def test_a_rolling_budget_edited_after_its_hold_was_due(tmp_path):
    """A hold whose time has passed unseen is returned under the new limit too."""
    ledger = await opened(tmp_path, plan_of(budget(100, Rolling(5 * HOUR))))
    await spend(ledger, await started(ledger), 100)
    await ledger.replan(plan_of(budget(90, Rolling(5 * HOUR))), START + 6 * HOUR)
    assert [event.kind for event in await ledger.settle(START + 6 * HOUR)] == [EventKind.RETURNED]
    assert (await ledger.audit()).problems == ()


async def test_a_due_rolling_hold_is_read_again_first(tmp_path):
    """Usage that the hold's end does not know of yet keeps it: nothing returns that is still over."""
    ledger = await opened(tmp_path, plan_of(budget(100, Rolling(5 * HOUR))))
    run = await started(ledger)
    await spend(ledger, run, 100, START)
    await spend(ledger, run, 100, START - HOUR + 1)  # the clock was set back
    due_ms = ledger.next_due_ms()
    await ledger._database.write(lambda tx: move_all_entries(tx, START + HOUR))
    events = await ledger.settle(due_ms)
    assert [event.kind for event in events] == [EventKind.EXTENDED]
    assert held(ledger) == {"rung:default/a": START + 6 * HOUR}


def move_all_entries(tx, at_ms):
    """Make the ledger look as if everything had been spent at another moment."""
    tx.connection.execute("DROP TRIGGER entry_stays")
    tx.connection.execute("UPDATE entry SET at_ms = ?", (at_ms,))
    tx.connection.execute("UPDATE bucket SET hour_ms = ?", (at_ms // HOUR * HOUR,))


async def test_a_block_starts_with_the_first_use_and_stays_there(tmp_path):
    """The stored start is not moved by a late entry, and the next block begins with the next use."""
    ledger = await opened(tmp_path, plan_of(budget(100, Block(5 * HOUR))))
    run = await started(ledger, at=START - 3 * HOUR)
    await spend(ledger, run, 60, START)
    await spend(ledger, run, 30, START + 1, at=START - HOUR)
    assert held(ledger) == {}, "what came before the block does not count in it"
    await spend(ledger, run, 40, START + 2)
    assert held(ledger) == {"rung:default/a": START + 5 * HOUR}
    view = await ledger.usage("chain:default", START + 6 * HOUR)
    assert view.totals.total == 0
    await spend(ledger, run, 100, START + 6 * HOUR)
    assert held(ledger)["rung:default/a"] == START + 11 * HOUR


async def test_a_block_rule_that_is_new_knows_what_was_spent_before(tmp_path):
    """Blocks are traced through the entries there are when a plan first asks for them."""
    ledger = await opened(tmp_path)
    run = await started(ledger)
    await spend(ledger, run, 10, START)
    await spend(ledger, run, 100, START + 7 * HOUR)
    await ledger.replan(plan_of(budget(100, Block(5 * HOUR))), START + 8 * HOUR)
    assert held(ledger) == {"rung:default/a": START + 12 * HOUR}


async def test_usage_of_a_chain_that_has_left_the_plan_is_kept(tmp_path):
    """What was spent is recorded even when neither chain nor tier is configured any more; a tier still there brakes."""
    ledger = await opened(tmp_path)
    one, two = await started(ledger, 1, A), await started(ledger, 2, B)
    gone = plan_of(budget(100, brake=Brake.TIER, owner="b"), chains={"other": (B, C)})
    await ledger.replan(gone, START)
    assert (await spend(ledger, one, 900)).tokens == Tokens(900)
    await spend(ledger, two, 900)
    assert held(ledger) == {"tier:b": MIDNIGHT}
    assert (await ledger.audit()).problems == ()


async def test_a_tier_budget_for_a_tier_in_no_chain_holds_nothing(tmp_path):
    """A budget whose owner is nowhere to be found is told and otherwise harmless."""
    ledger = await opened(tmp_path, plan_of())
    await spend(ledger, await started(ledger, 1, A), 900)
    lost = plan_of(budget(100, brake=Brake.TIER, owner="a"), chains={"other": (C,)})
    await ledger.replan(lost, START)
    assert held(ledger) == {}
    assert await crossings(ledger) == 1


async def test_impossible_counts_are_not_believed(tmp_path):
    """A count below zero or beyond reason is not counted, and the run's usage is not known from then on."""
    ledger = await opened(tmp_path, plan_of(budget(100)))
    run = await started(ledger)
    usages = [Usage("x", Tokens(10**30)), Usage("y", Tokens(-5)), Usage("z", Tokens(7))]
    assert (await ledger.record(run.id, usages, START)).tokens == Tokens(7)
    assert not (await ledger.run(run.id)).usage_known
    await ledger.end_run(run.id, Ending(RunState.SUCCEEDED), None, START)
    assert not (await ledger.run(run.id)).usage_known


async def test_a_tier_of_the_same_name_with_another_account_counts_where_it_ran(tmp_path):
    """Entries keep the account the run had, whatever the plan says now."""
    ledger = await opened(tmp_path)
    run = run_of(1, Tier("a", "command", "elsewhere"))
    await started(ledger, 2)
    await ledger.end_run("run-2", Ending(RunState.STOPPED), None, START)
    await ledger.start_run(replace(run, task="task-0002", number=2), START)
    await spend(ledger, run, 5)
    assert (await ledger.usage("account:elsewhere", START)).totals == Tokens(5)
    assert (await ledger.usage("account:acme", START)).totals == Tokens(0)
