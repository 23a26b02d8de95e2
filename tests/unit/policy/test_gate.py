"""Whether somebody else's session may go on, and whose tier it uses."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, product

import pytest

from locum.policy.board import Board, ChainState, Event, EventKind, Hold, fold
from locum.policy.chain import bump, holds_on, pick
from locum.policy.explain import stopped
from locum.policy.failure import HOUR, MINUTE, Failure, FailureKind
from locum.policy.gate import Place, gate, placed
from locum.policy.plan import (
    Brake,
    Chain,
    Plan,
    Target,
    account_target,
    chain_target,
    model_target,
    rung_target,
    tier_target,
)
from tests.unit.policy.worlds import ALL, NOW, K, budget_of, states, world

PLAN = world()
CHAIN = PLAN.chains["a"]
TIER = ALL[0]
PLACE = Place(CHAIN, TIER)
MINE = (
    rung_target("a", "t1"),
    tier_target("t1"),
    account_target("max"),
    model_target("max", "opus"),
)
OTHERS = (
    chain_target("b"),
    rung_target("b", "t1"),
    rung_target("a", "t2"),
    tier_target("t2"),
    account_target("chatgpt"),
    model_target("max", "sonnet"),
)


def board_of(*holds: Hold, paused: bool = False) -> Board:
    """A board with these holds, and chain a paused or not."""
    return Board(holds={hold.key: hold for hold in holds}, chains={"a": ChainState(paused=paused)})


def hold(target: Target, kind: FailureKind = K.AUTH_ERROR, until_ms: int | None = NOW + HOUR) -> Hold:
    """A hold that began a minute ago."""
    return Hold(target, kind, NOW - MINUTE, until_ms, "because", "a", "t1")


@pytest.mark.parametrize("kind", FailureKind)
@pytest.mark.parametrize("target", MINE)
@pytest.mark.parametrize("until_ms", [NOW + 1, None])
def test_any_hold_on_the_tier_stops_the_next_prompt_only(target: Target, kind: FailureKind, until_ms: int) -> None:
    """Whatever is held of a tier (rung, tier, account, model), by whichever kind: no prompt, but the turn goes on."""
    found = gate(board_of(hold(target, kind, until_ms)), PLACE, NOW)
    assert (found.go_on, found.halted) == (False, False)
    assert found.hold == hold(target, kind, until_ms)


@pytest.mark.parametrize("target", OTHERS)
def test_what_is_held_elsewhere_stops_nobody_here(target: Target) -> None:
    """A hold of another tier, account, model or chain is no reason to stop this session."""
    found = gate(board_of(hold(target)), PLACE, NOW)
    assert (found.go_on, found.halted, found.hold) == (True, False, None)


@pytest.mark.parametrize("until_ms", [NOW, NOW - 1, 0])
def test_a_hold_that_has_run_out_stops_nobody(until_ms: int) -> None:
    """The answer follows the clock, also before the return is written down."""
    assert gate(board_of(hold(TIER_HELD, until_ms=until_ms)), PLACE, NOW).go_on


TIER_HELD = tier_target("t1")


@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize("count", range(4))
def test_only_a_hold_of_the_whole_chain_halts(count: int, paused: bool) -> None:
    """Work in progress is cut short by a halt alone, however many holds there are beside it, paused or not."""
    for beside in combinations(MINE, count):
        holds = [hold(target, until_ms=None) for target in beside]
        assert not gate(board_of(*holds, paused=paused), PLACE, NOW).halted
        halted = gate(board_of(*holds, hold(chain_target("a"), K.TOKEN_BUDGET), paused=paused), PLACE, NOW)
        assert (halted.go_on, halted.halted, halted.active) == (False, True, None)
        assert halted.hold is not None
        assert halted.hold.target == chain_target("a"), "whoever is halted is told of the halt, not of a longer hold"


def test_a_paused_chain_takes_no_prompt_and_has_no_hold() -> None:
    """Paused: the next prompt is stopped, the next tool is not, and there is no hold to tell of."""
    found = gate(board_of(paused=True), PLACE, NOW)
    assert (found.go_on, found.halted, found.hold, found.active) == (False, False, None, "t1")
    assert gate(board_of(paused=True), Place(PLAN.chains["b"], TIER), NOW).go_on


def test_of_several_holds_the_last_to_end_is_told() -> None:
    """The time a session is told is the one at which it really can go on; a hold without end comes last of all."""
    holds = [hold(target, until_ms=NOW + (4 - place) * HOUR) for place, target in enumerate(MINE)]
    assert gate(board_of(*holds), PLACE, NOW).hold == holds[0]
    endless = hold(MINE[2], K.OPERATOR, None)
    assert gate(board_of(*holds, endless), PLACE, NOW).hold == endless


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_gate_is_shut_exactly_when_the_tier_would_not_be_picked(count: int) -> None:
    """From every state of every small world: a session stops where a task of ours would not start."""
    plan = world(count)
    chain = plan.chains["a"]
    for board, tier in product(states(plan, ALL[0]), chain.tiers):
        found = gate(board, Place(chain, tier), NOW)
        alone = pick(board, replace(chain, tiers=(tier,)), NOW)
        assert found.go_on == (alone is not None)
        active = pick(board, chain, NOW)
        assert found.active == (active.name if active else None)
        assert (found.hold is None) == found.go_on
        if found.hold:
            assert found.hold == holds_on(board, chain, tier, NOW)[-1]


@pytest.mark.parametrize("brake", Brake)
def test_each_brake_stops_what_it_says(brake: Brake) -> None:
    """A spent budget of chain or tier stops the tier that spent it; a halt stops all, in the middle of their work."""
    owner = "t1" if brake is Brake.TIER else "a"
    failure = Failure(K.TOKEN_BUDGET, "spent", reset_ms=NOW + HOUR)
    step = bump(Board(), PLAN, CHAIN, TIER, failure, NOW, budget=budget_of(brake, owner))
    board = fold(Board(), step.events)
    found = gate(board, PLACE, NOW)
    assert (found.go_on, found.halted) == (False, brake is Brake.HALT)
    assert gate(board, Place(CHAIN, ALL[1]), NOW).halted is (brake is Brake.HALT)
    assert gate(board, Place(PLAN.chains["b"], TIER), NOW).go_on is (brake is not Brake.TIER)


@pytest.mark.parametrize(
    ("board", "says"),
    [
        (
            board_of(hold(MINE[1], K.USAGE_LIMIT)),
            ("tier t1 is held until", "usage_limit: because", "`locum release a --tier t1`", "runs on t2 meanwhile"),
        ),
        (
            board_of(hold(MINE[1], K.OPERATOR, None)),
            ("tier t1 is held until released", "It ends when you type `locum release a --tier t1`"),
        ),
        (
            board_of(hold(chain_target("a"), K.TOKEN_BUDGET)),
            ("every tier of chain a is held until", "the budget is raised", "`locum release a`"),
        ),
        (board_of(paused=True), ("chain a is paused", "`locum resume a`")),
        (
            board_of(*(hold(tier_target(tier.name), K.CRASH) for tier in ALL)),
            ("tier t1 is held until", "crash: because"),
        ),
    ],
)
def test_the_reason_says_who_until_when_and_what_to_do(board: Board, says: tuple[str, ...]) -> None:
    """Each answer that stops is one a person can act on, and names the next tier only where there is one."""
    plan = Plan({"default": Chain("default", (ALL[3],)), **PLAN.chains})
    found = gate(board, PLACE, NOW)
    text = stopped(plan, PLACE, found, NOW)
    assert text.startswith("locum: ")
    for words in says:
        assert words in text, text
    assert ("meanwhile" in text) == (found.active is not None and found.hold is not None)


def test_a_released_hold_lets_go_on_at_once() -> None:
    """The answer is that of the board: release, and the next prompt runs."""
    step = bump(Board(), PLAN, CHAIN, TIER, Failure(K.AUTH_ERROR, "no"), NOW)
    board = fold(Board(), step.events)
    shut = gate(board, PLACE, NOW)
    assert shut.hold is not None
    assert gate(fold(board, [Event(EventKind.RELEASED, "a", NOW, "t1", hold=shut.hold)]), PLACE, NOW).go_on


# ── whose tier it is ─────────────────────────────────────────────────────────────────────────────────────

SHARED = Plan(
    {
        "first": Chain("first", (ALL[2], ALL[0])),
        "default": Chain("default", (ALL[0], ALL[1])),
        "other": Chain("other", (ALL[1], ALL[2], ALL[3])),
    }
)
LISTED = {name: {tier.name for tier in chain.tiers} for name, chain in SHARED.chains.items()}


def meant(chain: str | None, tier: str | None, fitting: tuple[str, ...]) -> tuple[str, str] | None:
    """What the names mean, said another way: by the rule as it is written down for people."""
    chains = [chain] if chain else ["default", "first", "other"]
    chains = [each for each in chains if each in LISTED]
    if tier is None:
        found = {each for each in fitting if any(each in LISTED[name] for name in chains)}
        if len(found) != 1:
            return None
        tier = found.pop()
    return next(((name, tier) for name in chains if tier in LISTED[name]), None)


@pytest.mark.parametrize("chain", [None, "first", "default", "other", "gone"])
@pytest.mark.parametrize("tier", [None, "t1", "t2", "t3", "t4", "gone"])
def test_every_combination_of_names_is_placed_by_the_rule(chain: str | None, tier: str | None) -> None:
    """A named tier, in a named chain, else in default, else in the first; unnamed, the only one that fits, or none."""
    names = ("t1", "t2", "t3", "t4", "gone")
    for size in range(len(names) + 1):
        for fitting in combinations(names, size):
            found = placed(SHARED, chain, tier, fitting)
            assert (found and (found.chain.name, found.tier.name)) == meant(chain, tier, fitting)


def test_a_plan_without_a_default_chain_takes_the_first() -> None:
    """Where no chain is called default, a tier that several list is meant in the first that lists it."""
    plan = Plan({name: chain for name, chain in SHARED.chains.items() if name != "default"})
    assert placed(plan, None, "t3") == Place(SHARED.chains["first"], ALL[2])
    assert placed(plan, None, None, ["t2"]) == Place(SHARED.chains["other"], ALL[1])
