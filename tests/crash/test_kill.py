"""Kill -9 of the daemon under running agents, again and again: nothing lost, nothing doubled, nothing run twice."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.harness import LOCUM, Daemon, scripted, until

KILLS = 30
TASKS_AT_ONCE = 3
TOKEN_TYPES = ("input", "output", "cache_read", "cache_write")


def issued(folder: Path) -> Counter[str]:
    """What the agents say they have spent, by token type."""
    total: Counter[str] = Counter()
    for account in folder.glob("*.account"):
        for line in account.read_text().splitlines():
            entry = json.loads(line)
            total.update({kind: entry[kind] for kind in TOKEN_TYPES})
    return total


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_thirty_kills_under_three_agents_lose_and_double_nothing(tmp_path: Path) -> None:
    """After 30 kills at random moments the ledger holds exactly what the agents issued, each task ran once to its
    end, every agent was found again, and the audit is clean.
    """
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    tier = scripted({"entries": 250, "rate": 200}, name="busy", stage=tmp_path)
    second = scripted({"entries": 100, "rate": 200}, name="spare", stage=tmp_path)
    made = Daemon(tmp_path, {"failover": {"tiers": [tier, second]}, "limits": {"parallel": TASKS_AT_ONCE}})
    tasks: list[str] = []
    for number in range(KILLS):
        made.start()
        states = [made.task(task)["state"] for task in tasks]
        assert "failed" not in states, f"a kill failed a task (seed {seed})"
        for _ in range(TASKS_AT_ONCE - sum(state in ("queued", "running") for state in states)):
            folder = made.work / f"{len(tasks)}"
            folder.mkdir()
            tasks.append(made.submit(f"task {len(tasks)}", folder))
        if number % 3 == 0:
            until(lambda: made.client.get("/status")["chains"]["default"]["running"] > 0, "agents run", log=made.log)
        time.sleep(chance.uniform(0, 0.6))
        made.kill()
    made.start()
    for task in tasks:
        assert made.ended(task, 120)["state"] == "done", f"seed {seed}"
    runs = Counter(json.loads(line)["task"] for line in (tmp_path / "busy.prompts").read_text().splitlines())
    assert runs == Counter(tasks), f"each task ran exactly once (seed {seed})"
    totals = made.client.get("/usage")["totals"]
    assert {kind: totals[kind] for kind in TOKEN_TYPES} == dict(issued(tmp_path)), f"seed {seed}"
    report = made.client.get("/audit")
    assert report["problems"] == [], f"seed {seed}"
    assert made.log.read_text().count("run_adopted") >= KILLS // 2
    assert made.stop() == 0


def test_two_daemons_never_share_a_state(tmp_path: Path) -> None:
    """A second daemon on the same state ends at once and says who is there; the first goes on."""
    made = Daemon(tmp_path, {"failover": {"tiers": [scripted({}, name="a", stage=tmp_path)]}})
    made.start()
    try:
        second = subprocess.run(
            [LOCUM, "serve"],
            env={**made.env, "LOCUM_SOCKET": str(tmp_path / "other.sock")},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert second.returncode == 1
        assert "another locum daemon" in second.stderr
        assert made.answers()
    finally:
        made.stop()
