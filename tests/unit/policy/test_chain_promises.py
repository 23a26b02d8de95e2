"""Each promise of the chain by name, told as a short story that tries to break it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locum.policy.board import Board, Event, EventKind, fold
from locum.policy.chain import (
    Next,
    TierState,
    bump,
    extended,
    free_at_ms,
    holds_on,
    lift,
    on_probation,
    pick,
    release,
    settle,
    state_of,
    succeeded,
)
from locum.policy.failure import ANSWERS, DAY, HOUR, MINUTE, SECOND, Failure, FailureKind
from locum.policy.plan import (
    Brake,
    Budget,
    Chain,
    Plan,
    Tier,
    account_target,
    tier_target,
)
from tests.unit.policy.reference import seen
from tests.unit.policy.worlds import ALL, FAILURES, NOW, SPARE, K, budget_of, states, world


def after_failures(board: Board, plan: Plan, *told: tuple[str, Tier, FailureKind, str]) -> tuple[Board, list[Event]]:
    """The board and the log after each (chain, tier, kind, task) failed, past its retries in place."""
    log: list[Event] = []
    for chain, tier, kind, task in told:
        step = bump(board, plan, plan.chains[chain], tier, Failure(kind), NOW, task=task, retries=2)
        board = fold(board, step.events)
        log.extend(step.events)
    return board, log


@pytest.mark.parametrize("kind", [kind for kind in FailureKind if ANSWERS[kind].soft])
def test_one_bad_task_cannot_hold_a_chain(kind: FailureKind) -> None:
    """A task that kills every tier it meets, several times over, holds none of them."""
    plan = world()
    board, log = after_failures(Board(), plan, *[("a", tier, kind, "bad") for tier in ALL * 3])
    assert not board.holds
    assert {event.kind for event in log} == {EventKind.FAILED}


def test_a_second_bad_task_holds_only_after_no_success_came_between() -> None:
    """Two tasks in a row that crash hold their tier, of whatever soft kinds; a success between acquits it."""
    plan = world()
    board, _ = after_failures(Board(), plan, ("a", ALL[2], K.CRASH, "one"), ("a", ALL[2], K.STALLED, "two"))
    assert list(board.holds) == [(tier_target("t3"), K.STALLED)]
    board, _ = after_failures(Board(), plan, ("a", ALL[2], K.CRASH, "one"))
    board = fold(board, [succeeded(plan.chains["a"], ALL[2], "good", NOW)])
    board, _ = after_failures(board, plan, ("a", ALL[2], K.CRASH, "two"))
    assert not board.holds


def test_suspicion_outlives_the_hold_it_led_to() -> None:
    """A tier that comes back and fails the next task softly is held at once, and for twice as long."""
    plan = world()
    board, _ = after_failures(Board(), plan, ("a", ALL[2], K.CRASH, "one"), ("a", ALL[2], K.CRASH, "two"))
    back = NOW + MINUTE
    board = fold(board, settle(board, plan, back))
    assert not board.holds
    step = bump(board, plan, plan.chains["a"], ALL[2], Failure(K.CRASH), back, task="three")
    assert fold(board, step.events).holds[(tier_target("t3"), K.CRASH)].until_ms == back + 2 * MINUTE


@pytest.mark.parametrize("kind", [K.AUTH_ERROR, K.USAGE_LIMIT, K.RATE_LIMIT, K.NETWORK, K.TOKEN_BUDGET, K.OPERATOR])
def test_a_burst_of_parallel_failures_is_one_hold_that_does_not_double(kind: FailureKind) -> None:
    """Fifty runs that fail together on one tier hold it as long as one would, and tell of exhaustion once."""
    plan = world(1)
    one, _ = after_failures(Board(), plan, ("a", ALL[0], kind, "0"))
    many, log = after_failures(Board(), plan, *[("a", ALL[0], kind, str(each)) for each in range(50)])
    assert seen(many) == seen(one)
    assert [event.kind for event in log if event.chain == "a"].count(EventKind.EXHAUSTED) == 1
    assert [event.kind for event in log if event.chain == "a"].count(EventKind.BUMPED) == 1


@pytest.mark.parametrize("kind", list(FailureKind))
def test_a_late_failure_never_costs_the_next_tier_anything(kind: FailureKind) -> None:
    """Runs left behind on t1 that fail after the chain has moved leave t3 active."""
    plan = world(3)
    board, _ = after_failures(Board(), plan, ("a", ALL[0], K.AUTH_ERROR, "x"))
    assert pick(board, plan.chains["a"], NOW) == ALL[2]
    board, log = after_failures(board, plan, *[("a", ALL[0], kind, str(each)) for each in range(9)])
    assert pick(board, plan.chains["a"], NOW) == ALL[2]
    assert all(event.active in (None, "t3") and event.tier == "t1" for event in log if event.chain == "a")
    assert EventKind.EXHAUSTED not in {event.kind for event in log}


def test_a_late_failure_of_a_removed_tier_does_not_call_the_chain_exhausted() -> None:
    """The run started under the old list; what can be picked is what the new list says."""
    old = Chain("a", (ALL[0],))
    plan = Plan({"a": Chain("a", (ALL[2],))})
    step = bump(Board(), plan, old, ALL[0], Failure(K.RATE_LIMIT), NOW, task="late")
    assert [(event.kind, event.active) for event in step.events] == [(EventKind.BUMPED, "t3")]


def test_an_accounts_hold_takes_every_chain_off_it_and_no_chain_off_another_tier() -> None:
    """Chain b leaves the shared account and says so; a chain already elsewhere hears nothing."""
    plan = world()
    board, log = after_failures(Board(), plan, ("a", ALL[1], K.USAGE_LIMIT, "x"))
    assert [(event.chain, event.tier, event.active) for event in log] == [("a", "t2", "t3"), ("b", "t1", "spare")]
    assert board.chain("b").last_failure_kind is K.USAGE_LIMIT
    _, log = after_failures(board, plan, ("a", ALL[1], K.AUTH_ERROR, "y"))
    assert [event.chain for event in log] == ["a"]


def test_one_models_limit_leaves_the_accounts_other_models_alone() -> None:
    """An opus limit moves the chain to sonnet of the same account."""
    plan = world()
    told = Failure(K.USAGE_LIMIT, model="claude-opus-4-5")
    step = bump(Board(), plan, plan.chains["a"], ALL[0], told, NOW, task="x")
    board = fold(Board(), step.events)
    assert pick(board, plan.chains["a"], NOW) == ALL[1]
    assert pick(board, plan.chains["b"], NOW) == SPARE


def test_exhaustion_is_told_again_only_after_a_tier_came_back() -> None:
    """Of two holds on the last tier the end of one tells nothing new; the end of both lets it be told again."""
    plan = world(1)
    told = [("a", ALL[0], K.AUTH_ERROR, "1"), ("a", ALL[0], K.RATE_LIMIT, "2")]
    board, log = after_failures(Board(), plan, *told)
    board = fold(board, settle(board, plan, NOW + MINUTE))
    assert board.chain("a").exhausted
    board, more = after_failures(board, plan, ("a", ALL[0], K.RATE_LIMIT, "3"))
    assert [event.chain for event in (*log, *more) if event.kind is EventKind.EXHAUSTED].count("a") == 1
    board = fold(board, settle(board, plan, NOW + HOUR))
    assert not board.chain("a").exhausted
    board, again = after_failures(board, plan, ("a", ALL[0], K.AUTH_ERROR, "4"))
    assert EventKind.EXHAUSTED in {event.kind for event in again if event.chain == "a"}


def test_a_chain_that_a_new_tier_freed_tells_its_next_exhaustion() -> None:
    """The edit that added a tier ends the exhaustion without an event; the next one is not silent."""
    board, _ = after_failures(Board(), world(1), ("a", ALL[0], K.AUTH_ERROR, "1"))
    plan = Plan({"a": Chain("a", (ALL[0], ALL[2]))})
    _, log = after_failures(board, plan, ("a", ALL[2], K.AUTH_ERROR, "2"))
    assert [event.kind for event in log] == [EventKind.BUMPED, EventKind.EXHAUSTED]


@pytest.mark.parametrize("other", [K.OPERATOR, K.CRASH, K.TOKEN_BUDGET, K.MODEL_UNAVAILABLE])
def test_only_a_success_ends_probation(other: FailureKind) -> None:
    """A hold of another kind that comes and goes meanwhile does not acquit a tier."""
    plan = world()
    chain, tier = plan.chains["a"], ALL[2]
    board, _ = after_failures(Board(), plan, ("a", tier, K.RATE_LIMIT, "x"))
    board = fold(board, release(board, plan, chain, NOW, tier=tier))
    board, _ = after_failures(board, plan, ("a", tier, other, "y"), ("a", tier, other, "z"))
    board = fold(board, release(board, plan, chain, NOW, tier=tier))
    assert not holds_on(board, chain, tier, NOW)
    assert on_probation(board, chain, tier, NOW)
    assert state_of(board, chain, tier, NOW) is TierState.PROBATION
    board = fold(board, [succeeded(chain, tier, "z", NOW)])
    assert not on_probation(board, chain, tier, NOW)


@given(st.lists(st.sampled_from(["fail", "release", "return", "succeed"]), max_size=12))
def test_only_a_success_ends_doubling(steps: list[str]) -> None:
    """Whatever ends a hold, the next is twice as long, up to the cap, until a task is done."""
    plan, board, now, strikes = world(), Board(), NOW, 0
    chain, key = plan.chains["a"], (account_target("chatgpt"), K.AUTH_ERROR)
    for step in steps:
        if step == "fail":
            before = board.holds.get(key)
            strikes += before is None
            board = fold(board, bump(board, plan, chain, ALL[2], Failure(K.AUTH_ERROR), now, task="x").events)
            strikes = max(1, strikes)
            doubled = now + min(6 * HOUR, 30 * MINUTE * 2 ** (strikes - 1))
            assert board.holds[key].until_ms == max(doubled, before.until_ms if before else 0)
        elif step == "release":
            board = fold(board, release(board, plan, chain, now, tier=ALL[2]))
        elif step == "return":
            now += 6 * HOUR
            board = fold(board, settle(board, plan, now))
        else:
            board, strikes = fold(board, [succeeded(chain, ALL[2], "x", now)]), 0


def test_a_new_login_releases_at_once_and_an_unrelated_edit_does_not() -> None:
    """A changed guard of the tier that failed ends credential holds, never operator or budget holds."""
    plan = world()
    board, _ = after_failures(
        Board(),
        plan,
        ("a", ALL[2], K.AUTH_ERROR, "x"),
        ("a", ALL[2], K.OPERATOR, "x"),
        ("a", ALL[3], K.AUTH_ERROR, "x"),
    )
    renewed = Plan({"a": Chain("a", (*ALL[:2], replace(ALL[2], guard="new"), ALL[3])), "b": plan.chains["b"]})
    events = settle(board, renewed, NOW)
    assert [(event.kind, event.hold.key if event.hold else None) for event in events] == [
        (EventKind.RELEASED, (account_target("chatgpt"), K.AUTH_ERROR))
    ]


def test_budgets_hold_what_their_brake_says() -> None:
    """Brake 1 holds one tier in its own chain, brake 2 one tier everywhere, brake 3 the whole chain and no other."""
    plan = world()
    picks = {}
    for brake in Brake:
        failure = Failure(K.TOKEN_BUDGET, reset_ms=NOW + HOUR)
        step = bump(Board(), plan, plan.chains["a"], ALL[0], failure, NOW, budget=budget_of(brake))
        board = fold(Board(), step.events)
        chosen = [pick(board, chain, NOW) for chain in plan.chains.values()]
        picks[brake] = [tier.name if tier else None for tier in chosen]
    assert picks == {Brake.CHAIN: ["t2", "t1"], Brake.TIER: ["t2", "cousin"], Brake.HALT: [None, "t1"]}


def test_a_budgets_hold_is_replaced_and_extended_without_a_failure() -> None:
    """A recomputed end is obeyed, sooner or later, and `last_failure_*` does not move."""
    plan = world()
    chain = plan.chains["a"]
    board, _ = after_failures(Board(), plan, ("a", ALL[0], K.TOKEN_BUDGET, "x"))
    before = board.chain("a")
    hold = replace(board.holds[(tier_target("t1"), K.TOKEN_BUDGET)], until_ms=NOW + MINUTE)
    board = fold(board, [extended(hold, chain, NOW + 1, "recounted")])
    assert free_at_ms(board, Chain("a", ALL[:1]), NOW) == NOW + MINUTE
    assert board.chain("a") == before
    assert not fold(board, lift(board, plan, [hold], NOW, "raised")).holds


@given(st.sampled_from(FAILURES), st.floats(0, 1, exclude_max=True))
def test_jitter_only_ever_delays(told: tuple[Failure, int, Budget | None], jitter: float) -> None:
    """Randomness changes neither the answer nor the hold's target, and never ends a wait or a hold sooner."""
    failure, retries, budget = told
    plan = world()
    plain, jittered = (
        bump(Board(), plan, plan.chains["a"], ALL[0], failure, NOW, retries=retries, jitter=j, budget=budget)
        for j in (0.0, jitter)
    )
    assert (jittered.next, len(jittered.events)) == (plain.next, len(plain.events))
    assert plain.wait_ms <= jittered.wait_ms <= max(90 * SECOND, 2 * plain.wait_ms)
    for one, two in zip(plain.events, jittered.events, strict=True):
        if one.hold and two.hold and one.hold.until_ms is not None and two.hold.until_ms is not None:
            assert one.hold.key == two.hold.key
            wait_ms = one.hold.until_ms - NOW
            assert 0 <= two.hold.until_ms - one.hold.until_ms <= min(30 * SECOND, wait_ms / 10)


def test_a_lost_session_costs_nothing() -> None:
    """It starts anew at once, in whatever state the board is, and nothing is written."""
    plan = world()
    for board in states(plan, ALL[0]):
        step = bump(board, plan, plan.chains["a"], ALL[0], Failure(K.UNKNOWN, lost_session=True), NOW, task="x")
        assert (step.events, step.next, step.wait_ms) == ((), Next.RETRY, 0)


def test_one_tier_is_active_and_the_others_are_ready_held_or_on_probation() -> None:
    """What `status` shows of each tier, from a fresh chain to one whose first tier is back on probation."""
    plan = world(3)
    chain = plan.chains["a"]

    def shown(board: Board) -> list[str]:
        return [state_of(board, chain, tier, NOW).value for tier in chain.tiers]

    assert shown(Board()) == ["active", "ready", "ready"]
    board, _ = after_failures(Board(), plan, ("a", ALL[0], K.AUTH_ERROR, "x"))
    assert shown(board) == ["held", "held", "active"]
    assert free_at_ms(board, chain, NOW) == NOW
    assert free_at_ms(board, chain, NOW, avoid=["t3"]) == NOW + 30 * MINUTE
    assert free_at_ms(board, chain, NOW, avoid=["t1", "t2", "t3"]) is None
    board = fold(board, release(board, plan, chain, NOW, tier=ALL[0]))
    assert shown(board) == ["probation", "probation", "ready"]
    busy = chain.targets(ALL[0])
    assert state_of(board, chain, ALL[2], NOW, busy) is TierState.ACTIVE


def test_a_failure_no_task_is_to_blame_for_holds_at_once() -> None:
    """Where no task can be suspected, a soft failure is the tier's own."""
    plan = world()
    step = bump(Board(), plan, plan.chains["a"], ALL[2], Failure(K.CRASH), NOW)
    assert [event.kind for event in step.events] == [EventKind.BUMPED]


def test_a_halts_end_unnoticed_does_not_hide_a_tier_on_probation() -> None:
    """A chain-wide hold that ran out while another tier is at work is no reason to pass over an idle one."""
    plan = world()
    chain = plan.chains["a"]
    halt = Failure(K.TOKEN_BUDGET, reset_ms=NOW)
    board = fold(Board(), bump(Board(), plan, chain, ALL[0], halt, NOW - HOUR, budget=budget_of(Brake.HALT)).events)
    board = replace(board, doubtful=frozenset({account_target("max")}))
    assert pick(board, chain, NOW, busy=chain.targets(ALL[2])) == ALL[0]


def test_of_several_holds_the_latest_to_end_is_the_last() -> None:
    """One without an end outlasts every other; while it is there, no moment frees the tier."""
    plan = world(1)
    chain = plan.chains["a"]
    told = [("a", ALL[0], kind, "x") for kind in (K.OPERATOR, K.AUTH_ERROR, K.RATE_LIMIT, K.MODEL_UNAVAILABLE)]
    for order in (told, told[::-1]):
        board, _ = after_failures(Board(), plan, *order)
        held = [hold.kind for hold in holds_on(board, chain, ALL[0], NOW)]
        assert held == [K.RATE_LIMIT, K.AUTH_ERROR, K.MODEL_UNAVAILABLE, K.OPERATOR]
        assert free_at_ms(board, chain, NOW) is None
        board = fold(board, release(board, plan, chain, NOW, kind=K.OPERATOR))
        assert free_at_ms(board, chain, NOW) == NOW + 6 * HOUR
        returned = settle(board, plan, NOW + 6 * HOUR)
        assert [event.hold.kind for event in returned if event.hold and event.chain == "a"] == held[:3]


def test_a_return_names_in_each_chain_a_tier_of_that_chain() -> None:
    """The hold began on t2, which chain b does not list: there it is b's own first tier of the account that is back."""
    plan = world()
    board, _ = after_failures(Board(), plan, ("a", ALL[1], K.AUTH_ERROR, "x"))
    returned = settle(board, plan, NOW + HOUR)
    assert [(event.chain, event.tier, event.active) for event in returned] == [("a", "t2", "t1"), ("b", "t1", "t1")]
    alone = Plan({"a": Chain("a", (SPARE,)), "c": Chain("c", (SPARE, ALL[0]))})
    assert [(event.chain, event.tier) for event in settle(board, alone, NOW + HOUR)] == [("c", "t1")]
    nobody = Plan({"a": Chain("a", (SPARE,))})
    (told,) = settle(board, nobody, NOW + HOUR)
    assert (told.chain, told.tier, told.active) == ("a", "t2", SPARE.name), "the chain goes on all the same"


def test_a_hold_from_the_future_keeps_its_length() -> None:
    """A clock that was a year ahead when a hold was placed does not hold the tier for that year."""
    tier = Tier("a", "codex", "acc")
    chain = Chain("default", (tier,))
    plan = Plan({"default": chain})
    wrong, right = NOW + 365 * DAY, NOW
    board = fold(Board(), bump(Board(), plan, chain, tier, Failure(FailureKind.AUTH_ERROR), wrong).events)
    board = fold(board, settle(board, plan, right))
    (hold,) = board.holds.values()
    assert (hold.since_ms, hold.until_ms) == (right, right + 30 * MINUTE)
    assert settle(board, plan, right) == ()
    assert [event.kind for event in settle(board, plan, right + 30 * MINUTE)] == [EventKind.RETURNED]
