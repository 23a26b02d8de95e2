"""Promises about sessions that nobody tells of: the real daemon, real recorded rows, and files as agents write them."""

from __future__ import annotations

import json
import re
import stat
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.harness import Daemon, running, until

CORPUS = Path(__file__).resolve().parents[2] / "src/locum/agents/corpus"
THREAD = "019ab3c1-0000-7000-8000-000000000001"
MOMENT = re.compile(rb'("timestamp":\s?")[^"]+"')
CLAUDE = """#!{python}
import json, os, pathlib, sys, time
from datetime import UTC, datetime
argv = sys.argv
session = argv[argv.index("--session-id") + 1]
folder = pathlib.Path(os.environ["CLAUDE_CONFIG_DIR"], "projects", "-work")
folder.mkdir(parents=True, exist_ok=True)
usage = {{"input_tokens": 100, "output_tokens": 7, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 5}}
message = {{"id": "msg_1", "role": "assistant", "model": "opus", "content": [], "usage": usage}}
now = datetime.now(UTC).isoformat()
row = {{"type": "assistant", "sessionId": session, "timestamp": now, "message": message}}
(folder / f"{{session}}.jsonl").write_text(json.dumps(row) + "\\n")
time.sleep(2)
total = {{"inputTokens": 100, "outputTokens": 7, "cacheReadInputTokens": 30, "cacheCreationInputTokens": 5}}
for event in (
    {{"type": "system", "subtype": "init", "session_id": session, "model": "opus"}},
    {{"type": "assistant", "session_id": session, "message": message}},
    {{"type": "result", "subtype": "success", "is_error": False, "num_turns": 1, "result": "done",
      "session_id": session, "modelUsage": {{"opus": total}}}},
):
    print(json.dumps(event), flush=True)
"""


def recorded(agent: str, case: str) -> tuple[bytes, dict[str, int]]:
    """A recorded transcript as if it were written now, and what a person read from it."""
    folder = CORPUS / agent / case
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()
    data = MOMENT.sub(rb"\g<1>" + now + b'"', (folder / "transcript.jsonl").read_bytes())
    expected: dict[str, int] = json.loads((folder / "expected.json").read_text())["usage"]
    return data, expected


def tokens(found: dict[str, Any]) -> dict[str, int]:
    """The counts by type, without their sum."""
    return {kind: count for kind, count in found["totals"].items() if kind != "total"}


def append(path: Path, data: bytes) -> None:
    """As an agent does: open, write, close."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(data)


def test_what_is_typed_by_hand_counts_while_it_is_written(tmp_path: Path) -> None:
    """Recorded sessions of two agents, written in pieces into homes that are made only then, over a kill -9: each
    tier's window has exactly what was recorded, within seconds, and it is said which homes are watched.
    """
    homes = {"claude-code": tmp_path / "claude", "codex": tmp_path / "codex"}
    tiers = [{"name": agent, "agent": agent, "home": str(home)} for agent, home in homes.items()]
    cases = {"claude-code": ("tool", "projects/-work/s-1.jsonl"), "codex": ("tool", f"sessions/rollout-{THREAD}.jsonl")}
    daemon = Daemon(tmp_path / "daemon", {"failover": {"tiers": tiers}})

    def counted(agent: str) -> dict[str, int]:
        return tokens(daemon.client.get("/usage")["tiers"][agent])

    def watched() -> dict[str, Any]:
        return {each["agent"]: each for each in daemon.client.get("/status")["usage_sources"]["homes"]}

    with running(daemon):
        until(lambda: len(watched()) == 2, "both homes are watched")
        wholes = {agent: recorded(agent, case) for agent, (case, _) in cases.items()}
        for agent, (data, _) in wholes.items():
            append(homes[agent] / cases[agent][1], data[: len(data) // 2])
        time.sleep(0.7)
        daemon.kill()
        for agent, (data, _) in wholes.items():
            append(homes[agent] / cases[agent][1], data[len(data) // 2 : -20])
        daemon.start()
        until(lambda: all(each["there"] for each in watched().values()), "both homes are there")
        for agent, (data, expected) in wholes.items():
            append(homes[agent] / cases[agent][1], data[-20:])
            until(lambda agent=agent, expected=expected: counted(agent) == expected, f"{agent} is counted")  # type: ignore[misc]
            append(homes[agent] / cases[agent][1].replace("s-1", "fork").replace("0001", "0002"), data)
        time.sleep(1.5)
        assert {agent: counted(agent) for agent in homes} == {agent: each for agent, (_, each) in wholes.items()}
        shown = daemon.run("usage").stdout
        for agent, home in homes.items():
            assert re.search(
                rf"watched: {agent} in {home}/\w+, for tier {agent}: 2 transcripts, since .*, last c", shown
            )
        assert daemon.client.get("/audit")["clean"]


def test_a_run_whose_transcript_is_seen_first_counts_once(tmp_path: Path) -> None:
    """The file is there two seconds before the run's stream names its session: the run has its tokens, and no more."""
    program = tmp_path / "claude"
    program.write_text(CLAUDE.format(python=sys.executable))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    tier = {"name": "a", "agent": "claude-code", "home": str(tmp_path / "home"), "program": str(program)}
    told = {"input": 100, "output": 7, "cache_read": 30, "cache_write": 5}
    with running(Daemon(tmp_path / "daemon", {"failover": {"tiers": [tier]}})) as daemon:
        task = daemon.submit("do it")
        until(lambda: tokens(daemon.client.get("/usage")["tiers"]["a"]) == told, "its transcript is counted")
        assert daemon.task(task)["runs"][0]["session"] is None, "nobody knows yet whose session that is"
        (run,) = daemon.ended(task)["runs"]
        assert {kind: run["tokens"][kind] for kind in told} == told
        time.sleep(1.5)
        found = daemon.client.get("/usage")
        assert tokens(found) == tokens(found["tiers"]["a"]) == tokens(found["accounts"][f"claude-code@{tier['home']}"])
        assert (tokens(found), found["unattributed"]["totals"]["total"]) == (told, 0)
        assert daemon.client.get("/audit")["clean"]
