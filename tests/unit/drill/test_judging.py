"""The judge of a rehearsal, on records made by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from locum.config.load import load
from locum.drill.director import Played
from locum.drill.evidence import Evidence, Held
from locum.drill.fresh import Now, part_of
from locum.drill.holding import holds
from locum.drill.promises import ONE_PATH, Breach
from locum.drill.recordings import FAULTS, choose, success
from locum.drill.report import Result, Verdict, as_json, lines, summary
from locum.drill.scenarios import SCENARIOS
from locum.drill.spending import budgets
from locum.policy.usage import Tokens
from locum.words import iso

AT_MS = 1_795_000_000_000
SPENT = Tokens(input=600)


def loaded(folder, **told):
    """A service.json of two tiers on one chain."""
    tiers = [{"name": "g", "agent": "gemini"}, {"name": "q", "agent": "qwen"}]
    path = folder / "service.json"
    path.write_text(json.dumps({"failover": {"tiers": tiers}, **told}))
    return load(path, {})


def played(tier: str, run: str, at_ms: int, ended_ms: int, fault: str | None = None) -> Played:
    """A run of a stand-in that took that long, and failed so."""
    agent = {"g": "gemini", "q": "qwen"}[tier]
    recording = choose(agent, FAULTS[fault]) if fault else success(agent)
    assert recording is not None
    part = replace(
        part_of(recording, Now(at_ms, "/", "s", "UTC", lambda: "id")), tokens=SPENT if not fault else Tokens()
    )
    names = (tier, run, f"t-{run}" if not fault else "t", "default")
    return Played(*names, recording, recording.kind, "s", False, at_ms, 0.0, part, ended_ms, 0.1)


def held(target: str, kind: str, since_ms: int, until_ms: int | None, ended_ms: int | None, budget=None) -> Held:
    """A hold of the chain `default`."""
    return Held(target, kind, "default", target[-1], "t", since_ms, until_ms, ended_ms, "", budget)


def scenario(name: str):
    """The scenario of that name."""
    return next(each for each in SCENARIOS if each.name == name)


def evidence(loaded_, played_, holds_=(), **more) -> Evidence:
    """What the daemon and the stand-ins say of these runs, each task with its own."""
    runs = {
        each.run: {
            "id": each.run,
            "tier": each.tier,
            "started": iso(each.at_ms),
            "failure": each.kind,
            "rule": "",
        }
        for each in played_
    }
    tasks = [
        {"id": task, "chain": "default", "runs": [runs[each.run] for each in played_ if each.task == task]}
        for task in dict.fromkeys(each.task for each in played_)
    ]
    told = {
        "events": (), "notices": (), "chains": {}, "audit": {}, "entries": (), "leaps": (), "now_ms": AT_MS + 60_000,
        "own_rules": frozenset(), "bumped": frozenset(), **more,
    }  # fmt: skip
    return Evidence(loaded=loaded_, played=played_, tasks=tasks, holds=holds_, **told)


@pytest.mark.parametrize(
    ("ended_after_ms", "used_after_ms", "says"),
    [(5_000, 5_100, None), (5_000, 4_900, "before a hold ended"), (None, 30_000, "before a hold ended")],
)
def test_a_tier_may_be_used_as_soon_as_its_hold_is_over(tmp_path, ended_after_ms, used_after_ms, says):
    """A hold of seconds, as the vendor asks, ends in seconds: use after its end is right, and before it is not."""
    failed_ms = AT_MS + 4_000
    runs = [
        played("g", "1", AT_MS, AT_MS + 100, "throttle"),
        played("g", "2", AT_MS + 3_900, failed_ms, "throttle"),
        replace(played("g", "3", failed_ms + used_after_ms, failed_ms + used_after_ms + 100), task="t"),
    ]
    ended_ms = failed_ms + ended_after_ms if ended_after_ms else None
    hold = held("tier:g", "rate_limit", failed_ms, failed_ms + (ended_after_ms or 60_000), ended_ms)
    found = [each.what for each in holds(evidence(loaded(tmp_path), runs, (hold,))) if each.promise == ONE_PATH]
    assert bool(found) == bool(says), found
    assert says is None or any(says in each for each in found)


def test_a_throttled_tier_that_was_not_held_is_noticed(tmp_path):
    """The second failure in a row must hold the tier, however soon it works again."""
    runs = [played("g", str(n), AT_MS + n * 4_000, AT_MS + n * 4_000 + 100, "throttle") for n in (1, 2)]
    found = [each.what for each in holds(evidence(loaded(tmp_path), runs))]
    assert any("nothing was held" in each for each in found)


@pytest.mark.parametrize(("order", "crossed"), [("gq", "q"), ("qg", "g"), ("gqg", "g"), ("qgq", "q")])
@pytest.mark.parametrize("window", ["day", {"block": "5h"}, {"rolling": "5h"}])
def test_a_budget_was_used_up_by_the_run_whose_entry_came_to_the_limit(tmp_path, window, order, crossed):
    """Of two runs side by side the ledger's order decides, not which began or ended first; an entry may be a part of a run."""
    runs = {"g": played("g", "1", AT_MS, AT_MS + 200), "q": played("q", "2", AT_MS + 50, AT_MS + 100)}
    told = loaded(tmp_path, usage_threshold_tokens=1_000, usage_reset=window)
    parts = {tier: SPENT if order.count(tier) == 1 else Tokens(input=300) for tier in runs}
    entries = [(runs[tier].run, AT_MS + 60 + number, parts[tier]) for number, tier in enumerate(order)]
    notices = [crossed_at(at) for at in (80, 90, 100)]
    for tier in "gq":
        budget = told.plan.budgets[0]
        hold = held(f"rung:default/{tier}", "token_budget", AT_MS + 210, None, None, budget.id)
        found = list(budgets(evidence(told, list(runs.values()), (hold,), entries=entries, notices=notices)))
        wrong = [each for each in found if "was used up on" in each]
        assert bool(wrong) == (tier != crossed), found


def crossed_at(at, owner="chain:default", unit="percent"):
    """The notice of a threshold."""
    data = {"budget": owner, "threshold_unit": unit, "threshold": at}
    return {"kind": "token_threshold_crossed", "data": data}


@pytest.mark.parametrize(
    ("told_at", "says"),
    [
        ([50, 60], None),
        ([50], "60 percent of chain:default (limit 1,000) were reached 1 times, and that was told 0 times"),
        ([50, 60, 60], "was told 2 times"),
        ([50, 60, 61], "61 percent of chain:default (limit 1,000) were reached 0 times, and that was told 1 times"),
        ([50, 60, 7], "nobody asked to be told of 7 percent of chain:default"),
    ],
)
def test_a_threshold_that_is_told_too_often_or_never_is_noticed(tmp_path, told_at, says):
    """Exactly those that the entries reach, each once: none missing, none twice, none ahead of its time."""
    config = loaded(
        tmp_path, usage_threshold_tokens=1_000, alerts={"at_percent": [50, 60, 61], "at_tokens": [600, 601]}
    )
    notices = [crossed_at(at) for at in told_at] + [crossed_at(600, unit="tokens")]
    run = played("g", "1", AT_MS, AT_MS + 200)
    found = list(budgets(evidence(config, [run], entries=[(run.run, AT_MS, SPENT)], notices=notices)))
    assert bool(found) == bool(says), found
    assert says is None or any(says in each for each in found), found


@pytest.mark.parametrize(
    ("target", "spent", "until_after_ms", "right"),
    [
        ("rung:default/g", 600, 1_000, True),
        ("rung:default/g", 100, 1_000, False),  # not so much was spent about then
        ("rung:default/q", 600, 1_000, False),  # not where it was spent
        ("rung:default/g", 600, 3_600_000, False),  # the window is over long before
        ("rung:default/g", 600, None, False),
    ],
)
@pytest.mark.parametrize("window", ["rolling", "block"])
def test_a_budget_over_a_second_may_be_used_up_by_run_after_run(tmp_path, window, target, spent, until_after_ms, right):
    """It holds again and again, seconds apart: each hold is fine if enough was spent there then, and it is short."""
    told = loaded(tmp_path, usage_threshold_tokens=500, usage_reset={window: "1s"})
    runs, found = [], []
    for number, at_ms in enumerate((AT_MS, AT_MS + 2_000, AT_MS + 4_000)):
        run = played("g", str(number), at_ms, at_ms + 900)
        runs.append(replace(run, part=replace(run.part, tokens=Tokens(input=spent))))
        until_ms = at_ms + 800 + until_after_ms if until_after_ms else None
        found.append(held(target, "token_budget", at_ms + 800, until_ms, at_ms + 1_900, "chain:default"))
    assert (not list(budgets(evidence(told, runs, found)))) == right


@pytest.mark.parametrize("name", [each.name for each in SCENARIOS])
def test_a_scenario_in_which_nothing_was_played_was_not_rehearsed(tmp_path, name):
    """No run at all shows nothing; runs that went well show nothing of failures, and nothing of budgets."""
    shown, well = scenario(name).shown, [played("g", "1", AT_MS, AT_MS + 100)]
    assert not shown(evidence(loaded(tmp_path), []))
    assert shown(evidence(loaded(tmp_path), well, entries=[("1", AT_MS, SPENT)])) == (name in ("calm", "kill"))


def test_a_budget_is_rehearsed_when_it_was_used_up(tmp_path):
    """A budget that is set and not reached has shown nothing."""
    well, shown = [played("g", "1", AT_MS, AT_MS + 100)], scenario("budget").shown
    assert shown(evidence(loaded(tmp_path, usage_threshold_tokens=600), well, entries=[("1", AT_MS, SPENT)]))
    assert not shown(evidence(loaded(tmp_path, usage_threshold_tokens=601), well, entries=[("1", AT_MS, SPENT)]))


def test_a_failure_is_rehearsed_when_it_was_played(tmp_path):
    """A run that failed is what the scenarios of failures are about; the end of a limit was told in none here."""
    failed = evidence(loaded(tmp_path), [played("g", "1", AT_MS, AT_MS + 100, "auth")])
    assert scenario("auth").shown(failed)
    assert not scenario("late-reset").shown(failed)


def test_what_was_not_rehearsed_neither_passes_nor_fails():
    """Text, JSON and the sentence at the end tell the three apart; one that broke off has failed, whatever it played."""
    told = {
        Verdict.PASS: Result("calm", "nothing", 0),
        Verdict.NOT_REHEARSED: Result("cut", "cut", 0, rehearsed=False),
        Verdict.FAIL: Result("auth", "refused", 0, rehearsed=False, breaches=(Breach(ONE_PATH, "why"),)),
    }
    assert {verdict: each.verdict for verdict, each in told.items()} == {each: each for each in Verdict}
    good, silent, bad = told.values()
    assert next(lines(silent, whole=False)).startswith("not rehearsed  cut")
    assert next(lines(good, whole=False)).startswith("pass  calm")
    assert next(lines(bad, whole=False)).startswith("FAIL  auth")
    assert [each["verdict"] for each in as_json("x", [good, silent])["scenarios"]] == ["pass", "not rehearsed"]
    assert as_json("x", [good, silent])["passed"]
    assert summary([good]) == "every promise holds in 1 scenario"
    assert summary([good, silent]) == "every promise holds in 1 scenario, 1 not rehearsed"
    assert summary([good, silent, bad]) == "promises are broken in 1 of 3 scenarios: auth, 1 not rehearsed"
