"""Promises to people who run their agents themselves: the real daemon, and hooks called as agents call them, by curl."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import LOCUM, Daemon, World, running, scripted, until, world
from tests.unit.web.sessions import AUTH, row

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="hooks are called by curl")
MOST_MEMORY_KB = 200 << 10


class Person:
    """Somebody's agent: it writes its transcript, and calls its hooks as it was told at their installation."""

    def __init__(self, daemon: Daemon, session: str = "s-1", query: str = "") -> None:
        self.daemon, self.session, self.query = daemon, session, query
        self.transcript = daemon.folder / "home/.claude/projects/-work" / f"{session}.jsonl"
        self.transcript.parent.mkdir(parents=True, exist_ok=True)
        self.turn = 0

    def spend(self, key: str, tokens: int) -> None:
        """One answer of the model."""
        with self.transcript.open("ab") as file:
            file.write(row(self.session, key, tokens))

    def call(self, path: str, body: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        """One call of curl."""
        address = ("--unix-socket", str(self.daemon.state / "locum.sock"), f"http://locum{path}")
        env = {"PATH": os.environ["PATH"], "HOME": str(self.daemon.folder / "home")}
        argv = ["curl", "-sS", "--max-time", "10", "--data-binary", "@-", *address]
        return subprocess.run(
            argv, env=env, input=json.dumps(body), capture_output=True, text=True, timeout=30, check=False
        )

    def hook(self, event: str, **more: Any) -> dict[str, Any]:
        """Call a hook; its answer."""
        told = {"hook_event_name": event, "session_id": self.session, "transcript_path": str(self.transcript)}
        done = self.call(f"/hooks/claude-code{self.query}", {**told, "prompt_id": f"prompt-{self.turn}", **more})
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def prompt(self) -> dict[str, Any]:
        """Begin a turn."""
        self.turn += 1
        return self.hook("UserPromptSubmit")

    def stop(self, key: str, tokens: int) -> dict[str, Any]:
        """End a turn that spent so much."""
        self.spend(key, tokens)
        return self.hook("Stop")


def service(stage: Path, **more: Any) -> dict[str, Any]:
    """A chain of one tier that people use themselves, and one that the daemon runs."""
    stage.mkdir(parents=True, exist_ok=True)
    return {
        "failover": {"tiers": [{"name": "max", "agent": "claude-code"}, scripted({}, name="house", stage=stage)]},
        **more,
    }


def daemon(folder: Path, **more: Any) -> Daemon:
    """A daemon whose home is the person's."""
    (folder / "home").mkdir()
    return Daemon(folder, service(folder / "stage", **more), {"HOME": str(folder / "home"), "TZ": "UTC"})


def total(of: Daemon, chain: str = "default") -> int:
    """What a chain has used."""
    found: int = of.client.get("/usage")["chains"][chain]["totals"]["total"]
    return found


def clean(of: Daemon) -> None:
    """See that the ledger adds up."""
    report = of.client.get("/audit")
    assert (report["clean"], report["problems"]) == (True, [])


@pytest.fixture(scope="module")
def budgeted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon with a budget of a thousand tokens a day."""
    with running(daemon(tmp_path_factory.mktemp("budget"), usage_threshold_tokens=1000, usage_reset="day")) as made:
        yield made


def test_a_day_with_a_low_budget(budgeted: Daemon) -> None:
    """Asked, spent, stopped, shown why in every way there is, released, and asked again."""
    me = Person(budgeted)
    assert me.prompt() == {}
    assert me.stop("m1", 600) == {}
    assert me.prompt() == {}
    assert me.stop("m2", 600) == {}
    answer = me.prompt()
    assert answer["decision"] == "block"
    for words in ("tier max is held until", "token_budget", "1,200 of 1,000 tokens", "runs on house meanwhile"):
        assert words in answer["reason"], answer
    assert me.hook("PreToolUse", tool_name="Bash") == {}, "a turn in progress may end"
    status = budgeted.run("status").stdout
    assert "active tier house" in status
    assert "token_budget until" in status
    assert "1,200 of 1,000 tokens (120 %)" in budgeted.run("usage").stdout
    explained = budgeted.run("explain").stdout
    assert "max is held until" in explained
    assert "`locum release --tier max`" in explained
    assert "`locum release --tier max`" in answer["reason"]
    task = budgeted.ended(budgeted.submit("stand in"))
    assert [run["tier"] for run in task["runs"]] == ["house"]
    assert budgeted.run("release", "--tier", "max").returncode == 0
    assert me.prompt() == {}
    assert me.stop("m3", 600) == {}
    assert me.prompt() == {}, "a budget that has fired does not fire again in its window"
    assert total(budgeted) == 1800
    clean(budgeted)


def test_tokens_of_nobody_are_shown_with_what_to_do(budgeted: Daemon) -> None:
    """Hooks that name a tier which is not there: the session is told, and the operator sees its tokens and why."""
    me = Person(budgeted, "s-nobody", "?tier=gone")
    assert "has no tier gone" in me.stop("n1", 77)["systemMessage"]
    shown = budgeted.run("usage").stdout
    assert "no tier" in shown
    assert "77 tokens in all" in shown
    assert "Install their hooks with --tier NAME" in shown


def test_a_failed_turn_moves_the_chain(tmp_path: Path) -> None:
    """A login that was refused in somebody's terminal holds the account, and is told like any other failure."""
    with running(daemon(tmp_path)) as made:
        me = Person(made)
        me.prompt()
        me.spend("m1", 5)
        for _ in range(2):
            me.hook("StopFailure", **AUTH)
        chain = made.client.get("/status")["chains"]["default"]
        assert (chain["active_tier"], chain["last_failure_kind"]) == ("house", "auth_error")
        assert "auth_error" in me.prompt()["reason"]
        kinds = [notice["kind"] for notice in made.client.get("/notices")["notices"]]
        assert kinds == ["tier_bumped"]


def test_what_is_told_while_the_daemon_is_killed_counts_once(tmp_path: Path) -> None:
    """Killed between two hooks and in the middle of many: a hold outlives it, every row counts once in the end."""
    made = daemon(tmp_path, usage_threshold_tokens=1_000_000)
    made.start()
    try:
        people = [Person(made, f"s-{number}") for number in range(3)]
        spent = 0
        people[0].spend("first", 1)
        people[0].hook("StopFailure", **AUTH)
        for kills in range(4):
            for number, me in enumerate(people):
                me.spend(f"{number}-{kills}", 10)
                spent += 10
            calls = [
                threading.Thread(target=me.call, args=(f"/hooks/claude-code?n={turn}", _told(me, event)))
                for turn, event in enumerate(("Stop", "SessionEnd"))
                for me in people
            ]
            for call in calls:
                call.start()
            time.sleep(0.02 * kills)
            made.kill()
            for call in calls:
                call.join()
            refused = people[0].call("/hooks/claude-code", _told(people[0], "Stop"))
            assert refused.returncode == 7, "a daemon that is not there is told at once"
            people[1].spend(f"away-{kills}", 1)
            spent += 1
            made.start()
        assert people[0].prompt()["decision"] == "block"
        for me in people:
            me.hook("SessionEnd")
        until(lambda: total(made) >= spent + 1, "all is counted", log=made.log)
        assert total(made) == spent + 1
        clean(made)
    finally:
        made.stop()


def _told(me: Person, event: str) -> dict[str, Any]:
    return {"hook_event_name": event, "session_id": me.session, "transcript_path": str(me.transcript)}


def test_a_huge_transcript_and_a_huge_body_leave_the_daemon_small(tmp_path: Path) -> None:
    """300 MB of rows and a hook of 100 MB: answered in time, others at once, and the memory stays as it was."""
    with running(daemon(tmp_path)) as made:
        me, other = Person(made), Person(made, "s-2")
        rows = b"".join(row(me.session, f"m{number}", 1) for number in range(5000)) + b'{"type":"user"}\n' * 5000
        with me.transcript.open("wb") as file:
            for _ in range((300 << 20) // len(rows)):
                file.write(rows)
        file_of_zeros = tmp_path / "zeros"
        with file_of_zeros.open("wb") as file:
            file.truncate(100 << 20)
        began = time.monotonic()
        me.hook("Stop")
        assert time.monotonic() - began < 6
        began = time.monotonic()
        other.stop("o1", 7)
        assert time.monotonic() - began < 3
        address = ("--unix-socket", str(made.state / "locum.sock"), "http://locum/hooks/claude-code")
        argv = ["curl", "-sS", "--max-time", "20", "--data-binary", f"@{file_of_zeros}", "-w", "%{http_code}", *address]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
        assert "413" in done.stdout, (done.stdout, done.stderr)
        until(lambda: total(made) >= 5007, "all is counted", 60, made.log)
        assert total(made) == 5007
        assert made.process is not None
        peak = Path(f"/proc/{made.process.pid}/status").read_text().partition("VmHWM:")[2].split()[0]
        assert int(peak) < MOST_MEMORY_KB
        clean(made)


# ── agents of ours ───────────────────────────────────────────────────────────────────────────────────────

SCRIPT = """
report() { curl -sS --unix-socket "$SOCKET" --data-binary @- http://locum/hooks/post-task; echo; }
echo '{"id":"sub-1","tokens":{"input":11}}' | report >"$OUT/own"
echo '{"id":"sub-1","tokens":{"input":11}}' | report >"$OUT/again"
echo '{"id":"sub-2","chain":"kept","tier":"kept-b","failure":{"kind":"auth_error"}}' | report >"$OUT/other"
echo '{"id":"sub-3","failure":{"kind":"auth_error"}}' | report >"$OUT/failed"
"$LOCUM" bump kept >"$OUT/bump" 2>&1; echo $? >>"$OUT/bump"
"$LOCUM" release kept >"$OUT/release" 2>&1; echo $? >>"$OUT/release"
env -u LOCUM_RUN "$LOCUM" release kept >"$OUT/shed" 2>&1; echo $? >>"$OUT/shed"
(setsid "$LOCUM" bump kept >"$OUT/fled" 2>&1; echo $? >>"$OUT/fled")
echo '{"type":"result","status":"ok"}'
"""


def test_an_agent_of_ours_reports_and_reads_but_does_not_steer(tmp_path: Path) -> None:
    """What it reports is its run's and counts once; another tier, a bump and a release are refused (403, 77)."""
    out = tmp_path / "out"
    out.mkdir()
    with world(tmp_path / "earth") as earth:
        env = {
            "SOCKET": str(earth.state / "locum.sock"),
            "OUT": str(out),
            "LOCUM": LOCUM,
            "LOCUM_STATE": str(earth.state),
        }
        first = {"name": "kept-a", "agent": "command", "command": ["sh", "-c", SCRIPT], "env": env}
        second = {"name": "kept-b", "agent": "command", "command": ["true"]}
        earth.chain_of("kept", [first, second])
        earth.client.post("/chains/kept/bump", {"tier": "kept-b", "reason": "the operator's own"})
        task = earth.do("kept")
        assert (task["state"], [run["tier"] for run in task["runs"]]) == ("done", ["kept-a"])
        told = {path.name: path.read_text() for path in out.iterdir()}
        own, again = json.loads(told["own"]), json.loads(told["again"])
        assert (own["tier"], own["duplicate"], own["counted"]["input"]) == ("kept-a", False, 11)
        assert (again["duplicate"], again["counted"]["input"]) == (True, 0)
        assert (json.loads(told["other"])["status"], json.loads(told["failed"])["go_on"]) == (403, True)
        for verb in ("bump", "release", "shed", "fled"):
            assert told[verb].splitlines()[-1] == "77", told[verb]
        assert task["runs"][0]["tokens"]["input"] == 11
        assert [tier["state"] for tier in earth.status("kept")["tiers"]] == ["active", "held"]
        assert earth.status("kept")["last_failure_kind"] == "operator"
        assert earth.client.get("/reports")["reports"] == []
        _hooks_of_a_run(earth)
        clean(earth)


def _hooks_of_a_run(earth: World) -> None:
    """The hooks of a supervised agent answer, and count nothing: its run does."""
    transcript = earth.folder / "t.jsonl"
    body = json.dumps({"hook_event_name": "Stop", "session_id": "s", "transcript_path": str(transcript)})
    call = f"""curl -sS --unix-socket {earth.state}/locum.sock -d '{body}' 'http://locum/hooks/claude-code?tier=base'"""
    script = f'{call} >{earth.folder}/answer; echo \'{{"type":"result","status":"ok"}}\''
    transcript.write_bytes(row("s", "m1", 7))
    earth.chain_of("hooked", [{"name": "hooked-a", "agent": "command", "command": ["sh", "-c", script]}])
    assert earth.do("hooked")["state"] == "done"
    assert json.loads((earth.folder / "answer").read_text()) == {}
    assert earth.client.get("/usage")["unattributed"]["totals"]["total"] == 0
