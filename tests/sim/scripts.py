"""What agents do: a few messages, each told in the worst ways, and an end."""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import trio

from locum.engine.process import Spawn
from tests.sim.accounts import Account, Refusal, iso, line
from tests.sim.agents import Counts, SimProcess, SimProcesses, plus
from tests.sim.clock import dice

CLAUDE = "claude"
NAMES = ("input", "output", "cache_read", "cache_write")
CLAUDE_NAMES = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
CLAUDE_TOTALS = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")
CLAUDE_ERRORS = {
    "auth_error": ("authentication_failed", 401),
    "credit_exhausted": ("billing_error", 402),
    "overloaded": ("overloaded", 529),
    "server_error": ("server_error", 500),
    "model_unavailable": ("model_not_found", 404),
    "context_overflow": ("", 413),
    "invalid_request": ("invalid_request", 400),
    "rate_limit": ("rate_limit", 429),
    "usage_limit": ("rate_limit", 429),
}


def script_of(
    host: SimProcesses,
    process: SimProcess,
    spawn: Spawn,
    account: Account,
    model: str | None,
    flag: str,
    *,
    claude: bool,
) -> Callable[[], Awaitable[int | None]]:
    """What this run will do."""
    kind = ClaudeScript if claude else CommandScript
    chance = dice(host.seed, f"run {len(host.truths)}")
    return kind(host, process, spawn, account, model, flag, chance).play


@dataclass
class CommandScript:
    """Any program that speaks the small protocol, more or less well."""

    host: SimProcesses
    process: SimProcess
    spawn: Spawn
    account: Account
    model: str | None
    flag: str
    dice: random.Random

    async def play(self) -> int | None:
        """The whole life of the agent; its exit code."""
        self.begin()
        host = self.host
        for number in range(self.dice.choice((1, 1, 2, 3, 5))):
            await trio.sleep(self.dice.uniform(0.5, self.dice.choice((10, 40, 120))))
            refused = self.account.refuse(self.model) or self._by_the_task()
            if refused:
                return await self._refused(refused)
            if self.flag == "poison" or host.chance("crash"):
                self.write("out", "segmentation fault\n")
                return self.dice.choice((1, 2, 126, 134))
            if host.chance("killed"):
                self.host.trace.fault("agent", f"{self.spawn.run} is killed")
                self.process.kill()
                await trio.sleep_forever()
            await self.message(f"m{number}", self._spent())
            if host.chance("hang"):
                await self._hang()
            if host.chance("garbage"):
                self.write(
                    "out", self.dice.choice(("{nonsense\n", '{"type":"usage","input":"many"}\n', "\x00\x01\n", "[]\n"))
                )
                self.write("err", "warning: used 90% of your limit\n")
        if host.chance("quiet"):
            return self.ends_without_a_word()
        self.succeed()
        if host.chance("hang"):
            await self._hang()
        return 0

    async def _hang(self) -> None:
        self.host.trace.fault("agent", f"{self.spawn.run} hangs")
        self.process.truth.hangs = True
        await trio.sleep_forever()

    def _by_the_task(self) -> Refusal | None:
        kind = {"overflow": "context_overflow", "invalid": "invalid_request"}.get(self.flag)
        return Refusal(kind) if kind else None

    async def _refused(self, refused: Refusal) -> int:
        self.fail(refused)
        self.host.trace.fault("agent", f"{self.spawn.run} is refused: {refused}")
        if self.host.chance("hang"):
            await self._hang()
        return self.dice.choice((0, 1, 1))

    def _spent(self) -> Counts:
        draw = self.dice.randint
        return (
            draw(50, 4000),
            draw(10, 2000),
            self.dice.choice((0, draw(0, 9000))),
            self.dice.choice((0, draw(0, 900))),
        )

    def write(self, stream: str, text: str) -> None:
        """Append to one of its streams."""
        with (self.spawn.folder / stream).open("a") as file:
            file.write(text)

    async def torn(self, text: str) -> None:
        """Write a line; at times in two halves."""
        if not self.host.chance("torn"):
            return self.write("out", text)
        half = self.dice.randint(1, len(text) - 2)
        self.write("out", text[:half])
        await trio.sleep(self.dice.uniform(0.1, 20))
        self.write("out", text[half:])
        return None

    # ── its own way of telling things ────────────────────────────────────────────────────────────────────

    def begin(self) -> None:
        """Say hello."""
        self.write("out", "working\n")

    async def message(self, name: str, spent: Counts) -> None:
        """One request was answered: tell what it cost, rightly, twice, growing, out of order or absurdly."""
        truth, chance = self.process.truth, self.host.chance
        if chance("no_id"):
            await self.torn(line(type="usage", **dict(zip(NAMES, spent, strict=True))))
            return truth.seen(f"{name} without id", spent)
        steps = [spent]
        if chance("growing"):
            steps = [(spent[0], 1, 0, 0), (spent[0], spent[1] // 2, spent[2], 0), spent]
        if chance("told_twice"):
            steps = [each for each in steps for _ in range(2)]
        if chance("out_of_order"):
            self.dice.shuffle(steps)
            steps.append((spent[0] // 2, 0, 0, spent[3]))
        if chance("absurd"):
            self.write("out", line(type="usage", id=f"{name}x", input=self.dice.choice((-5, 10**13, 2**60))))
        for counts in steps:
            await self.torn(line(type="usage", id=name, **dict(zip(NAMES, counts, strict=True))))
            truth.seen(name, counts)
            await trio.sleep(self.dice.choice((0.0, 0.3, 6.0)))
        return None

    def fail(self, refused: Refusal) -> None:
        """Tell why it cannot go on."""
        told = {"kind": refused.kind, "message": "refused", "window": refused.window, "model": refused.model}
        told |= {"reset_at": iso(refused.reset_ms)} if refused.reset_ms is not None else {}
        self.write("out", line(type="failure", **told))
        self.process.truth.told = refused

    def succeed(self) -> None:
        """Tell that it is done."""
        self.write("out", line(type="result", status="ok"))
        self.process.truth.told = "ok"

    def ends_without_a_word(self) -> int:
        """A program that does not speak the protocol has nothing to say: its exit code is its word."""
        return self.dice.choice((0, 3))


@dataclass
class ClaudeScript(CommandScript):
    """Claude Code: a stream, a transcript, and a total in the end."""

    def begin(self) -> None:
        """The session is in the argv, and in the first line."""
        argv = list(self.spawn.argv)
        flag = "--resume" if "--resume" in argv else "--session-id"
        self.session = argv[argv.index(flag) + 1]
        self.at = Path(self.spawn.env["CLAUDE_CONFIG_DIR"], "projects", "p", f"{self.session}.jsonl")
        self.at.parent.mkdir(parents=True, exist_ok=True)
        self.total: Counts = (0, 0, 0, 0)
        self.write("out", line(type="system", subtype="init", session_id=self.session))

    async def message(self, name: str, spent: Counts) -> None:
        """A provisional count, the final one, and the row in the transcript."""
        truth, key = self.process.truth, f"msg-{self.spawn.run}-{name}"
        model = self.model or "default"
        first: Counts = (spent[0], 1, spent[2], spent[3])
        head = {"id": key, "model": model}
        start = {"type": "message_start", "message": {**head, "usage": dict(zip(CLAUDE_NAMES, first, strict=True))}}
        await self.torn(line(type="stream_event", session_id=self.session, event=start))
        truth.seen(key, first)
        await trio.sleep(self.dice.uniform(0.1, 8))
        usage = dict(zip(CLAUDE_NAMES, spent, strict=True))
        row = {**head, "usage": usage, "content": [{"type": "text", "text": "done so"}]}
        twice = 2 if self.host.chance("told_twice") else 1
        for _ in range(twice):
            self.write(
                "out",
                line(type="stream_event", session_id=self.session, event={"type": "message_delta", "usage": usage}),
            )
            truth.seen(key, spent)
        self.total = plus(self.total, spent)
        if self.host.chance("garbage"):
            self.write("out", '{"type":"assistant","message":[1,2]}\n')
        await trio.sleep(self.dice.choice((0.0, 0.1, 2.0)))
        off = self.dice.choice((0, 0, 5000, 10**8, -(10**8)))
        at = iso(self.host.clock.now_ms() - (0 if self.host.swarm.watched else off))  # whose a row is goes by its date
        with self.at.open("a") as file:
            file.write(line(type="assistant", sessionId=self.session, timestamp=at, message=row) * twice)
        self.write("out", line(type="assistant", session_id=self.session, message=row))

    def fail(self, refused: Refusal) -> None:
        """A made-up message that carries the error, and an end that says so too."""
        kind = "network" if refused.kind == "network" else refused.kind
        error, status = CLAUDE_ERRORS.get(kind, ("", 408))
        if kind == "usage_limit":
            info = {"status": "rejected", "rateLimitType": refused.window or "five_hour"}
            info |= {"resetsAt": refused.reset_ms // 1000} if refused.reset_ms is not None else {}
            self.write("out", line(type="rate_limit_event", rate_limit_info=info))
        message = {"id": f"err-{self.spawn.run}", "model": "<synthetic>", "content": [{"type": "text", "text": "nope"}]}
        if error:
            self.write("out", line(type="assistant", session_id=self.session, error=error, message=message))
        told = {"subtype": "success", "is_error": True, "result": "nope", "api_error_status": status}
        told |= {"terminal_reason": "prompt_too_long"} if kind == "context_overflow" else {}
        self._result(**told)
        window = (refused.window or "five_hour") if kind == "usage_limit" else None
        self.process.truth.told = Refusal(kind, refused.reset_ms if kind == "usage_limit" else None, window)

    def succeed(self) -> None:
        """The terminal event, with the total over everything: more than the messages, at times."""
        if self.host.chance("growing"):
            self.total = plus(self.total, (111, 22, 0, 0))
        self._result(subtype="success", is_error=False, num_turns=2, result="all done")
        self.process.truth.told = "ok"

    def _result(self, **told: object) -> None:
        used = {self.model or "default": dict(zip(CLAUDE_TOTALS, self.total, strict=True))}
        self.write("out", json.dumps({"type": "result", "modelUsage": used, **told}) + "\n")
        if any(self.total):
            self.process.truth.total = self.total

    def ends_without_a_word(self) -> int:
        """Neither a result nor a reason."""
        return self.dice.choice((0, 1))
