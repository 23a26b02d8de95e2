"""What the end of somebody else's work means for its chain: what bump says, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from locum.policy.board import Board, EventKind, fold
from locum.policy.chain import Next, bump, on_probation
from locum.policy.failure import ANSWERS, HOUR, Breadth, Failure, FailureKind
from locum.policy.gate import Place
from locum.policy.plan import account_target, model_target, tier_target
from locum.policy.report import Report, outcome, payer_of
from locum.policy.usage import Payer
from tests.unit.policy.worlds import ALL, FAILURES, NOW, K, states, world

PLAN = world()
CHAIN = PLAN.chains["a"]
PLACE = Place(CHAIN, ALL[0])
REPORT = Report("claude-code", "s1:turn", PLACE, session="s1")
HAPPENS = [kind for kind in FailureKind if kind not in (K.TOKEN_BUDGET, K.OPERATOR)]


def end(board: Board, report: Report = REPORT, kind: FailureKind | None = None, **more: object) -> Board:
    """The board after this report, with a failure of that kind if one is given."""
    failure = Failure(kind, "told", **more) if kind else None  # type: ignore[arg-type]
    return fold(board, outcome(board, PLAN, replace(report, failure=failure), NOW, 0.0))


@pytest.mark.parametrize("failure", [failure for failure, _, budget in FAILURES if budget is None])
def test_a_failure_is_answered_by_the_one_bump(failure: Failure) -> None:
    """From every state, for every failure: the very events that bump makes of a task whose retries are used up."""
    for board in states(PLAN, ALL[0]):
        found = outcome(board, PLAN, replace(REPORT, failure=failure), NOW, 0.5)
        retries = 1 << 16
        step = bump(board, PLAN, CHAIN, ALL[0], failure, NOW, task="claude-code:s1", retries=retries, jitter=0.5)
        assert found == step.events
        assert step.next is not Next.RETRY or failure.lost_session, "nobody is there to try again in place"


@pytest.mark.parametrize("kind", [kind for kind in HAPPENS if not ANSWERS[kind].soft])
def test_a_hard_failure_holds_what_failed_at_once(kind: FailureKind) -> None:
    """One report is enough; whatever holds nothing still shows as the last failure."""
    board = end(Board(), kind=kind)
    holds = set(board.holds)
    match ANSWERS[kind].breadth:
        case Breadth.NOTHING:
            assert holds == set()
        case Breadth.TIER:
            assert holds == {(tier_target("t1"), kind)}
        case _:
            assert holds == {(account_target("max"), kind)}
    state = board.chain("a")
    assert (state.last_failure_kind, state.last_failure_tier, state.last_failure_reason) == (kind, "t1", "told")


def test_a_limit_of_one_model_holds_that_model() -> None:
    """Where the vendor named the model, the account's other models stay free."""
    board = end(Board(), kind=K.USAGE_LIMIT, model="opus", reset_ms=NOW + HOUR)
    assert set(board.holds) == {(model_target("max", "opus"), K.USAGE_LIMIT)}


@pytest.mark.parametrize("kind", [kind for kind in HAPPENS if ANSWERS[kind].soft])
def test_a_soft_failure_needs_two_sessions(kind: FailureKind) -> None:
    """One session may fail so as often as it likes; a second one in a row is what holds the tier."""
    board = Board()
    for turn in range(5):
        board = end(board, replace(REPORT, id=f"s1:{turn}"), kind)
    assert board.holds == {}
    assert board.chain("a").last_failure_kind is kind
    board = end(board, replace(REPORT, id="s2:0", session="s2"), kind)
    assert set(board.holds) == {(tier_target("t1"), kind)}


def test_success_between_two_soft_failures_acquits_the_tier() -> None:
    """Two sessions fail, but not in a row: nothing is held."""
    board = end(end(Board(), kind=K.CRASH), replace(REPORT, id="s3:0", session="s3"))
    assert end(board, replace(REPORT, id="s2:0", session="s2"), K.CRASH).holds == {}


def test_success_vouches_for_tier_account_and_model() -> None:
    """A turn that went well ends probation and doubling for all that took part in it, and moves nothing."""
    targets = CHAIN.targets(ALL[0])
    strikes = {(account_target("max"), K.AUTH_ERROR): 4}
    doubted = Board(doubtful=frozenset(targets), strikes=strikes, soft={"t1": "x"})
    assert on_probation(doubted, CHAIN, ALL[0], NOW)
    (event,) = outcome(doubted, PLAN, REPORT, NOW, 0.0)
    assert (event.kind, event.task) == (EventKind.SUCCEEDED, "claude-code:s1")
    after = fold(doubted, [event])
    assert (after.doubtful, after.strikes, after.soft, after.holds) == (frozenset(), {}, {}, {})


def test_success_lifts_no_hold() -> None:
    """A session that was let through before the hold does not open the gate for the next."""
    board = end(Board(), kind=K.USAGE_LIMIT)
    assert end(board).holds == board.holds


@pytest.mark.parametrize("kind", [None, *FailureKind])
def test_nobodys_session_moves_nothing(kind: FailureKind | None) -> None:
    """Without a tier there is no chain to move, however the work ended."""
    board = Board(soft={"t1": "x"})
    assert end(board, replace(REPORT, place=None), kind) == board


def test_a_report_without_session_is_a_piece_of_work_of_its_own() -> None:
    """Two runners' tasks that fail softly are two witnesses; turns of one session are one."""
    assert replace(REPORT, session=None).task == "claude-code:s1:turn"
    assert replace(REPORT, id="s1:other").task == REPORT.task


def test_whose_usage_it_is() -> None:
    """The tier's account and model pay; a model that was told wins; nobody's has none of chain, tier and account."""
    assert payer_of("codex", PLACE, "s") == Payer("codex", "a", "t1", "max", "opus", "s")
    assert payer_of("codex", PLACE, "s", "sonnet").model == "sonnet"
    assert replace(REPORT, place=None, model="m").payer == Payer("claude-code", model="m", session="s1")
