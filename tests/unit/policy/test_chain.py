"""The chain against its reference model: every state, every failure, up to four tiers; and each promise by name."""

from __future__ import annotations

from copy import deepcopy
from itertools import product

import pytest

from locum.policy.board import Board, Event, EventKind, fold
from locum.policy.chain import (
    TierState,
    bump,
    free_at_ms,
    pick,
    release,
    settle,
    state_of,
    succeeded,
)
from locum.policy.failure import DEFAULT_TRIGGERS, HOUR
from locum.policy.plan import (
    Chain,
    Plan,
    Tier,
    chain_target,
)
from tests.unit.policy.reference import Model, seen
from tests.unit.policy.worlds import ALL, FAILURES, NOW, K, states, world


def modelled(plan: Plan, board: Board) -> Model:
    """The reference model in the state of `board`."""
    state = seen(board)
    holds = {
        key: dict(zip(("until", "tier", "guard", "since"), hold, strict=True)) for key, hold in state["holds"].items()
    }
    rest = {name: value for name, value in state.items() if name != "holds"}
    return Model(plan, holds, **deepcopy(rest))


def check_promises(plan: Plan, chain: Chain, tier: Tier, board: Board, events: tuple[Event, ...]) -> None:
    """A failure touches what failed and nothing else, and says so once in each chain that it moves."""
    own = [event for event in events if event.chain == chain.name and event.kind is not EventKind.EXHAUSTED]
    assert len(own) == 1
    assert own[0].tier == tier.name
    keys = {event.hold.key for event in events if event.hold}
    assert len(keys) <= 1
    after = fold(board, events)
    assert {key: hold for key, hold in after.holds.items() if key not in keys} == {
        key: hold for key, hold in board.holds.items() if key not in keys
    }
    for event in events:
        mine = plan.chains[event.chain]
        if event.hold:
            fell = mine.tier(event.tier or "")
            assert fell is not None
            assert event.hold.target in mine.targets(fell), "only a tier that the hold covers is left"
            active = pick(after, mine, NOW)
            assert event.active == (active.name if active else None)
        if event.chain != chain.name and event.kind is not EventKind.EXHAUSTED:
            was = pick(board, mine, NOW)
            assert was is not None
            assert event.tier == was.name
    assert fold(after, events) == after, "an event told twice changes nothing"


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_every_transition_agrees_with_the_reference_model(count: int, place: int) -> None:
    """From every state, every failure of every tier has the answer, the holds and the log that the model has."""
    if place >= count:
        return
    for triggers in (DEFAULT_TRIGGERS, frozenset({K.AUTH_ERROR})):
        plan = world(count, triggers)
        chain, tier = plan.chains["a"], ALL[place]
        start = tuple(states(plan, tier))
        for board, (failure, retries, budget) in product(
            start if triggers == DEFAULT_TRIGGERS else start[:4], FAILURES
        ):
            model = modelled(plan, board)
            step = bump(board, plan, chain, tier, failure, NOW, task="task", retries=retries, budget=budget)
            expected = model.bump(chain, tier, failure, NOW, "task", retries, budget)
            assert (step.next.value, step.wait_ms) == expected, (failure, board)
            after = fold(board, step.events)
            assert seen(after) == model.as_seen(), (failure, board)
            told = [event.chain for event in step.events if event.kind is EventKind.EXHAUSTED]
            assert sorted(told) == sorted(model.told), (failure, board)
            for each in plan.chains.values():
                picked = pick(after, each, NOW)
                assert (picked.name if picked else None) == model.pick(each, NOW)
            if step.events:
                check_promises(plan, chain, tier, board, step.events)
            else:
                assert failure.lost_session


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_returns_and_releases_agree_with_the_reference_model(count: int) -> None:
    """From every state, time, a release of one tier or of all, of one kind or of all, end what the model ends."""
    plan = world(count)
    chain = plan.chains["a"]
    for board in states(plan, ALL[0]):
        for now in (NOW, NOW + 1, NOW + HOUR, NOW + 24 * HOUR, NOW - HOUR):
            model = modelled(plan, board)
            model.settle(now)
            settled = fold(board, settle(board, plan, now))
            assert seen(settled) == model.as_seen()
            assert settle(settled, plan, now) == ()
        for tier, kind in product((None, *chain.tiers), (None, K.AUTH_ERROR, K.OPERATOR)):
            model = modelled(plan, board)
            model.release(chain, NOW, tier, kind)
            assert seen(fold(board, release(board, plan, chain, NOW, tier=tier, kind=kind))) == model.as_seen()
        for tier in chain.tiers:
            model = modelled(plan, board)
            model.succeeded(chain, tier)
            assert seen(fold(board, [succeeded(chain, tier, "task", NOW)])) == model.as_seen()


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_pick_passes_over_what_is_busy_on_probation_or_avoided(count: int) -> None:
    """No run starts beside another on anything that has not proved itself yet, and no avoided tier is tried."""
    plan = world(count)
    chain = plan.chains["a"]
    sets = [frozenset(), *(frozenset(chain.targets(tier)) for tier in chain.tiers), frozenset([chain_target("a")])]
    for board in states(plan, ALL[0]):
        model = modelled(plan, board)
        for busy, avoid in product(sets, (frozenset(), frozenset({"t1"}), frozenset({"t1", "t2", "t3", "t4"}))):
            picked = pick(board, chain, NOW, busy=busy, avoid=avoid)
            assert (picked.name if picked else None) == model.pick(chain, NOW, busy, avoid)
        ends = [max((end for end, *_ in ends), default=NOW) for ends in free_ends(board, chain)]
        known = [int(end) for end in ends if end != float("inf")]
        assert free_at_ms(board, chain, NOW) == (min(known) if known else None)
        assert [state_of(board, chain, tier, NOW) is TierState.HELD for tier in chain.tiers] == [
            bool(model.held(chain, tier, NOW)) for tier in chain.tiers
        ]


def free_ends(board: Board, chain: Chain) -> list[list[tuple[float]]]:
    """For each tier of `chain`, the ends of what holds it."""
    held = modelled(Plan({}), board).held
    return [
        [(float("inf") if hold["until"] is None else hold["until"],) for hold in held(chain, tier, NOW).values()]
        for tier in chain.tiers
    ]
