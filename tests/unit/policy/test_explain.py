"""What a chain is said to do, and why."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from locum.policy.board import Board, Event, EventKind, fold
from locum.policy.budget import Reading
from locum.policy.chain import bump, settle, succeeded
from locum.policy.explain import explain
from locum.policy.failure import DAY, HOUR, MINUTE, Failure, FailureKind
from locum.policy.plan import Brake, Budget, Chain, Plan, Tier
from locum.policy.usage import Tokens
from locum.policy.window import Calendar, Window

NOW = int(datetime(2026, 11, 22, 2, 50, tzinfo=UTC).timestamp() * 1000)
MAX = Tier("claude-max", "claude-code", "anthropic", "opus")
MINI = Tier("claude-mini", "claude-code", "anthropic", "haiku")
API = Tier("claude-api", "claude-code", "api")
CODEX = Tier("codex", "codex", "openai")
CHAIN = Chain("default", (MAX, API, CODEX))
SHARED = Chain("shared", (MAX, MINI))
PLAN = Plan({each.name: each for each in (CHAIN, SHARED)})
LIMIT = Failure(FailureKind.USAGE_LIMIT, "5-hour limit reached", reset_ms=NOW + 130 * MINUTE, window="five_hour")


def hit(board, tier, failure, *, chain=CHAIN, at_ms=NOW, task="t1", budget=None):
    """The board after that failure."""
    step = bump(board, PLAN, chain, tier, failure, at_ms, task=task, retries=9, budget=budget)
    return fold(board, step.events)


def told(board, chain=CHAIN, readings=(), now_ms=NOW, **more):
    """The sentences, in UTC."""
    return list(explain(board, PLAN, chain, readings, now_ms, zone=UTC, **more))


def test_a_new_chain_says_that_all_is_well():
    """A chain to which nothing has happened needs no explaining away."""
    assert told(Board()) == [
        "Chain default runs on claude-max (tier 1 of 3): it is the first choice and nothing holds it.",
        "Nothing has failed yet.",
        "Next: if claude-max fails, claude-api takes over.",
    ]


def test_a_single_tier_has_nowhere_to_go():
    """With one tier nothing is said of a choice or of a stand-in."""
    lone = Chain("lone", (CODEX,))
    assert list(explain(Board(), Plan({"lone": lone}), lone, (), NOW, zone=UTC)) == [
        "Chain lone runs on codex: it is the only tier.",
        "Nothing has failed yet.",
        "Next: if codex fails, tasks wait.",
    ]


def test_a_vendor_limit_is_told_with_its_end_and_what_follows():
    """Whoever reads it learns where the chain runs, until when, what else is held, how to end it, and what is next."""
    board = hit(Board(), MAX, LIMIT)
    assert told(board, now_ms=NOW + 10 * MINUTE) == [
        "Chain default runs on claude-api (tier 2 of 3): claude-max is held.",
        (
            "claude-max is held until 05:00 (in 2 h) by usage_limit: 5-hour limit reached. "
            "The same hold keeps claude-mini back. It ends sooner when you type `locum release --tier claude-max`."
        ),
        "The last failure was usage_limit on claude-max (02:50, 10 min ago): 5-hour limit reached.",
        "Next: claude-max comes back 05:00 (in 2 h) and is preferred again; if claude-api fails, codex takes over.",
    ]


def test_moments_are_told_in_the_zone_asked_for():
    """A person in Madrid reads Madrid's clock."""
    board = hit(Board(), MAX, LIMIT)
    sentences = explain(board, PLAN, CHAIN, (), NOW, zone=ZoneInfo("Europe/Madrid"))
    assert "until 06:00 (in 2 h 10 min)" in sentences[1]


def test_every_tier_held_says_who_comes_back_first():
    """Of several holds the one that ends first decides what is next, not the first in the list."""
    board = hit(Board(), MAX, LIMIT)
    board = hit(board, API, Failure(FailureKind.AUTH_ERROR, "401"))
    board = hit(board, CODEX, Failure(FailureKind.OPERATOR, "maintenance"))
    sentences = told(board)
    assert sentences[0] == "Chain default has no tier to run on: every tier is held."
    assert sentences[2] == (
        "claude-api is held until 03:20 (in 30 min) by auth_error: 401. "
        "It ends sooner when its login or configuration changes or you type `locum release --tier claude-api`."
    )
    assert sentences[3] == (
        "codex is held until released by the operator: maintenance. It ends when you type `locum release --tier codex`."
    )
    assert sentences[-1] == "Next: tasks wait; claude-api comes back 03:20 (in 30 min)."


def test_holds_that_only_a_release_ends_promise_nothing():
    """No moment is invented when none is known."""
    board = Board()
    for tier in CHAIN.tiers:
        board = hit(board, tier, Failure(FailureKind.OPERATOR))
    assert told(board)[-1] == "Next: nothing by itself; tasks wait until you release a tier."


def test_a_tier_that_came_back_is_on_probation_until_it_succeeds():
    """Back from a vendor's limit is not yet well, and a success ends the doubt."""
    board = hit(Board(), MAX, LIMIT)
    later = NOW + 3 * HOUR
    board = fold(board, settle(board, PLAN, later))
    assert told(board, now_ms=later)[1] == (
        "claude-max is back from a hold and on probation: one task at a time until one succeeds."
    )
    well = fold(board, (succeeded(CHAIN, MAX, "t2", later),))
    assert not any("probation" in sentence for sentence in told(well, now_ms=later))


def test_a_tier_on_probation_and_at_work_is_passed_over():
    """The reason names the state of what was passed over."""
    board = hit(Board(), MAX, LIMIT)
    later = NOW + 3 * HOUR
    board = fold(board, settle(board, PLAN, later))
    first = told(board, now_ms=later, busy=CHAIN.targets(MAX))[0]
    assert first == "Chain default runs on claude-api (tier 2 of 3): claude-max is on probation and at work."


def test_a_paused_chain_says_that_tasks_wait():
    """Paused is said first, and what is next is the operator's."""
    board = fold(Board(), (Event(EventKind.PAUSED, "default", NOW),))
    sentences = told(board)
    assert "New tasks wait: the chain is paused. `locum resume` lets them run." in sentences
    assert sentences[-1] == "Next: tasks wait until the chain is resumed; running attempts finish."


WEEK = "the week starting Monday 00:00 UTC; it starts again Mon 00:00 (in 21 h 10 min)."


@pytest.mark.parametrize(
    ("budget", "sentence"),
    [
        (
            Budget(Brake.CHAIN, "default", 1000, Calendar("week")),
            (
                f"The budget of chain default: 1,250 of 1,000 tokens used (125 %) in {WEEK} "
                "What it held was released: it holds nothing more in this window."
            ),
        ),
        (
            Budget(Brake.TIER, "codex", 3000, Calendar("week"), acts=False),
            f"The budget of tier codex: 1,250 of 3,000 tokens used (41.6 %) in {WEEK} Reaching it is told, but holds nothing.",
        ),
        (Budget(Brake.TIER, "claude-mini", 3000, Calendar("week")), None),
        (Budget(Brake.HALT, "shared", 3000, Calendar("week")), None),
    ],
)
def test_budgets_of_the_chain_and_its_tiers_are_told_and_no_others(budget, sentence):
    """A budget is told with used, limit and when it starts again; other chains' budgets are left out."""
    reading = Reading(budget, Window(NOW - 6 * DAY, NOW + 21 * HOUR + 10 * MINUTE), Tokens(1000, 250))
    found = [each for each in told(Board(), readings=[reading]) if "tokens used" in each]
    assert found == ([sentence] if sentence else [])


def test_a_spent_budget_says_that_raising_it_helps():
    """The hold of a budget ends with its window, with a higher limit, or by hand."""
    budget = Budget(Brake.CHAIN, "default", 1000, Calendar("week"))
    failure = Failure(FailureKind.TOKEN_BUDGET, "1,250 of 1,000 tokens used", reset_ms=NOW + 21 * HOUR)
    board = hit(Board(), MAX, failure, budget=budget)
    assert told(board)[1] == (
        "claude-max is held until 23:50 (in 21 h) by token_budget: 1,250 of 1,000 tokens used. It ends sooner when "
        "the budget is raised or you type `locum release --tier claude-max`."
    )


def test_a_halt_is_told_once_and_not_with_each_tier():
    """What holds the whole chain is one sentence, and its remedy frees all of it."""
    budget = Budget(Brake.HALT, "default", 1000, Calendar("week"))
    failure = Failure(FailureKind.TOKEN_BUDGET, "1,250 of 1,000 tokens used", reset_ms=NOW + 21 * HOUR)
    board = hit(Board(), MAX, failure, budget=budget)
    sentences = told(board)
    assert [each for each in sentences if "is held until" in each] == [
        (
            "Every tier is held until 23:50 (in 21 h) by token_budget: 1,250 of 1,000 tokens used. It ends sooner when "
            "the budget is raised or you type `locum release`."
        )
    ]
    assert not any("is held until" in each for each in told(board, now_ms=NOW + 22 * HOUR))


def test_what_to_type_names_the_chain_where_another_would_be_meant():
    """A command that is shown works as it is shown."""
    board = hit(Board(), MAX, Failure(FailureKind.OPERATOR), chain=SHARED)
    board = fold(board, (Event(EventKind.PAUSED, "shared", NOW),))
    sentences = " ".join(told(board, chain=SHARED))
    assert "`locum release shared --tier claude-max`" in sentences
    assert "`locum resume shared`" in sentences


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (FailureKind.OPERATOR, "The last switch was made by the operator, off claude-max (02:50, 0 s ago): why."),
        (FailureKind.TOKEN_BUDGET, "The last switch was made by token_budget, off claude-max (02:50, 0 s ago): why."),
        (FailureKind.UNKNOWN, "The last failure was unknown on claude-max (02:50, 0 s ago): why."),
    ],
)
def test_what_was_done_on_purpose_is_no_failure(kind, sentence):
    """A bump and a budget that is spent are not told as something that broke."""
    assert sentence in told(hit(Board(), MAX, Failure(kind, "why", reset_ms=NOW + HOUR)))
