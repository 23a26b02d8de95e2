"""Promises of surviving: a clean stop, a kill at any moment, and a wrapper that dies, cost no task and no token."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import anyio

from locum.clock import SystemClock
from locum.engine.proc import marked
from locum.engine.spool import Spool
from locum.policy.plan import Chain, Plan, Tier
from locum.policy.task import Run, RunState
from locum.store.ledger import Ledger
from tests.harness import World, until, world


def run_of(earth: World, task: str) -> str:
    """The id of the only run of a task, once it writes."""
    earth.until(lambda: bool(earth.task(task)["runs"]), "it runs")
    return str(earth.task(task)["runs"][0]["id"])


def spool_of(earth: World, run: str) -> Spool:
    """The folder of a run."""
    return Spool(earth.state / "runs" / run)


def issued(earth: World, chain: str) -> int:
    """Input tokens that the agents of a chain say they have spent."""
    accounts = earth.stage(chain).glob("*.account")
    return sum(json.loads(line)["input"] for account in accounts for line in account.read_text().splitlines())


def counted(earth: World, chain: str) -> int:
    """Input tokens that the ledger holds for a chain."""
    return int(earth.client.get("/usage")["chains"][chain]["totals"]["input"])


def test_a_clean_stop_ends_agents_and_the_next_daemon_finishes_their_tasks(tmp_path: Path) -> None:
    """TERM ends the agents within stop_grace, even a deaf one, exits 0, and blames nobody; the next daemon goes on."""
    with world(tmp_path, {"limits": {"stop_grace": "1s"}}) as earth:
        gate = tmp_path / "gate"
        earth.chain("polite", {"a": [{"entries": 5, "gate": str(gate)}, {}]})
        deaf = f"trap '' TERM; while [ ! -e {gate} ]; do sleep 0.05; done"
        earth.chain_of("deaf", [{"name": "deaf-a", "agent": "command", "command": ["sh", "-c", deaf]}])
        tasks = [earth.begin("polite"), earth.begin("deaf")]
        runs = [run_of(earth, task) for task in tasks]
        earth.until(lambda: counted(earth, "polite") == issued(earth, "polite") > 0, "usage is read")
        began = time.monotonic()
        assert earth.stop() == 0
        assert time.monotonic() - began < 8
        assert [marked(run) for run in runs] == [[], []], "no agent is left"
        assert not (earth.state / "locum.sock").exists()
        gate.touch()
        earth.start()
        for task, run in zip(tasks, runs, strict=True):
            ended = earth.ended(task)
            assert (ended["state"], ended["runs"][0]["id"]) == ("done", run)
            assert [each["state"] for each in ended["runs"]] == ["stopped", "succeeded"]
        assert earth.status("polite")["last_failure_kind"] is None
        assert counted(earth, "polite") == issued(earth, "polite")


def test_kill_finds_every_kind_of_run_again(tmp_path: Path) -> None:
    """After kill -9 a queued task starts, a running one is adopted, one that ended meanwhile is judged by its exit
    file, and one that was killed meanwhile is tried elsewhere; nothing is counted twice.
    """
    with world(tmp_path) as earth:
        gates = {name: tmp_path / name for name in ("lives", "ends", "dies")}
        for name, gate in gates.items():
            earth.chain(name, {"a": [{"entries": 50, "gate": str(gate), "say": f"{name} done"}], "b": [{}]})
        earth.chain("waits", {"a": [{}]})
        earth.client.post("/chains/waits/pause")
        tasks = {name: earth.begin(name) for name in (*gates, "waits")}
        runs = {name: run_of(earth, tasks[name]) for name in gates}
        earth.until(lambda: all(counted(earth, name) > 0 for name in gates), "all spend")
        earth.kill()
        gates["ends"].touch()
        until(lambda: spool_of(earth, runs["ends"]).exit() is not None, "it ends unwatched")
        for pid in marked(runs["dies"]):
            os.kill(pid, signal.SIGKILL)
        until(lambda: not marked(runs["dies"]), "it is dead")
        earth.start()
        assert earth.task(tasks["lives"])["state"] == "running"
        assert earth.task(tasks["waits"])["state"] == "queued", "a pause outlives the daemon"
        gates["lives"].touch()
        earth.client.post("/chains/waits/resume")
        ended = {name: earth.ended(task) for name, task in tasks.items()}
        assert {name: task["state"] for name, task in ended.items()} == dict.fromkeys(tasks, "done")
        assert [run["id"] for run in ended["lives"]["runs"]] == [runs["lives"]]
        assert [run["id"] for run in ended["ends"]["runs"]] == [runs["ends"]]
        assert ended["ends"]["said"] == "ends done"
        assert [run["failure"] for run in ended["dies"]["runs"]] == ["crash", None]
        for name in gates:
            assert counted(earth, name) == issued(earth, name)
        assert earth.client.get("/audit")["problems"] == []


def test_a_run_that_never_started_is_nobodys_fault(tmp_path: Path) -> None:
    """A daemon that dies between the run's row and its process leaves a task that simply runs."""
    with world(tmp_path) as earth:
        earth.chain("torn", {"a": [{}]})
        earth.client.post("/chains/torn/pause")
        task = earth.begin("torn")
        cwd = earth.task(task)["cwd"]
        earth.kill()
        tier = Tier("torn-a", "command", "torn")
        run = Run("r-torn", task, 1, "torn", tier, cwd, RunState.RUNNING, SystemClock().now_ms())

        async def tear() -> None:
            ledger = await Ledger.open(earth.state / "locum.db", Plan({"torn": Chain("torn", (tier,))}), 1)
            await ledger.resume("torn", 2)
            await ledger.start_run(run, run.started_ms)
            await ledger.close()

        anyio.run(tear)
        spool_of(earth, "r-torn").create("do it")
        earth.start()
        ended = earth.ended(task)
        assert [(each["state"], each["failure"]) for each in ended["runs"]] == [("lost", None), ("succeeded", None)]
        assert len(earth.prompts("torn", "a")) == 1


def test_a_wrapper_that_dies_takes_its_agent_along(tmp_path: Path) -> None:
    """When the wrapper is killed its agent is swept before the task runs again: never two agents on one task."""
    with world(tmp_path) as earth:
        earth.chain("orphan", {"a": [{"gate": str(tmp_path / "never")}], "b": [{}]})
        task = earth.begin("orphan")
        run = run_of(earth, task)
        earth.until(lambda: len(earth.prompts("orphan", "a")) == 1, "the agent works")
        wrapper = int((earth.state / "runs" / run / "pid").read_text())
        assert len(marked(run)) == 2
        os.kill(wrapper, signal.SIGKILL)
        ended = earth.ended(task)
        assert [each["failure"] for each in ended["runs"]] == ["crash", None]
        assert marked(run) == []


def test_a_wrapper_that_dies_unwatched_leaves_no_agent_either(tmp_path: Path) -> None:
    """The next daemon sweeps an agent whose wrapper died while no daemon was there."""
    with world(tmp_path) as earth:
        earth.chain("orphan", {"a": [{"gate": str(tmp_path / "never")}], "b": [{}]})
        task = earth.begin("orphan")
        run = run_of(earth, task)
        earth.until(lambda: len(earth.prompts("orphan", "a")) == 1, "the agent works")
        earth.kill()
        os.kill(int((earth.state / "runs" / run / "pid").read_text()), signal.SIGKILL)
        until(lambda: len(marked(run)) == 1, "the wrapper is gone and the agent lives on")
        earth.start()
        assert [each["failure"] for each in earth.ended(task)["runs"]] == ["crash", None]
        assert marked(run) == []


def test_holds_and_waits_outlive_the_daemon(tmp_path: Path) -> None:
    """A hold, its reason and a task that waits for its end are the same after kill -9; the wait then ends on time."""
    with world(tmp_path) as earth:
        earth.chain("kept", {"a": [{"failure": "usage_limit", "reset": 1, "message": "enough"}, {}]})
        task = earth.begin("kept")
        earth.until(lambda: earth.status("kept")["exhausted"], "it is held")
        before = earth.status("kept")
        earth.kill()
        earth.start()
        assert earth.status("kept") == before
        assert earth.ended(task)["state"] == "done"


def test_a_time_limit_counts_from_the_start_of_the_run(tmp_path: Path) -> None:
    """A run adopted by the next daemon has no more time than it had: restarts do not stretch time_limit."""
    with world(tmp_path) as earth:
        earth.chain("bounded", {"a": [{"gate": str(tmp_path / "never")}], "b": [{}]})
        earth.service["chains"]["bounded"]["tiers"][0]["time_limit"] = "3s"
        earth.apply()
        began = time.monotonic()
        task = earth.begin("bounded")
        run_of(earth, task)
        time.sleep(2.5)  # the time that must not be given again
        earth.kill()
        earth.start()
        ended = earth.ended(task)
        assert [each["failure"] for each in ended["runs"]] == ["stalled", None]
        assert time.monotonic() - began < 5.4
