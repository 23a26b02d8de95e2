"""Promises of hot reload under the real daemon: edits act at once, bad ones change nothing, running work is left alone."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import World, path_of, world


@pytest.fixture(scope="module")
def earth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One daemon for all tests of this file."""
    with world(tmp_path_factory.mktemp("config")) as made:
        yield made


def problems(earth: World) -> list[str]:
    """What is wrong with the file as it is now."""
    found: list[str] = earth.client.get("/status")["config"]["problems"]
    return found


def threshold(earth: World) -> int | None:
    """The threshold that is in force."""
    found: int | None = earth.client.get("/usage")["threshold_tokens"]
    return found


def test_every_way_of_saving_is_noticed(earth: World) -> None:
    """In place, by rename, deleted and written anew, through a switched link: each save acts without being asked."""
    path = earth.config

    def in_place(text: str) -> None:
        path.write_text(text)

    def by_rename(text: str) -> None:
        path.with_suffix(".tmp").write_text(text)
        path.with_suffix(".tmp").rename(path)

    def anew(text: str) -> None:
        path.unlink()
        path.write_text(text)

    def with_backup(text: str) -> None:
        path.rename(path.with_suffix(".json~"))
        path.write_text(text)

    def by_link(text: str) -> None:
        folder = path.parent / f"v{time.monotonic_ns()}"
        folder.mkdir()
        (folder / path.name).write_text(text)
        (path.parent / "next").symlink_to(folder / path.name)
        (path.parent / "next").rename(path)

    styles: list[Callable[[str], None]] = [in_place, by_rename, anew, with_backup, by_link, by_link, by_rename]
    for number, save in enumerate(styles, start=1):
        wanted = 1_000_000 + number
        save(json.dumps({**earth.service, "usage_threshold_tokens": wanted}))
        earth.until(lambda wanted=wanted: threshold(earth) == wanted, f"{save.__name__} is noticed", 10)
        assert problems(earth) == []


def test_a_bad_edit_changes_nothing_and_is_told_once(earth: World) -> None:
    """A file that cannot be used keeps the last good one in force; where it is wrong is in status, until it is mended."""
    earth.chain("steady", {"a": [{}]})
    before = earth.status("steady")
    told = len(earth.client.get("/notices", limit=1000)["notices"])
    earth.config.write_text('{\n  "failover": {"tiers": []},\n  "limits": {"paralel": 2}\n}\n')
    earth.until(lambda: bool(problems(earth)), "the edit is judged")
    assert [line.partition(": ")[0] for line in problems(earth)] == [
        f"{earth.config}:2:25",
        f"{earth.config}:3:14",
    ]
    assert "parallel" in problems(earth)[1]
    assert earth.status("steady") == before
    assert path_of(earth.do("steady")) == [("a", None)]
    answer = earth.client.post("/reload")
    assert (answer["result"], len(answer["problems"])) == ("unchanged", 2)
    assert earth.run("check").returncode == 78
    notices = earth.client.get("/notices", limit=1000)["notices"][told:]
    assert [each["kind"] for each in notices if each["kind"] != "task_finished"] == ["config_rejected"]
    earth.configure(earth.service)
    earth.until(lambda: not problems(earth), "it is mended")


def test_a_file_that_is_gone_changes_nothing(earth: World) -> None:
    """Deleting service.json leaves the service as it is and says so."""
    earth.config.unlink()
    earth.until(lambda: bool(problems(earth)), "it is missed")
    assert str(earth.config) in problems(earth)[0]
    assert earth.ended(earth.submit("go on"))["state"] == "done"
    earth.configure(earth.service)
    earth.until(lambda: not problems(earth), "it is back")


def test_a_running_attempt_keeps_what_it_started_with(earth: World, tmp_path: Path) -> None:
    """An edit of a tier's bounds acts on its next run; the one in progress is not stopped by it."""
    gate = tmp_path / "gate"
    entry = earth.chain("snapshot", {"a": [{"gate": str(gate)}, {"sleep": 60}], "b": [{}]})
    task = earth.begin("snapshot")
    earth.until(lambda: len(earth.prompts("snapshot", "a")) == 1, "it runs")
    entry["tiers"][0]["stall_after"] = "1s"
    earth.apply()
    time.sleep(1.5)  # longer than the new bound
    assert earth.task(task)["state"] == "running"
    gate.touch()
    assert path_of(earth.ended(task)) == [("a", None)]
    assert path_of(earth.do("snapshot")) == [("a", "stalled"), ("b", None)]


def test_a_renamed_tier_is_a_new_tier(earth: World, tmp_path: Path) -> None:
    """A hold belongs to the name: the renamed tier is free at once, and the waiting task runs on it."""
    gate = tmp_path / "gate"
    entry = earth.chain("named", {"a": [{"failure": "rate_limit"}, {"gate": str(gate), "failure": "auth_error"}]})
    earth.client.post("/chains/named/pause")
    first = earth.begin("named")
    earth.client.post("/chains/named/resume")
    earth.until(lambda: earth.tier("named", "a")["state"] == "held", "it is held")
    entry["tiers"][0]["name"] = "named-z"
    earth.apply()
    earth.until(lambda: len(earth.prompts("named", "a")) == 2, "it runs under its new name")
    entry["tiers"][0]["name"] = "named-y"
    entry["tiers"][0]["account"] = "another"
    earth.apply()
    gate.touch()
    earth.until(
        lambda: len(earth.prompts("named", "a")) == 3, "a late failure of a tier that is gone holds nobody else"
    )
    assert path_of(earth.task(first))[:2] == [("a", "rate_limit"), ("z", "auth_error")]
    assert earth.task(first)["runs"][2]["tier"] == "named-y"
    assert earth.answers()


def test_a_task_whose_last_hope_is_edited_away_ends(earth: World) -> None:
    """A task that has tried every tier there is now does not wait for ever."""
    entry = earth.chain("hopeless", {"a": [{"failure": "crash"}], "b": [{}]})
    earth.client.post("/chains/hopeless/bump", {"tier": "hopeless-b"})
    task = earth.begin("hopeless")
    earth.until(lambda: path_of(earth.task(task)) == [("a", "crash")], "it has tried the first")
    assert earth.task(task)["state"] == "queued"
    del entry["tiers"][1]
    earth.apply()
    ended = earth.ended(task)
    assert (ended["state"], ended["reason_code"]) == ("failed", "every_tier")


def test_a_chain_that_is_removed_ends_what_waits_in_it(earth: World, tmp_path: Path) -> None:
    """Tasks of a chain that is gone fail with that reason; one that runs may still succeed."""
    gate = tmp_path / "gate"
    earth.chain("removed", {"a": [{"gate": str(gate)}, {"failure": "crash"}]})
    running = earth.begin("removed")
    earth.until(lambda: len(earth.prompts("removed", "a")) == 1, "it runs")
    earth.client.post("/chains/removed/pause")
    failing = earth.begin("removed")
    del earth.service["chains"]["removed"]
    earth.apply()
    ended = earth.ended(failing)
    assert (ended["state"], ended["reason_code"]) == ("failed", "no_chain")
    gate.touch()
    assert earth.ended(running)["state"] == "done"


def test_a_new_login_ends_an_auth_hold(earth: World) -> None:
    """When the login of a tier that failed to authenticate changes, its hold ends without anybody's release."""
    home = earth.stage("login") / "home"
    home.mkdir()
    script = earth.stage("login") / "claude"
    failed = {"type": "result", "subtype": "success", "is_error": True, "result": "no", "api_error_status": 401}
    script.write_text(f"#!/bin/sh\ncat >/dev/null\necho '{json.dumps(failed)}'\nexit 1\n")
    script.chmod(0o755)
    tier: dict[str, Any] = {"name": "login-a", "agent": "claude-code", "program": str(script), "home": str(home)}
    earth.chain_of("login", [tier, {"name": "login-b", "agent": "command", "command": ["true"]}])
    assert path_of(earth.do("login")) == [("a", "auth_error"), ("b", None)]
    assert earth.tier("login", "a")["state"] == "held"
    (home / ".credentials.json").write_text("a new login")
    earth.chain("nudge", {"a": [{}]})  # whatever wakes the daemon makes it look
    earth.until(lambda: earth.tier("login", "a")["state"] == "probation", "the hold is lifted")


def test_hup_reads_the_file_again_and_survives_a_bad_one(earth: World) -> None:
    """A HUP is a reload, not an end, whatever the file holds."""
    assert earth.process is not None
    earth.config.write_text("{")
    earth.process.send_signal(signal.SIGHUP)
    earth.until(lambda: bool(problems(earth)), "it is judged")
    earth.configure(earth.service)
    os.kill(earth.process.pid, signal.SIGHUP)
    earth.until(lambda: not problems(earth), "it is mended")
    assert earth.alive()
