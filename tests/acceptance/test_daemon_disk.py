"""Promises on a full disk: nothing new starts, nothing recorded is lost, and all goes on when there is room again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.harness import World, may_mount, running, until, world


@contextmanager
def on_a_small_disk(folder: Path) -> Iterator[World]:
    """A world whose database lies on a disk of 3 MB of its own, and whose runs lie elsewhere."""
    if not may_mount():
        pytest.skip("only a user who may mount can have a small disk")
    made = World(folder, {"limits": {"min_free": "1K", "stop_grace": "1s"}}, {"LOCUM_SOCKET": str(folder / "s.sock")})
    made.client.paths = (folder / "s.sock",)
    made.state.mkdir()
    (folder / "runs").mkdir()
    mount = f"mount -t tmpfs -o size=3m none {made.state} && ln -s {folder}/runs {made.state}/runs"
    made.inside = ("unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh")
    with running(made):
        yield made


def fill(earth: World) -> Path:
    """Leave not a byte free on the daemon's disk; the file that takes it all."""
    assert earth.process is not None
    filler = Path(f"/proc/{earth.process.pid}/root{earth.state}/filler")
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    return filler


def test_usage_told_while_the_disk_is_full_is_recorded_when_it_is_not(tmp_path: Path) -> None:
    """An agent that spends while nothing can be written is neither stopped nor forgotten: in the end all is counted."""
    with on_a_small_disk(tmp_path) as earth:
        gate = tmp_path / "gate"
        earth.chain("spends", {"a": [{"entries": 1}, {"entries": 3000, "rate": 3000}], "b": [{}]})
        earth.service["chains"]["spends"]["tiers"][0]["stall_after"] = "2s"
        earth.apply()
        assert earth.do("spends")["state"] == "done"
        earth.chain("gated", {"a": [{"gate": str(gate), "entries": 3000, "rate": 3000, "say": "all spent"}]})
        task = earth.begin("gated")
        second = earth.begin("spends")
        earth.until(lambda: earth.status("spends")["running"] == 1, "it spends")
        filler = fill(earth)
        gate.touch()
        until(lambda: "usage_not_recorded" in earth.log.read_text(), "the disk is missed", log=earth.log)
        time.sleep(3)  # longer than the agents take, and than their silence may last
        assert earth.alive()
        assert earth.answers(), "what is known can be read"
        filler.unlink()
        for each in (task, second):
            assert earth.ended(each)["state"] == "done"
        for chain, runs in (("spends", 2), ("gated", 1)):
            told = {}
            for line in (earth.stage(chain) / f"{chain}-a.account").read_text().splitlines():
                entry = json.loads(line)
                told[entry["run"], entry["id"]] = entry["input"]
            assert len({run for run, _ in told}) == runs
            assert earth.client.get("/usage")["chains"][chain]["totals"]["input"] == sum(told.values())
        assert earth.client.get("/audit")["problems"] == []
        assert "Traceback" not in earth.log.read_text()


def test_what_follows_a_task_waits_for_a_disk_that_is_full(tmp_path: Path) -> None:
    """A command that ends while nothing can be written is run once, its end is on record when there is room again."""
    with on_a_small_disk(tmp_path) as earth:
        script = "echo x >>begun; while [ ! -e gate ]; do sleep 0.05; done; yes | head -c 200000; echo bad; exit 3"
        earth.service["post_task"] = {"command": ["sh", "-c", script]}
        earth.chain("well", {"a": [{}]})
        tasks = [earth.do("well")["id"] for _ in range(2)]
        earth.until(lambda: (tmp_path / "begun").exists() and (tmp_path / "begun").read_text() == "x\nx\n", "both run")
        filler = fill(earth)
        (tmp_path / "gate").touch()
        until(lambda: "post_task_not_recorded" in earth.log.read_text(), "the disk is missed", log=earth.log)
        assert earth.alive()
        assert earth.task(tasks[0])["state"] == "done"
        filler.unlink()
        for task in tasks:
            earth.until(lambda task=task: earth.task(task)["post_task"]["state"] == "failed", "it is on record")
            assert earth.task(task)["post_task"]["reason"] == "exit code 3: bad"
        assert (tmp_path / "begun").read_text() == "x\nx\n"
        assert len(earth.notices("post_task_failed", "well")) == 2
        assert earth.client.get("/audit")["problems"] == []
        assert "Traceback" not in earth.log.read_text()


def test_a_daemon_stops_cleanly_on_a_full_disk(tmp_path: Path) -> None:
    """A stop is not held up by a disk that takes nothing: the agents end, and the next daemon knows their runs."""
    with on_a_small_disk(tmp_path) as earth:
        earth.chain("busy", {"a": [{"entries": 100_000, "rate": 2000}], "b": [{}]})
        earth.begin("busy")
        earth.until(lambda: earth.client.get("/usage")["chains"]["busy"]["totals"]["input"] > 0, "it spends")
        fill(earth)
        until(lambda: "usage_not_recorded" in earth.log.read_text(), "the disk is missed", log=earth.log)
        began = time.monotonic()
        assert earth.stop() == 0
        assert time.monotonic() - began < 15
        assert "Traceback" not in earth.log.read_text()


def test_low_disk_starts_nothing_and_says_so(tmp_path: Path) -> None:
    """Below limits.min_free no run starts, which log, status and the task's follower tell; room again means work again."""
    with world(tmp_path) as earth:
        earth.chain("roomy", {"a": [{}]})
        assert earth.client.get("/status")["low_disk"] is False
        earth.service["limits"]["min_free"] = "1000T"
        earth.apply()
        task = earth.begin("roomy")
        earth.until(lambda: earth.client.get("/status")["low_disk"] is True, "it is noticed")
        assert earth.task(task)["state"] == "queued"
        assert "disk_low" in earth.log.read_text()
        happenings = earth.client.follow(task)
        waiting = next(happenings)
        assert (waiting["type"], "limits.min_free" in waiting["reason"]) == ("waiting", True)
        happenings.close()
        earth.service["limits"]["min_free"] = "1K"
        earth.apply()
        assert earth.ended(task)["state"] == "done"
        assert earth.client.get("/status")["low_disk"] is False
