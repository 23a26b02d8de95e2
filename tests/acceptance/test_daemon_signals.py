"""Promises of rules under the real daemon: an unknown failure becomes a rule while it runs, and acts at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness import World, path_of, world

STRANGE = {"failure": "unknown", "message": "The team allowance is used up, it resets in 3 hours"}


@pytest.fixture(scope="module")
def earth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One daemon for all tests of this file."""
    with world(tmp_path_factory.mktemp("signals")) as made:
        yield made


def unknown(earth: World) -> list[dict[str, Any]]:
    """The failures that wait for a rule."""
    told = json.loads(earth.run("signals", "list", "--unknown", "--json").stdout)
    runs: list[dict[str, Any]] = told["runs"]
    return runs


def problems(earth: World) -> list[str]:
    """What is wrong with the configuration as it is now."""
    found: list[str] = earth.client.get("/status")["config"]["problems"]
    return found


def test_an_unknown_failure_is_learnt_while_the_daemon_runs(earth: World) -> None:
    """It is found, becomes the proof of its rule, and the next failure of that kind holds the account until its reset."""
    earth.chain("learn", {"one": [STRANGE], "two": [{}]})
    assert path_of(earth.do("learn")) == [("one", "unknown"), ("two", None)]
    assert earth.tier("learn", "one")["state"] != "held"
    (run,) = [each["run"] for each in unknown(earth) if each["tier"] == "learn-one"]
    rule = ["--id", "team.allowance", "--kind", "usage_limit", "--pattern", "The team allowance is used up", "--reset"]
    rule += ["--twin", "The team allowance is nearly used up"]
    done = earth.run("signals", "add", "--run", run, *rule, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["daemon"]["result"] == "applied"

    task = earth.do("learn")
    assert path_of(task) == [("one", "usage_limit"), ("two", None)]
    assert task["runs"][0]["rule"] == "team.allowance"
    hold = earth.tier("learn", "one")["hold"]
    assert hold["kind"] == "usage_limit"
    assert earth.run("signals", "test").returncode == 0


def test_a_rules_file_is_seen_and_a_broken_one_changes_nothing(earth: World) -> None:
    """Written by any editor it acts without being asked for; with a mistake the last good rules stay, and it is told."""
    folder = earth.folder / "signals"
    folder.mkdir(exist_ok=True)
    path = folder / "moon.toml"
    good = 'id = "moon"\nagent = "command"\nkind = "auth_error"\npattern = "The moon is full"\n'
    earth.chain("moon", {"one": [{"failure": "unknown", "message": "The moon is full"}], "two": [{}]})
    path.write_text(good.replace("auth_error", "auth_eror"))
    earth.until(lambda: any(f"{path}:3:1: `kind`" in each for each in problems(earth)), "the mistake is told")
    assert path_of(earth.do("moon"))[0] == ("one", "unknown")
    path.write_text(good)
    earth.until(lambda: not problems(earth), "the mistake is forgotten")
    assert path_of(earth.do("moon"))[0] == ("one", "auth_error")
    path.unlink()


def test_a_rule_that_nobody_proved_is_used_and_warned_of_once(earth: World) -> None:
    """What the operator writes by hand is in force at once; what it breaks is logged once, however often it is read."""
    path = earth.folder / "signals" / "wide.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text('id = "wide"\nagent = "codex"\nkind = "auth_error"\npattern = ".+"\n')

    def warned() -> int:
        return earth.log.read_text().count("rule wide (added) fails on ")

    earth.until(warned, "it is warned of")
    assert "rule_breaks" in earth.log.read_text()
    other = path.with_name("other.txt")
    for _ in range(3):
        other.write_text("no rule")
        assert earth.client.post("/reload")["result"] == "unchanged"
    rules = json.loads(earth.run("signals", "list", "--json").stdout)["rules"]
    assert "wide" in [rule["id"] for rule in rules]
    assert not problems(earth)
    assert warned() == 1
    path.unlink()
    earth.client.post("/reload")
