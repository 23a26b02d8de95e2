"""Promises of budgets and limits under the real daemon: each fires once, holds what it says, and lets go when raised."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import World, path_of, seconds_until, world

DAY = 86_400


@pytest.fixture(scope="module")
def earth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One daemon for all tests of this file; a task gets three attempts and 5,000 tokens."""
    limits = {"parallel": 4, "attempts": 3, "task_tokens": 5000}
    with world(tmp_path_factory.mktemp("budgets"), {"limits": limits}) as made:
        yield made


def spends(tokens: int, **more: Any) -> dict[str, Any]:
    """A step that spends so many tokens."""
    return {"usage": {"input": tokens}, "entries": 1, **more}


def crossings(earth: World, chain: str) -> int:
    """How often people were told that a limit was used up; what leads there was told too, each once and in order."""
    told = [each["data"]["threshold"] for each in earth.notices("token_threshold_crossed", chain)]
    assert told == [80, 90, 100] * told.count(100)
    return told.count(100)


def test_a_chain_budget_moves_on_once_and_the_task_stays_done(earth: World) -> None:
    """The tier that crosses a chain's budget is held until the window ends; its task is done, and nothing fires again."""
    earth.chain("once", {"a": [spends(600)], "b": [spends(600)]}, usage_threshold_tokens=1000, usage_reset="day")
    assert path_of(earth.do("once")) == [("a", None)]
    assert earth.tier("once", "a")["hold"] is None
    task = earth.do("once")
    assert (task["state"], path_of(task)) == ("done", [("a", None)])
    status = earth.status("once")
    assert (status["active_tier"], status["last_failure_kind"]) == ("once-b", "token_budget")
    hold = earth.tier("once", "a")["hold"]
    assert hold["kind"] == "token_budget"
    assert 0 < seconds_until(hold["until"]) <= DAY
    usage = earth.client.get("/usage")["chains"]["once"]
    assert hold["until"] == usage["window"]["end"]
    assert (usage["totals"]["total"], usage["threshold_tokens"], usage["percent"]) == (1200, 1000, 120.0)
    for _ in range(2):
        assert path_of(earth.do("once")) == [("b", None)]
    assert earth.tier("once", "b")["hold"] is None, "a budget that has fired does not fire again in its window"
    assert crossings(earth, "once") == 1


def test_a_tier_budget_counts_and_holds_that_tier_alone(earth: World) -> None:
    """A tier's own budget counts its own usage and holds it in every chain that lists it."""
    entry = earth.chain("own", {"a": [spends(600)], "b": [spends(600)]}, usage_reset="day")
    entry["tiers"][0]["usage_threshold_tokens"] = 500
    earth.service["chains"]["guest"] = {"tiers": ["own-a", "base"]}
    earth.apply()
    assert path_of(earth.do("own")) == [("a", None)]
    assert earth.tier("own", "a")["hold"]["kind"] == "token_budget"
    assert earth.status("guest")["active_tier"] == "base"
    assert path_of(earth.do("own")) == [("b", None)]
    assert earth.tier("own", "b")["hold"] is None
    assert crossings(earth, "own") == 1


def test_a_halt_holds_every_tier_until_it_is_raised(earth: World) -> None:
    """A prepaid halt exhausts the chain with no end in sight; raising it in the file lets the waiting task go on."""
    entry = earth.chain("halt", {"a": [spends(600)], "b": [{}]}, usage_halt_tokens=500, usage_reset="all")
    assert path_of(earth.do("halt")) == [("a", None)]
    status = earth.status("halt")
    assert (status["active_tier"], status["exhausted"]) == (None, True)
    assert {tier["hold"]["until"] for tier in status["tiers"]} == {None}
    waiting = earth.begin("halt")
    assert earth.task(waiting)["state"] == "queued"
    entry["usage_halt_tokens"] = 100_000
    earth.apply()
    assert earth.ended(waiting)["state"] == "done"
    assert earth.status("halt")["exhausted"] is False


def test_a_budget_that_is_lowered_fires_and_raised_lets_go(earth: World) -> None:
    """Each edit of a budget is weighed against the ledger at once: lowering holds the active tier, raising frees it."""
    entry = earth.chain("edited", {"a": [spends(600)], "b": [{}]}, usage_threshold_tokens=10_000, usage_reset="day")
    earth.do("edited")
    assert earth.status("edited")["active_tier"] == "edited-a"
    entry["usage_threshold_tokens"] = 500
    earth.apply()
    assert earth.status("edited")["active_tier"] == "edited-b"
    assert earth.tier("edited", "a")["hold"]["kind"] == "token_budget"
    entry["usage_threshold_tokens"] = 10_000
    earth.apply()
    assert earth.status("edited")["active_tier"] == "edited-a"
    assert crossings(earth, "edited") == 1


def test_a_crossing_in_the_middle_of_a_run_lets_it_finish(earth: World, tmp_path: Path) -> None:
    """The hold is there in the commit that crosses; the run that crossed finishes, and is not stopped or retried."""
    gate = tmp_path / "gate"
    steps = {"a": [spends(600, gate=str(gate))], "b": [{}]}
    earth.chain("middle", steps, usage_threshold_tokens=500, usage_reset="day")
    task = earth.begin("middle")
    earth.until(lambda: earth.tier("middle", "a")["state"] == "held", "it is held while it runs")
    assert earth.task(task)["state"] == "running"
    assert path_of(earth.do("middle")) == [("b", None)]
    gate.touch()
    ended = earth.ended(task)
    assert (ended["state"], path_of(ended)) == ("done", [("a", None)])


def test_without_the_trigger_a_crossing_is_only_told(earth: World) -> None:
    """With token_budget left out of the triggers nothing is held, and people hear of the crossing all the same."""
    steps = {"a": [spends(600)], "b": [{}]}
    earth.chain("told", steps, usage_threshold_tokens=500, usage_reset="day", triggers=["auth_error"])
    earth.do("told")
    assert earth.tier("told", "a")["hold"] is None
    assert crossings(earth, "told") == 1


def test_a_task_ends_after_its_attempts(earth: World) -> None:
    """A task that finds no success in limits.attempts fails, and says so, though another tier is free."""
    limited = {"failure": "auth_error"}
    earth.chain("tries", {"a": [limited], "b": [limited], "c": [limited], "d": [{}]})
    task = earth.do("tries")
    assert (task["state"], task["reason_code"]) == ("failed", "attempts")
    assert path_of(task) == [(tier, "auth_error") for tier in "abc"]
    assert "no success in 3 attempts" in task["reason"]
    assert len(earth.notices("task_failed", "tries")) == 1
    assert earth.status("tries")["active_tier"] == "tries-d"


def test_a_task_ends_when_its_tokens_are_spent(earth: World) -> None:
    """A failed task gets no further attempt once limits.task_tokens are used; one that succeeds stays done."""
    earth.chain("costly", {"a": [spends(6000, failure="auth_error")], "b": [spends(6000)]})
    task = earth.do("costly")
    assert (task["state"], task["reason_code"]) == ("failed", "task_tokens")
    assert path_of(task) == [("a", "auth_error")]
    assert earth.do("costly")["state"] == "done"


def test_the_ledger_is_what_the_agents_told(earth: World) -> None:
    """Usage told twice counts once, and the audit finds nothing wrong after all of this."""
    earth.chain("exact", {"a": [{"entries": 300, "rate": 3000}]})
    earth.do("exact")
    told = [json.loads(line) for line in (earth.stage("exact") / "exact-a.account").read_text().splitlines()]
    totals = earth.client.get("/usage")["chains"]["exact"]["totals"]
    assert all(totals[kind] == sum(entry[kind] for entry in told) for kind in ("input", "output", "cache_read"))
    report = earth.client.get("/audit")
    assert (report["clean"], report["problems"]) == (True, [])
