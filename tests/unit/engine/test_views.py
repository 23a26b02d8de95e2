"""The JSON of status and usage, to the letter."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from locum.cli import plain
from locum.engine import views
from locum.errors import NotFoundError
from locum.policy.board import Board, fold
from locum.policy.budget import percent
from locum.policy.chain import bump
from locum.policy.failure import MINUTE, Failure, FailureKind
from locum.policy.plan import Brake, Budget, Chain, Meter, Plan, Tier
from locum.policy.task import Run, RunState, TaskState
from locum.policy.usage import Tokens, Weights
from locum.policy.window import Block, Calendar, Lifetime, Rolling, Window, window_at
from locum.store.views import UsageView

NOW = int(datetime(2026, 11, 22, 2, 50, tzinfo=UTC).timestamp() * 1000)
MAX, CODEX = Tier("claude-max", "claude-code", "anthropic", "opus"), Tier("codex", "codex", "openai")
CHAIN = Chain("default", (MAX, CODEX))
PLAN = Plan({"default": CHAIN})


def held(*failures, board=None):
    """The board after these failures of claude-max."""
    board = board or Board()
    for failure in failures:
        board = fold(board, bump(board, PLAN, CHAIN, MAX, failure, NOW, task="t1", retries=9).events)
    return board


def view(scope, rule=None, totals=None, limit=None, block_ms=None):
    """A usage view as the ledger gives it."""
    rule, totals = rule or Calendar("week", "Europe/Madrid"), totals or Tokens(900, 200, 30, 4)
    meter = Meter(rule, limit=limit)
    window = window_at(rule, NOW, block_ms)
    return UsageView(scope, meter, window, totals, limit, percent(meter.weights, totals, limit))


def test_status_has_the_agreed_shape():
    """Programs read these keys; the whole answer of one held tier is written out here."""
    limit = Failure(FailureKind.USAGE_LIMIT, "limit reached", reset_ms=NOW + 130 * MINUTE, window="five_hour")
    operator = Failure(FailureKind.OPERATOR, "upkeep")
    found = json.loads(json.dumps(views.status(held(limit, operator), PLAN, NOW, counts={})))
    first = {
        "kind": "usage_limit",
        "until": "2026-11-22T05:00:00Z",
        "reason": "limit reached",
        "since": "2026-11-22T02:50:00Z",
        "target": "account:anthropic",
        "budget": None,
    }
    last = {**first, "kind": "operator", "until": None, "reason": "upkeep", "target": "tier:claude-max"}
    codex = {"agent": "codex", "model": None, "account": "openai"}
    assert found == {
        "schema": 1,
        "chains": {
            "default": {
                "active_tier": "codex",
                "last_failure_kind": "operator",
                "last_failure_at": "2026-11-22T02:50:00Z",
                "last_failure_reason": "upkeep",
                "last_failure_tier": "claude-max",
                "paused": False,
                "exhausted": False,
                "running": 0,
                "queued": 0,
                "tiers": [
                    {
                        "name": "claude-max",
                        "state": "held",
                        "hold": last,
                        "holds": [first, last],
                        "agent": "claude-code",
                        "model": "opus",
                        "account": "anthropic",
                    },
                    {"name": "codex", "state": "active", "hold": None, "holds": [], **codex},
                ],
            }
        },
    }


def test_nothing_has_failed_is_null():
    """A chain without a failure has none, rather than an empty one."""
    chain = views.status(Board(), PLAN, NOW, counts={})["chains"]["default"]
    assert [chain[key] for key in ("last_failure_kind", "last_failure_at", "last_failure_reason")] == [None] * 3


def test_an_exhausted_chain_has_no_active_tier():
    """When all are held, no tier is called active, and the chain says so."""
    lone = Plan({"default": Chain("default", (MAX,))})
    chain = views.status(held(Failure(FailureKind.OPERATOR)), lone, NOW, counts={})["chains"]["default"]
    assert (chain["active_tier"], chain["exhausted"]) == (None, True)


def test_open_tasks_are_counted_by_chain_and_state():
    """Running and queued tasks are told apart, and those of other chains are not counted."""
    counts = {("default", TaskState.RUNNING): 1, ("default", TaskState.QUEUED): 2000, ("other", TaskState.RUNNING): 3}
    chain = views.status(Board(), PLAN, NOW, counts=counts)["chains"]["default"]
    assert (chain["running"], chain["queued"]) == (1, 2000)


def test_usage_has_the_agreed_shape():
    """The top mirrors the chain `default`; every chain and tier has the same keys."""
    found = views.usage(
        Board(),
        Plan({"default": CHAIN}, (Budget(Brake.HALT, "default", 9000, Calendar("week")),)),
        {
            "chain:default": view("chain:default", limit=5000),
            "tier:claude-max": view("tier:claude-max", totals=Tokens(1)),
            "tier:codex": view("tier:codex"),
            "unattributed": view("unattributed", totals=Tokens(3)),
        },
        NOW,
    )
    top = {
        "threshold_tokens": 5000,
        "halt_tokens": 9000,
        "totals": {"input": 900, "output": 200, "cache_read": 30, "cache_write": 4, "total": 1134},
        "window": {
            "kind": "week",
            "start": "2026-11-15T23:00:00Z",
            "end": "2026-11-22T23:00:00Z",
            "timezone": "Europe/Madrid",
        },
        "percent": 22.6,
    }
    assert {key: found[key] for key in top} == top
    assert {key: found["chains"]["default"][key] for key in top} == top
    assert found["tiers"]["claude-max"]["threshold_tokens"] is None
    assert found["tiers"]["claude-max"]["percent"] is None
    assert found["tiers"]["claude-max"]["halt_tokens"] is None
    assert found["unattributed"]["totals"]["total"] == 3
    assert "; every tier is held at 9,000" in plain.spent(found)


def test_without_a_default_chain_the_top_mirrors_the_first():
    """There is always something at the top."""
    plan = Plan({"b": Chain("b", (MAX,)), "a": Chain("a", (MAX,))})
    shown = {
        "chain:b": view("b", totals=Tokens(7)),
        "chain:a": view("a"),
        "tier:claude-max": view("t"),
        "unattributed": view("u"),
    }
    assert views.usage(Board(), plan, shown, NOW)["totals"]["total"] == 7


@pytest.mark.parametrize(
    ("rule", "block_ms", "start", "end"),
    [
        (Lifetime(), None, None, None),
        (Rolling(3_600_000), None, "2026-11-22T01:50:00.001Z", None),
        (Block(3_600_000), None, None, None),
        (Block(3_600_000), NOW - 600_000, "2026-11-22T02:40:00Z", "2026-11-22T03:40:00Z"),
        (Calendar("day"), None, "2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z"),
    ],
)
def test_windows_without_a_start_or_end_say_so(rule, block_ms, start, end):
    """All time did not begin in 1970, and a block that nobody opened has not begun."""
    window = views.measured(view("s", rule, block_ms=block_ms), Board(), NOW)["window"]
    assert (window["start"], window["end"]) == (start, end)


@pytest.mark.parametrize(("known", "tokens"), [(True, 5), (False, None)])
def test_unknown_usage_of_a_run_is_null(known, tokens):
    """A run whose usage nobody told is not a run that used nothing."""
    run = Run("r1", "t1", 1, "default", MAX, "/", RunState.SUCCEEDED, NOW, tokens=Tokens(5), usage_known=known)
    told = views.run(run)["tokens"]
    assert (told and told["total"]) == tokens


@pytest.mark.parametrize(
    ("runs", "total", "known"),
    [
        ([], 0, True),
        ([(0, True)], 0, True),
        ([(0, False)], None, False),
        ([(0, True), (0, False)], None, False),
        ([(5, True), (0, False)], 5, False),
        ([(5, True), (2, True)], 7, True),
    ],
)
def test_what_a_task_spent_is_never_0_because_nobody_said(runs, total, known):
    """Of attempts that told nothing the sum is unknown; of some that did, the least it can be, and that is said."""
    attempts = [
        Run("r", "t1", 1, "default", MAX, "/", RunState.SUCCEEDED, NOW, tokens=Tokens(used), usage_known=told)
        for used, told in runs
    ]
    spent = views.spent(attempts)
    assert (spent["tokens"] and spent["tokens"]["total"], spent["usage_known"]) == (total, known)


def test_an_unknown_chain_is_told_with_those_there_are():
    """A mistyped name is answered with the right ones."""
    with pytest.raises(NotFoundError, match=r"no chain defualt.*The chains are default\."):
        views.chain_named(PLAN, "defualt")


def test_windows_compare_as_given():
    """The view shows the window that the ledger counted over, not one it works out itself."""
    shown = views.measured(
        UsageView("s", Meter(Calendar("day")), Window(NOW, NOW + 5), Tokens(), None, None), Board(), NOW
    )
    assert shown["window"]["start"] == "2026-11-22T02:50:00Z"


def test_what_is_used_of_a_limit_is_weighed_as_the_limit_is():
    """Used tokens, limit and percent of one line mean the same tokens; the totals by type stay as they were told."""
    weights = Weights(input=1000, output=1000, cache_read=100, cache_write=0)
    totals = Tokens(900, 100, 5_000, 77)
    meter = Meter(Calendar("day"), weights, limit=3_000)
    shown = views.measured(
        UsageView("s", meter, Window(NOW, NOW + 5), totals, 3_000, percent(weights, totals, 3_000)), Board(), NOW
    )
    assert (shown["used_tokens"], shown["percent"]) == (1_500, 50.0)
    assert shown["totals"]["total"] == totals.total
    assert plain.spent(shown).startswith("1,500 of 3,000 tokens, weighed by count_tokens, (50 %) this day")
