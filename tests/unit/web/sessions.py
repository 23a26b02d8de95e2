"""Sessions that people run themselves: their transcripts, and the hooks that tell of them."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio

from locum.web.app import build
from locum.web.peer import Peer
from tests.unit.web.asgi import ME, Caller, supervised

CONFIG: dict[str, Any] = {
    "failover": {"tiers": [{"name": "max", "agent": "claude-code"}, {"name": "codex", "agent": "codex"}]}
}
BUDGET = {**CONFIG, "usage_threshold_tokens": 1000, "usage_reset": "day"}
HALT = {**CONFIG, "usage_halt_tokens": 1000, "usage_reset": "day"}
AUTH = {"error": "authentication_failed", "last_assistant_message": "Invalid API key"}


@asynccontextmanager
async def listening(folder: Path, config: dict[str, Any] = CONFIG, *, ready: bool = True):
    """A supervisor that reads transcripts (when `ready`) and starts nothing; it is told to stop at the end."""
    async with supervised(folder, config) as boss, anyio.create_task_group() as group:
        if ready:
            boss.intake.begin(group)
        try:
            yield boss
        finally:
            boss.stop()
            boss.intake.end()


@contextmanager
def process(**environ: str):
    """A real process of this user with such an environment, as a peer."""
    with subprocess.Popen(["sleep", "60"], env={"PATH": os.environ["PATH"], **environ}) as child:
        try:
            yield Peer(child.pid, os.geteuid())
        finally:
            child.kill()


def stamp(ago_s: float = 0) -> str:
    """A moment as agents write it."""
    return (datetime.now(UTC) - timedelta(seconds=ago_s)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def row(session: str, key: str, tokens: int, ago_s: float = 0) -> bytes:
    """A message in Claude Code's transcript."""
    message = {"id": key, "role": "assistant", "model": "claude-sonnet-4-5", "usage": {"input_tokens": tokens}}
    told = {"type": "assistant", "sessionId": session, "timestamp": stamp(ago_s), "message": message}
    return json.dumps(told).encode() + b"\n"


def response(session: str, key: str, tokens: int) -> bytes:
    """A response in Codex's rollout."""
    payload = {"response_id": key, "thread_id": session, "usage": {"input_tokens": tokens}}
    return json.dumps({"timestamp": stamp(), "type": "token_usage_record", "payload": payload}).encode() + b"\n"


def turn_ended(error: str | None = None, ago_s: float = 0) -> bytes:
    """The end of a turn in Codex's rollout, in that error if there is one."""
    failed = {"error": {"message": "You've hit your usage limit.", "codex_error_info": error}} if error else {}
    payload = {"type": "task_complete", "turn_id": "t", **failed}
    return json.dumps({"timestamp": stamp(ago_s), "type": "event_msg", "payload": payload}).encode() + b"\n"


@dataclass
class Session:
    """One session of an agent: `home` is its user's, `query` what was added when its hooks were installed."""

    boss: Any
    home: Path
    id: str = "s-1"
    agent: str = "claude-code"
    query: str = ""
    peer: Peer = ME
    turn: int = 0
    named: Path | None = None
    """The transcript that its hooks name; None: its own."""
    call: Caller = field(init=False)

    def __post_init__(self) -> None:
        """Make the folder that its transcript will lie in."""
        self.call = Caller(build(self.boss), self.peer)
        self.transcript.parent.mkdir(parents=True, exist_ok=True)

    @property
    def transcript(self) -> Path:
        """Where its agent writes."""
        if self.agent == "codex":
            return self.home / ".codex/sessions/2026/11/22" / f"rollout-2026-11-22T05-00-00-{self.id}.jsonl"
        return self.home / ".claude/projects/-srv-project" / f"{self.id}.jsonl"

    def write(self, data: bytes) -> None:
        """Append to the transcript."""
        with self.transcript.open("ab") as file:
            file.write(data)

    def spend(self, key: str, tokens: int) -> None:
        """Append the row of one answer."""
        self.write((response if self.agent == "codex" else row)(self.id, key, tokens))

    async def post(self, event: str, **more: Any) -> tuple[int, Any]:
        """Call a hook; status and answer."""
        told = {
            "hook_event_name": event,
            "session_id": self.id,
            "transcript_path": str(self.named or self.transcript),
            **({"turn_id": f"turn-{self.turn}"} if self.agent == "codex" else {"prompt_id": f"prompt-{self.turn}"}),
            **more,
        }
        body = json.dumps({name: value for name, value in told.items() if value is not None}).encode()
        with anyio.fail_after(20):
            return await self.call.ask("POST", f"/hooks/{self.agent}", body, self.query)

    async def tell(self, event: str, **more: Any) -> dict[str, Any]:
        """Call a hook that is understood; its answer."""
        status, answer = await self.post(event, **more)
        assert status == 200, answer
        return answer

    async def prompt(self) -> dict[str, Any]:
        """Ask for the next turn."""
        self.turn += 1
        return await self.tell("UserPromptSubmit")

    async def stop(self, key: str, tokens: int) -> dict[str, Any]:
        """A turn that spends, and ends well."""
        self.spend(key, tokens)
        return await self.tell("Stop")


async def used(boss: Any, scope: str = "total") -> int:
    """What a scope has used."""
    return (await boss.ledger.usage(scope, boss.clock.now_ms())).totals.total


async def until(true: Any, seconds: float = 10) -> None:
    """Wait until something that is asked for is true, bounded."""
    with anyio.fail_after(seconds):
        while not await true():  # noqa: ASYNC110 - nothing tells a test what a transcript's reader has read
            await anyio.sleep(0.01)


async def counted(boss: Any, tokens: int, scope: str = "total", seconds: float = 10) -> None:
    """Wait until exactly so much is counted, and see that nothing more comes at once."""

    async def there() -> bool:
        return await used(boss, scope) >= tokens

    await until(there, seconds)
    assert await used(boss, scope) == tokens
    assert (await boss.ledger.audit()).problems == ()


def holds(boss: Any) -> list[str]:
    """What is held."""
    return [target for target, _ in boss.ledger.board.holds]
