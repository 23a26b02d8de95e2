"""Promises of moving: what failed is held, nothing else, and the chain comes back, as seen from outside."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import World, path_of, seconds_until, world

MINUTE, HOUR = 60, 3600

HELD = {  # kind: how often it is tried in place, and how long it is then held (seconds); None: not at all
    "auth_error": (0, 30 * MINUTE),
    "credit_exhausted": (0, HOUR),
    "usage_limit": (0, 30 * MINUTE),
    "rate_limit": (0, MINUTE),
    "overloaded": (2, MINUTE),
    "server_error": (2, MINUTE),
    "network": (2, 30),
    "model_unavailable": (0, 6 * HOUR),
    "crash": (0, None),
    "stalled": (0, None),
    "no_result": (0, None),
    "unknown": (0, None),
}


@pytest.fixture(scope="module")
def earth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One daemon for all tests of this file."""
    with world(tmp_path_factory.mktemp("moving")) as made:
        yield made


def test_each_kind_is_answered_and_held_as_promised(earth: World) -> None:
    """Each failure kind is retried, held and told exactly as documented, and the task is done on the next tier."""
    tasks = {}
    for kind in HELD:
        chain = kind.replace("_", "")
        earth.chain(chain, {"bad": [{"failure": kind, "message": f"no luck: {kind}"}], "good": [{}]})
        tasks[kind] = earth.begin(chain)
    for kind, (retries, held_s) in HELD.items():
        chain = kind.replace("_", "")
        task = earth.ended(tasks[kind])
        assert task["state"] == "done", kind
        assert path_of(task) == [*[("bad", kind)] * (1 + retries), ("good", None)]
        status, tier = earth.status(chain), earth.tier(chain, "bad")
        assert status["last_failure_kind"] == kind
        assert status["last_failure_reason"] == f"no luck: {kind}"
        assert status["last_failure_tier"] == f"{chain}-bad"
        assert -60 < seconds_until(status["last_failure_at"]) <= 0, kind
        if held_s is None:
            assert tier["state"] == "active", f"{kind} of one task holds nothing"
            continue
        assert status["active_tier"] == f"{chain}-good"
        assert (tier["state"], tier["hold"]["kind"], tier["hold"]["reason"]) == ("held", kind, f"no luck: {kind}")
        assert held_s - 30 <= seconds_until(tier["hold"]["until"]) <= held_s, kind
        assert len(earth.notices("tier_bumped", chain)) == 1, kind


@pytest.mark.parametrize("kind", ["context_overflow", "invalid_request"])
def test_a_task_at_fault_fails_alone(earth: World, kind: str) -> None:
    """A failure that every tier would answer the same fails the task, moves nothing and holds nothing."""
    chain = kind.replace("_", "")
    earth.chain(chain, {"a": [{"failure": kind}, {}], "b": [{}]})
    task = earth.do(chain)
    assert (task["state"], task["reason_code"]) == ("failed", kind)
    assert path_of(task) == [("a", kind)]
    assert earth.status(chain)["active_tier"] == f"{chain}-a"
    assert earth.tier(chain, "a")["hold"] is None
    assert len(earth.notices("task_failed", chain)) == 1


def test_a_throttle_is_waited_out_in_place(earth: World) -> None:
    """A short wait that the vendor asks for is kept, on the same tier, and nothing is held."""
    earth.chain("patient", {"a": [{"failure": "rate_limit", "reset": 1}, {}], "b": [{}]})
    task = earth.do("patient")
    assert path_of(task) == [("a", "rate_limit"), ("a", None)]
    assert earth.tier("patient", "a")["hold"] is None


def test_a_long_throttle_is_not_waited_out(earth: World) -> None:
    """A wait of more than a minute bumps, and the vendor's own moment ends the hold."""
    earth.chain("throttled", {"a": [{"failure": "rate_limit", "reset": 600}], "b": [{}]})
    assert path_of(earth.do("throttled")) == [("a", "rate_limit"), ("b", None)]
    assert 590 < seconds_until(earth.tier("throttled", "a")["hold"]["until"]) < 640


def test_all_held_waits_returns_and_prefers_the_first_again(earth: World) -> None:
    """With every tier held a task waits for the vendor's reset; the preferred tier comes back on probation, first."""
    limited = {"failure": "usage_limit", "reset": 1, "message": "limit reached"}
    earth.chain("tired", {"a": [limited, {}], "b": [{**limited, "reset": 3600}]})
    began = time.monotonic()
    task = earth.begin("tired")
    earth.until(lambda: earth.status("tired")["exhausted"], "every tier is held")
    status = earth.status("tired")
    assert (status["active_tier"], status["queued"]) == (None, 1)
    shown = earth.ended(task)
    assert path_of(shown) == [("a", "usage_limit"), ("b", "usage_limit"), ("a", None)]
    assert time.monotonic() - began >= 4, "a reset that is told is waited for"
    kinds = [event["kind"] for event in earth.events("tired")]
    assert kinds == [
        *("started", "bumped", "started", "bumped", "exhausted"),
        *("returned", "started", "succeeded"),
    ]
    assert len(earth.notices("chain_exhausted", "tired")) == 1
    assert len(earth.notices("tier_returned", "tired")) == 1
    status = earth.status("tired")
    assert (status["active_tier"], status["exhausted"]) == ("tired-a", False)
    assert status["last_failure_kind"] == "usage_limit", "a return is no failure"


def test_a_tier_on_probation_runs_one_task_until_one_succeeds(earth: World, tmp_path: Path) -> None:
    """Whoever comes back from a vendor's hold gets one task; others use the next tier until that one is done."""
    gate = tmp_path / "gate"
    limited = {"failure": "usage_limit", "reset": 1}
    earth.chain("trial", {"a": [limited, {"gate": str(gate)}, {}], "b": [{}]})
    assert path_of(earth.do("trial")) == [("a", "usage_limit"), ("b", None)]
    earth.until(lambda: earth.tier("trial", "a")["state"] == "probation", "it is back")
    first = earth.begin("trial")
    earth.until(lambda: earth.task(first)["state"] == "running", "the trial runs")
    assert path_of(earth.do("trial")) == [("b", None)]
    gate.touch()
    assert path_of(earth.ended(first)) == [("a", None)]
    assert earth.tier("trial", "a")["state"] == "active"
    assert path_of(earth.do("trial")) == [("a", None)]


def test_one_bad_task_never_holds_a_tier_but_two_do(earth: World) -> None:
    """A task that crashes everywhere fails alone; only when another task crashes there too is a tier held."""
    crash = {"failure": "crash"}
    earth.chain("rotten", {"a": [crash, {}, crash, crash], "b": [crash, {}]})
    bad = earth.do("rotten")
    assert (bad["state"], bad["reason_code"]) == ("failed", "every_tier")
    assert path_of(bad) == [("a", "crash"), ("b", "crash")]
    assert all(tier["hold"] is None for tier in earth.status("rotten")["tiers"])
    assert path_of(earth.do("rotten")) == [("a", None)]
    assert path_of(earth.do("rotten")) == [("a", "crash"), ("b", None)]
    assert earth.tier("rotten", "a")["hold"] is None, "a success had cleared the first suspicion"
    assert path_of(earth.do("rotten")) == [("a", "crash"), ("b", None)]
    hold = earth.tier("rotten", "a")["hold"]
    assert hold["kind"] == "crash"
    assert 30 < seconds_until(hold["until"]) <= 60


def test_a_kind_left_out_of_triggers_fails_the_task(earth: World) -> None:
    """With a trigger left out its failure ends the task and `run` with code 1; the chain stays where it is."""
    earth.chain("deaf", {"a": [{"failure": "server_error"}], "b": [{}]}, triggers=["auth_error"])
    done = earth.run("run", "--chain", "deaf", "--cwd", str(earth.place()), "work")
    assert done.returncode == 1, done.stderr
    status = earth.status("deaf")
    assert status["last_failure_kind"] == "server_error"
    assert status["active_tier"] == "deaf-a"
    assert earth.tier("deaf", "a")["hold"] is None
    assert earth.notices("tier_bumped", "deaf") == []


def test_a_late_failure_bumps_nobody_else(earth: World, tmp_path: Path) -> None:
    """Three tasks that fail on one tier at once cost the chain that one tier."""
    gate = tmp_path / "gate"
    late = {"gate": str(gate), "failure": "auth_error"}
    earth.chain("cascade", {"a": [late], "b": [{}], "c": [{}]})
    tasks = [earth.begin("cascade") for _ in range(3)]
    earth.until(lambda: earth.status("cascade")["running"] == 3, "all run")
    gate.touch()
    for task in tasks:
        assert path_of(earth.ended(task)) == [("a", "auth_error"), ("b", None)]
    assert earth.status("cascade")["active_tier"] == "cascade-b"
    assert len(earth.notices("tier_bumped", "cascade")) == 1


def test_the_next_tier_is_told_what_happened(earth: World) -> None:
    """The hand-over note says why the last attempt ended and what it said; the prompt follows whole."""
    earth.chain(
        "relay", {"a": [{"say": "half of it is in draft.md", "failure": "crash", "message": "boom"}], "b": [{}]}
    )
    earth.do("relay", "write the report")
    assert earth.prompts("relay", "a") == ["write the report"]
    (note,) = earth.prompts("relay", "b")
    assert note.startswith("[hand-over note")
    assert "crash: boom" in note
    assert "working directory may hold its partial work" in note
    assert "half of it is in draft.md" in note
    assert note.endswith("\nwrite the report")


def test_no_wait_ends_at_once_with_75(earth: World) -> None:
    """With every tier held, `--no-wait` fails the task now, with exit code 75 and the reason."""
    earth.chain("closed", {"a": [{}]})
    earth.client.post("/chains/closed/bump", {"reason": "maintenance"})
    done = earth.run("run", "--chain", "closed", "--no-wait", "--cwd", str(earth.place()), "work")
    assert done.returncode == 75, done.stderr
    assert "no tier is available" in done.stdout + done.stderr
    assert earth.status("closed")["queued"] == 0


def test_the_operator_bumps_and_releases(earth: World) -> None:
    """A bump holds the active tier until it is released; the release gives it back at once."""
    earth.chain("manual", {"a": [{}], "b": [{}]})
    answer = earth.client.post("/chains/manual/bump", {"reason": "quota for the demo"})
    assert (answer["tier"], answer["active_tier"]) == ("manual-a", "manual-b")
    hold = earth.tier("manual", "a")["hold"]
    assert hold == {**hold, "kind": "operator", "until": None, "reason": "quota for the demo"}
    assert earth.status("manual")["last_failure_kind"] == "operator"
    assert path_of(earth.do("manual")) == [("b", None)]
    assert earth.client.post("/chains/manual/release", {"tier": "manual-a"})["active_tier"] == "manual-a"
    assert path_of(earth.do("manual")) == [("a", None)]


def test_a_bump_for_a_time_ends_by_itself(earth: World) -> None:
    """A bump with a length of time returns when it is over, idle or not, and without probation."""
    earth.chain("brief", {"a": [{}], "b": [{}]})
    earth.client.post("/chains/brief/bump", {"tier": "brief-a", "for": "1s"})
    assert 0 < seconds_until(earth.tier("brief", "a")["hold"]["until"]) <= 1
    earth.until(lambda: [event["kind"] for event in earth.events("brief")][-1] == "returned", "it returns")
    assert earth.tier("brief", "a")["state"] == "active"


def test_a_paused_chain_starts_nothing_and_resumes(earth: World, tmp_path: Path) -> None:
    """A pause lets what runs finish and keeps what waits; a resume goes on with it."""
    gate = tmp_path / "gate"
    earth.chain("still", {"a": [{"gate": str(gate)}, {}]})
    running = earth.begin("still")
    earth.until(lambda: earth.status("still")["running"] == 1, "it runs")
    earth.client.post("/chains/still/pause")
    waiting = earth.begin("still")
    gate.touch()
    assert earth.ended(running)["state"] == "done"
    time.sleep(0.3)  # long enough for a wrong start to show
    assert earth.task(waiting)["state"] == "queued"
    assert earth.status("still")["paused"] is True
    earth.client.post("/chains/still/resume")
    assert earth.ended(waiting)["state"] == "done"


def test_cancel_ends_what_waits_and_what_runs(earth: World, tmp_path: Path) -> None:
    """A queued task is cancelled at once, a running one through its agent; neither counts as a failure."""
    earth.chain("stopped", {"a": [{"gate": str(tmp_path / "never")}]})
    place = earth.place()
    running = earth.begin("stopped", cwd=place)
    earth.until(lambda: earth.task(running)["state"] == "running", "it runs")
    waiting = earth.begin("stopped", cwd=place)
    assert earth.client.post(f"/tasks/{waiting}/cancel")["state"] == "cancelled"
    earth.client.post(f"/tasks/{running}/cancel")
    task = earth.ended(running)
    assert task["state"] == "cancelled"
    assert [run["state"] for run in task["runs"]] == ["stopped"]
    assert earth.status("stopped")["last_failure_kind"] is None


def test_one_run_at_a_time_in_a_working_directory(earth: World, tmp_path: Path) -> None:
    """Two tasks never work in one directory together, unless that was asked for; a link is no way around it."""
    gate = tmp_path / "gate"
    earth.chain("shared", {"a": [{"gate": str(gate)}]})
    place = earth.place()
    (tmp_path / "link").symlink_to(place)
    first = earth.begin("shared", cwd=place)
    earth.until(lambda: earth.task(first)["state"] == "running", "the first runs")
    second, beside = earth.begin("shared", cwd=tmp_path / "link"), earth.begin("shared", cwd=place, shared_cwd=True)
    earth.until(lambda: earth.task(beside)["state"] == "running", "the shared one runs")
    assert earth.task(second)["state"] == "queued"
    gate.touch()
    assert [earth.ended(task)["state"] for task in (first, second, beside)] == ["done"] * 3
