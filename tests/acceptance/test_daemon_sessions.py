"""Promises of sessions: Claude Code goes on where it was, is counted once, and starts anew when its session is gone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.corpus.replay import CORPUS
from tests.harness import World, path_of, world

CLAUDE = CORPUS / "claude-code"

FAKE = """#!/bin/sh
# Plays folder after folder: its recorded standard output and error, transcript and exit code.
here=$(dirname "$0")
number=$(($(cat "$here/played" 2>/dev/null || echo 0) + 1))
echo $number >"$here/played"
step="$here/$number"
cat >"$step/stdin"
for each; do echo "$each"; done >"$step/argv"
session=
previous=
for each; do
  case $previous in --session-id | --resume) session=$each ;; esac
  previous=$each
done
if [ -e "$step/transcript" ]; then
  mkdir -p "$CLAUDE_CONFIG_DIR/projects/here"
  sed "s/SESSION/$session/g" "$step/transcript" >>"$CLAUDE_CONFIG_DIR/projects/here/$session.jsonl"
fi
sed "s/SESSION/$session/g" "$step/out"
cat "$step/err" >&2
exit $(cat "$step/exit")
"""


class Fake:
    """A `claude` that plays what it is given, run after run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = folder / "claude"
        self.program.write_text(FAKE)
        self.program.chmod(0o755)
        self.steps = 0

    def plays(self, out: str, *, err: str = "", code: int = 0, transcript: str = "") -> None:
        """What the next run does; SESSION stands for the session it is given."""
        self.steps += 1
        step = self.folder / f"{self.steps}"
        step.mkdir()
        for name, text in (("out", out), ("err", err), ("exit", str(code)), ("transcript", transcript)):
            (step / name).write_text(text)

    def replays(self, case: str) -> None:
        """The next run is a recorded one."""
        folder = CLAUDE / case
        texts = {path.name: path.read_text() for path in folder.iterdir()}
        session = json.loads(texts["meta.json"]).get("chosen", "no session")
        self.plays(
            texts.get("stdout", "").replace(session, "SESSION"),
            err=texts.get("stderr", ""),
            code=json.loads(texts["meta.json"])["exit"],
            transcript=texts.get("transcript.jsonl", "").replace(session, "SESSION"),
        )

    def argv(self, number: int) -> list[str]:
        """What that run was called with."""
        return (self.folder / f"{number}" / "argv").read_text().splitlines()

    def stdin(self, number: int) -> str:
        """What that run read."""
        return (self.folder / f"{number}" / "stdin").read_text()

    def session(self, number: int, option: str) -> str:
        """The session that run was given with that option."""
        argv = self.argv(number)
        return argv[argv.index(option) + 1]


@pytest.fixture(scope="module")
def earth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One daemon for all tests of this file."""
    with world(tmp_path_factory.mktemp("sessions")) as made:
        yield made


def chain_of(earth: World, name: str, *more: dict[str, Any]) -> Fake:
    """A chain of one fake Claude Code with a home of its own, and of further tiers."""
    stage = earth.stage(name)
    (stage / "home").mkdir()
    fake = Fake(stage)
    tier = {"name": f"{name}-a", "agent": "claude-code", "program": str(fake.program), "home": str(stage / "home")}
    earth.chain_of(name, [tier, *more])
    return fake


def spent(case: str) -> int:
    """What a recorded run cost."""
    return sum(json.loads((CLAUDE / case / "expected.json").read_text())["usage"].values())


def message(number: int, tokens: int, said: str) -> str:
    """One assistant message of the stream, as a line."""
    usage = {"input_tokens": tokens, "output_tokens": 1}
    body = {"id": f"msg_{number}", "model": "m", "usage": usage, "content": [{"type": "text", "text": said}]}
    return json.dumps({"type": "assistant", "session_id": "SESSION", "sessionId": "SESSION", "message": body}) + "\n"


def init() -> str:
    """The first line of the stream."""
    return json.dumps({"type": "system", "subtype": "init", "session_id": "SESSION", "model": "m"}) + "\n"


def test_recorded_runs_are_counted_to_the_token(earth: World) -> None:
    """A recorded success, stream and transcript together, costs exactly what was recorded, and says what it said."""
    fake = chain_of(earth, "recorded")
    fake.replays("ok.stream")
    task = earth.do("recorded")
    assert path_of(task) == [("a", None)]
    assert task["runs"][0]["tokens"]["total"] == spent("ok.stream") > 0
    assert task["said"]
    assert task["runs"][0]["session"] == fake.session(1, "--session-id")


def test_a_throttled_session_is_resumed_on_the_same_account(earth: World) -> None:
    """The second attempt resumes the session with a short word, not with the prompt; both are counted once."""
    fake = chain_of(earth, "resumed")
    failed = {"type": "result", "subtype": "success", "is_error": True, "result": "Overloaded", "api_error_status": 529}
    transcript = message(1, 100, "half done")
    fake.plays(init() + transcript + json.dumps(failed) + "\n", code=1, transcript=transcript)
    done = {"type": "result", "subtype": "success", "is_error": False, "num_turns": 2, "result": "all done"}
    again = message(2, 50, "all done")
    fake.plays(init() + again + json.dumps(done) + "\n", transcript=again)
    task = earth.do("resumed", "write the report")
    assert path_of(task) == [("a", "overloaded"), ("a", None)]
    assert fake.session(2, "--resume") == fake.session(1, "--session-id")
    assert fake.stdin(1) == "write the report"
    assert fake.stdin(2) == "Continue; do not redo finished work."
    assert (task["said"], earth.client.get("/usage")["chains"]["resumed"]["totals"]["total"]) == ("all done", 152)


def test_a_lost_session_starts_anew_with_the_whole_prompt(earth: World) -> None:
    """A session that is gone costs no attempt and holds nothing: a new one gets the note and the whole prompt."""
    fake = chain_of(earth, "lost")
    failed = {"type": "result", "subtype": "success", "is_error": True, "result": "Overloaded", "api_error_status": 529}
    fake.plays(init() + message(11, 100, "half done") + json.dumps(failed) + "\n", code=1)
    fake.replays("badresume")
    fake.replays("ok.stream")
    task = earth.do("lost", "write the report")
    assert task["state"] == "done"
    assert [run["failure"] for run in task["runs"]] == ["overloaded", "invalid_request", None]
    assert "--resume" in fake.argv(2)
    assert "--resume" not in fake.argv(3)
    assert fake.session(3, "--session-id") != fake.session(1, "--session-id")
    assert fake.stdin(3).endswith("\nwrite the report")
    assert "half done" in fake.stdin(3)
    assert earth.tier("lost", "a")["hold"] is None


def test_another_account_gets_the_note_and_not_the_session(earth: World) -> None:
    """A task that moves to another login carries what was said last, and the whole prompt, into a new session."""
    stage = earth.stage("moved")
    other = stage / "other"
    other.mkdir()
    second = Fake(other)
    tier = {"name": "moved-b", "agent": "claude-code", "program": str(second.program), "home": str(other)}
    fake = chain_of(earth, "moved", tier)
    fake.replays("auth.r1")
    second.replays("ok.stream")
    task = earth.do("moved", "write the report")
    assert path_of(task) == [("a", "auth_error"), ("b", None)]
    assert "--resume" not in second.argv(1)
    assert second.stdin(1).startswith("[hand-over note")
    assert second.stdin(1).endswith("\nwrite the report")


def test_a_session_is_resumed_by_the_next_daemon(tmp_path: Path) -> None:
    """A clean stop in the middle of a session: the next daemon goes on in that session."""
    with world(tmp_path, {"limits": {"stop_grace": "1s"}}) as earth:
        fake = chain_of(earth, "later")
        fake.plays(init() + message(21, 10, "begun"), code=0)
        fake.program.write_text(FAKE.replace("exit $(cat", "[ $number = 1 ] && sleep 60\nexit $(cat"))
        task = earth.begin("later", "write the report")
        earth.until(
            lambda: bool(earth.task(task)["runs"]) and bool(earth.task(task)["runs"][0]["session"]), "a session"
        )
        assert earth.stop() == 0
        done = {"type": "result", "subtype": "success", "is_error": False, "num_turns": 2, "result": "all done"}
        fake.plays(init() + json.dumps(done) + "\n")
        earth.start()
        assert earth.ended(task)["said"] == "all done"
        assert fake.session(2, "--resume") == fake.session(1, "--session-id")
