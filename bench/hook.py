"""What a hook costs its agent: curl to the daemon, beside the same curl to a server that answers nothing."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import quiet_server
from bench.rounds import TIMES, interleaved, median, short, told
from bench.subject import Found, Limit, Subject
from tests.harness import Daemon, running, until

SERVICE: dict[str, Any] = {
    "usage_threshold_tokens": 10**12,
    "usage_reset": "week",
    "failover": {"tiers": [{"name": "a", "agent": "claude-code"}]},
}
CURL = ("curl", "-q", "-sS", "-f", "--noproxy", "*", "--max-time", "5")
SENT = ("-H", "content-type: application/json", "--data-binary", "@-")
"""With CURL, what an agent's hook runs: it fails when it is refused."""


@dataclass(frozen=True, slots=True)
class Call:
    """One way of calling: the path, and what is sent the next time."""

    path: str
    body: Callable[[], dict[str, Any]]


@dataclass
class Session:
    """A session of Claude Code that a person works in: before each prompt its transcript has grown by an answer."""

    home: Path
    id: str = ""

    def __post_init__(self) -> None:
        self.id = str(uuid.uuid4())
        self.transcript.parent.mkdir(parents=True)

    @property
    def transcript(self) -> Path:
        """Where the agent writes what is said."""
        return self.home / "projects" / "work" / f"{self.id}.jsonl"

    def prompt(self) -> dict[str, Any]:
        """What the hook is given when the next prompt is typed."""
        with self.transcript.open("a") as file:
            file.write(json.dumps(self._answer()) + "\n")
        return {
            "session_id": self.id,
            "transcript_path": str(self.transcript),
            "cwd": str(self.home),
            "hook_event_name": "UserPromptSubmit",
            "prompt_id": str(uuid.uuid4()),
            "prompt": "fix the failing test",
        }

    def _answer(self) -> dict[str, Any]:
        usage = {"input_tokens": 0, "output_tokens": 0, "cache_read_input_tokens": 1, "cache_creation_input_tokens": 0}
        content = [{"type": "text", "text": "It is fixed. " * 100}]
        message = {"id": f"msg_{uuid.uuid4().hex}", "role": "assistant", "model": "opus", "content": content}
        now = datetime.now(UTC).isoformat()
        return {"type": "assistant", "sessionId": self.id, "timestamp": now, "message": {**message, "usage": usage}}


def measure(folder: Path, rounds: int = 150, warm_up: int = 5) -> Found:
    """Call the one and the other, in turn."""
    session, numbers = Session(folder / "claude"), itertools.count()

    def report() -> dict[str, Any]:
        tokens = {"input": 10, "output": 5}
        return {"chain": "default", "tier": "a", "id": f"bench-{next(numbers)}", "tokens": tokens}

    calls = {
        "post-task": Call("/hooks/post-task", report),
        "claude-code": Call("/hooks/claude-code?chain=default&tier=a", session.prompt),
    }
    with running(Daemon(folder, SERVICE)) as daemon, _quiet(folder / "quiet.sock") as quiet:
        servers = {"locum": daemon.client.paths[0], "nothing": quiet}
        environ = {**daemon.env, "CLAUDE_CONFIG_DIR": str(session.home)}
        arms = {
            f"{name}: {server}": lambda socket=socket, call=call: _curl(socket, call, environ)
            for name, call in calls.items()
            for server, socket in servers.items()
        }
        times = interleaved(arms, rounds, warm_up)
        until(lambda: _counted(daemon)["cache_read"] > 0, "the transcript is counted")
        assert _counted(daemon)["input"] == 10 * (warm_up + rounds), "every report was counted, once"
    found = {name: median(each) for name, each in times.items()}
    added = [
        (f"{name}: what locum adds", f"{short(found[f'{name}: locum'] - found[f'{name}: nothing'])} ms")
        for name in calls
    ]
    return Found(
        tuple(found[f"{name}: locum"] / found[f"{name}: nothing"] for name in calls),
        (*((name, told(each, "ms")) for name, each in times.items()), *added),
    )


def _curl(socket: Path, call: Call, environ: dict[str, str]) -> float:
    """Milliseconds from the start of the hook's process to its end."""
    argv = [*CURL, "--unix-socket", str(socket), *SENT, f"http://locum{call.path}"]
    body = json.dumps(call.body()).encode()
    began = time.perf_counter()
    subprocess.run(argv, input=body, env=environ, capture_output=True, check=True)
    return (time.perf_counter() - began) * 1000


def _counted(daemon: Daemon) -> dict[str, int]:
    found: dict[str, int] = daemon.client.get("/usage")["totals"]
    return found


@contextmanager
def _quiet(path: Path) -> Iterator[Path]:
    """The server that answers nothing, as a process of its own."""
    server = subprocess.Popen([sys.executable, os.fspath(quiet_server.__file__), str(path)])
    try:
        until(path.is_socket, "the quiet server listens", alive=lambda: server.poll() is None)
        yield path
    finally:
        server.terminate()
        server.wait(10)


SUBJECT = Subject(
    name="hook",
    limits=(
        Limit("post-task hook round trip beside the same curl to a server that answers nothing, p50", 2, TIMES),
        Limit("Claude Code's prompt hook beside the same, p50", 2, TIMES),
    ),
    how=(
        "The command that agents run as their hook, `curl --unix-socket … --data-binary @-`, from the start of its "
        "process to its end: to a real daemon, and in turn to a bare server (uvloop, httptools) that reads the same "
        "request and answers 204. `post-task` reports usage under a new id each time, which is durable when it is "
        "answered; `claude-code` asks whether a prompt may go ahead, in a session whose transcript has grown by an "
        "answer since the last time."
    ),
    measure=measure,
    tiny={"rounds": 1, "warm_up": 0},
)
