"""Promises of the runner: it reads everything once, bounds a run, and says how it ended."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from locum.agents.base import Seat
from locum.agents.registry import AGENTS
from locum.engine import runner as module
from locum.engine.runner import Bounds, Runner, Watched
from locum.engine.spool import CHUNK, Spool
from locum.errors import StateError
from locum.policy.failure import Failure, FailureKind
from locum.policy.plan import Tier
from locum.policy.task import Ending, RunState
from locum.policy.usage import Payer, Tokens, Usage
from locum.store.ledger import Ledger
from tests.ledgers import opened, started
from tests.unit.engine.rig import OK, FakeProcess, Flaky, HandClock

pytestmark = pytest.mark.anyio
DONE = json.dumps(
    {"type": "result", "subtype": "success", "is_error": False, "num_turns": 1, "result": "done", "usage": {}}
)


@dataclass
class Bench:
    """One run under test."""

    ledger: Ledger
    clock: HandClock
    process: FakeProcess
    runner: Runner
    home: Path

    def tell(self, *events: dict[str, Any]) -> None:
        """The agent writes these lines."""
        self.process.say("".join(json.dumps(event) + "\n" for event in events))

    async def watch(self, process: FakeProcess | None = None) -> tuple[Ending, Failure | None]:
        """See the run to its end, bounded."""
        with anyio.fail_after(10):
            return await self.runner.watch(process or self.process)

    async def spent(self) -> int:
        """Tokens in the ledger."""
        return (await self.ledger.run_tokens(self.runner.watched.run.id)).total


async def bench(folder: Path, agent: str = "command", **bounds: Any) -> Bench:
    """A run of that agent, with bounds that nobody reaches by chance."""
    ledger = await opened(folder)
    run = await started(ledger, tier=Tier("a", agent, "acme"))
    spool = Spool(folder / "spool")
    spool.create("do it")
    given = {"stall_after": 600.0, "time_limit": None, "spool": 1 << 30, "stop_grace": 7.0, **bounds}
    clock, home = HandClock(), folder / "home"
    watched = Watched(
        run, AGENTS[agent], Seat("a", home=home), spool, Bounds(**given), {}, "UTC", began=clock.monotonic()
    )
    return Bench(ledger, clock, FakeProcess(None, spool), Runner(watched, ledger, clock), home)


@pytest.fixture
async def command(tmp_path: Path) -> AsyncIterator[Bench]:
    """A run of a `command` agent."""
    made = await bench(tmp_path)
    yield made
    await made.ledger.close()


def usage(number: int, tokens: int) -> dict[str, Any]:
    """One line of usage."""
    return {"type": "usage", "id": f"m{number}", "input": tokens}


async def test_a_run_that_ended_unwatched_is_read_whole(command: Bench) -> None:
    """With its process gone the run is judged by what lies in its folder."""
    command.tell(usage(1, 5), usage(2, 6))
    command.process.end(0, OK.rstrip("\n"))
    with anyio.fail_after(10):
        ending, failure = await command.runner.watch(None)
    assert (ending.state, failure, await command.spent()) == (RunState.SUCCEEDED, None, 11)


async def test_reading_a_run_again_counts_nothing_twice(command: Bench) -> None:
    """A second reader of the same files adds nothing: that is what adoption relies on."""
    command.tell(usage(1, 5), usage(1, 5), usage(2, 6))
    command.process.end(0, OK)
    await command.watch()
    again = Runner(command.runner.watched, command.ledger, command.clock)
    with anyio.fail_after(10):
        assert (await again.watch(None))[0].state is RunState.SUCCEEDED
    assert await command.spent() == 11


async def test_usage_that_could_not_be_recorded_is_recorded_later(
    command: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the disk takes nothing the run goes on, is no stalled one, and all it told is counted in the end."""
    monkeypatch.setattr(module, "DISK_PAUSE", 0.01)
    record = Flaky(command.ledger, "record")
    command.tell(usage(1, 5))
    async with anyio.create_task_group() as group:
        group.start_soon(_ends_later, command, record)
        ending, failure = await command.watch()
    assert record.failed > 3
    assert command.process.stops == []
    assert (ending.state, failure, await command.spent()) == (RunState.SUCCEEDED, None, 18)


async def _ends_later(command: Bench, record: Flaky) -> None:
    while record.failed < 2:  # noqa: ASYNC110 - the ledger has no event for its failures
        await anyio.sleep(0.005)
    command.clock.ahead_s += 100_000
    command.tell(usage(2, 6))
    await anyio.sleep(0.05)
    command.tell(usage(3, 7))
    command.process.end(0, OK)
    failed = record.failed
    while record.failed < failed + 3:  # noqa: ASYNC110 - as above
        await anyio.sleep(0.005)
    record.broken = False


async def test_a_session_that_could_not_be_kept_is_kept_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a home's watcher counts of the run while its session is on no disk becomes the run's all the same."""
    monkeypatch.setattr(module, "DISK_PAUSE", 0.01)
    claude = await bench(tmp_path, "claude-code")
    saw, run = Flaky(claude.ledger, "saw_session"), claude.runner.watched.run
    claude.tell({"type": "system", "subtype": "init", "session_id": "s-1"})
    async with anyio.create_task_group() as group:
        group.start_soon(claude.watch)
        while saw.failed < 2:  # noqa: ASYNC110 - the ledger has no event for its failures
            await anyio.sleep(0.005)
        seen = Payer("claude-code", "default", "a", "acme", session="s-1")
        await claude.ledger.record_outside(seen, [Usage("m1", Tokens(5), session="s-1")], claude.clock.now_ms())
        assert await claude.spent() == 0
        saw.broken = False
        claude.process.end(0, DONE)
    assert (await claude.ledger.run(run.id)).session == "s-1"
    assert await claude.spent() == 5
    await claude.ledger.close()


async def test_a_stop_does_not_wait_for_the_disk(command: Bench) -> None:
    """Told to stop while nothing can be recorded, the run stays open for the next daemon."""
    Flaky(command.ledger, "record")
    command.tell(usage(1, 5))
    command.runner.stopping.set()
    with pytest.raises(StateError):
        await command.watch()
    assert command.process.stops == [7.0]


async def test_a_stopped_run_that_was_done_is_done(command: Bench) -> None:
    """A stop that comes after the agent's own success takes nothing back; one before it is nobody's fault."""
    command.tell({"type": "result", "status": "ok"})
    command.runner.stopping.set()
    ending, failure = await command.watch()
    assert (ending.state, failure) == (RunState.SUCCEEDED, None)


async def test_a_stopped_run_is_no_failure(command: Bench) -> None:
    """An agent that is ended from outside has not failed."""
    command.runner.stopping.set()
    ending, failure = await command.watch()
    assert (ending.state, failure, ending.exit) == (RunState.STOPPED, None, 143)


async def test_a_time_limit_counts_from_the_start(tmp_path: Path) -> None:
    """Time that passed before this daemon watched counts as well."""
    made = await bench(tmp_path, time_limit=50.0)
    made.clock.ahead_s = 60
    _, failure = await made.watch()
    assert failure is not None
    assert (failure.kind, failure.rule) == (FailureKind.STALLED, "time_limit")
    assert made.process.stops == [7.0]
    await made.ledger.close()


async def test_an_agents_own_word_beats_its_silence(tmp_path: Path) -> None:
    """A run that told why it failed and then hangs has failed for that reason, not because it was silent."""
    made = await bench(tmp_path, stall_after=5.0)
    made.tell({"type": "failure", "kind": "auth_error", "message": "log in"})
    async with anyio.create_task_group() as group:
        group.start_soon(_passes, made, 60)
        _, failure = await made.watch()
    assert failure is not None
    assert (failure.kind, failure.evidence) == (FailureKind.AUTH_ERROR, "log in")
    await made.ledger.close()


async def _passes(made: Bench, seconds: float) -> None:
    await anyio.sleep(0.15)
    made.clock.ahead_s += seconds


async def test_a_flood_is_ended_without_grace_and_cut(tmp_path: Path) -> None:
    """Whoever writes more than may be kept gets no time to write more, and no more than that is kept."""
    made = await bench(tmp_path, spool=CHUNK)
    made.process.say("x\n" * CHUNK * 2)
    _, failure = await made.watch()
    assert failure is not None
    assert failure.rule == "spool"
    assert made.process.stops == [0]
    assert made.process.spool.out.stat().st_size == 2 * CHUNK
    await made.ledger.close()


async def test_output_longer_than_one_look_is_read_to_its_end(command: Bench) -> None:
    """However much is written between two looks, all of it counts."""
    async with anyio.create_task_group() as group:
        group.start_soon(_writes_much, command)
        await command.watch()
    assert await command.spent() == 20_000


async def _writes_much(command: Bench) -> None:
    command.tell(*(usage(number, 1) for number in range(20_000)))
    assert command.process.spool.size() > 2 * CHUNK
    while await command.spent() < 20_000:  # noqa: ASYNC110 - the ledger has no event for its sums
        await anyio.sleep(0.01)
    command.process.end(0, OK)


async def test_an_agent_that_retries_for_ever_is_stopped(tmp_path: Path) -> None:
    """Retries of an agent's own are borne for a minute; then the failure it retries is the run's."""
    made = await bench(tmp_path, "claude-code")
    retry = {"type": "system", "subtype": "api_retry", "error": "overloaded", "error_status": 529}
    made.tell(retry, retry)
    async with anyio.create_task_group() as group:
        group.start_soon(_passes, made, 61)
        _, failure = await made.watch()
    assert failure is not None
    assert failure.kind is FailureKind.OVERLOADED
    await made.ledger.close()


async def test_retries_that_led_somewhere_are_forgotten(tmp_path: Path) -> None:
    """An agent that went on after its retry is not stopped for it later."""
    made = await bench(tmp_path, "claude-code")
    text = {"type": "assistant", "message": {"id": "m", "content": [{"type": "text", "text": "on we go"}]}}
    made.tell({"type": "system", "subtype": "api_retry", "error": "overloaded"}, text)
    async with anyio.create_task_group() as group:
        group.start_soon(_passes, made, 61)
        group.start_soon(_done_after, made, 0.4)
        ending, failure = await made.watch()
    assert (ending.state, failure, made.process.stops) == (RunState.SUCCEEDED, None, [])
    await made.ledger.close()


def _cut(number: int, reason: str = "unknown") -> dict[str, Any]:
    """A step of opencode's that ends for `reason`; it costs something each time."""
    part = {"id": f"prt_{number}", "sessionID": "ses_1", "reason": reason, "tokens": {"input": 7}}
    return {"type": "step_finish", "sessionID": "ses_1", "part": part}


async def test_an_agent_that_asks_again_after_each_cut_answer_is_stopped(tmp_path: Path) -> None:
    """Words between are no work; a few such answers in a row end the run, and what they have cost is counted."""
    made = await bench(tmp_path, "opencode")
    said = {"type": "text", "sessionID": "ses_1", "part": {"text": "half a"}}
    made.tell(*(event for number in range(module.MOST_CUTS) for event in (said, _cut(number))))
    ending, failure = await made.watch()
    assert failure is not None
    assert (failure.kind, failure.rule) == (FailureKind.SERVER_ERROR, "step_finish:unknown")
    assert made.process.stops == [7.0]
    assert (ending.said, await made.spent()) == ("half a", 7 * module.MOST_CUTS)
    await made.ledger.close()


@pytest.mark.parametrize(
    "work", [{"type": "tool_use", "sessionID": "ses_1", "part": {"callID": "c"}}, _cut(99, "stop")]
)
async def test_cut_answers_with_work_between_are_borne(tmp_path: Path, work: dict[str, Any]) -> None:
    """A bad line that lets some answers through loses none of them."""
    made = await bench(tmp_path, "opencode")
    made.tell(*map(_cut, range(module.MOST_CUTS - 1)), work, *map(_cut, range(10, 10 + module.MOST_CUTS - 1)))
    made.process.say(json.dumps(_cut(50, "stop")) + "\n")
    async with anyio.create_task_group() as group:
        group.start_soon(_done_after, made, 0.3)
        ending, failure = await made.watch()
    assert (ending.state, failure, made.process.stops) == (RunState.SUCCEEDED, None, [])
    await made.ledger.close()


async def _done_after(made: Bench, seconds: float) -> None:
    await anyio.sleep(seconds)
    made.process.end(0, DONE)


async def test_a_tool_at_work_may_be_silent(tmp_path: Path) -> None:
    """While a tool call is open and its process lives, silence is work; either alone is none."""
    made = await bench(tmp_path, "claude-code", stall_after=5.0)
    tools = [{"type": "tool_use", "id": f"t{number}"} for number in range(module.TOOLS_KEPT + 5)]
    made.tell({"type": "assistant", "message": {"id": "m", "content": tools}})
    made.process.children = True
    async with anyio.create_task_group() as group:
        group.start_soon(_passes, made, 60)
        group.start_soon(_tool_ends, made)
        _, failure = await made.watch()
    assert failure is not None
    assert failure.kind is FailureKind.STALLED
    assert made.clock.ahead_s == 60, "it was silent long before the tool had ended"
    await made.ledger.close()


async def _tool_ends(made: Bench) -> None:
    await anyio.sleep(0.5)
    assert made.process.stops == []
    made.process.children = False


async def test_a_tool_that_is_done_covers_no_silence(tmp_path: Path) -> None:
    """When the tool has told its result, a child left behind is no sign of work."""
    made = await bench(tmp_path, "claude-code", stall_after=5.0)
    made.tell(
        {"type": "assistant", "message": {"id": "m", "content": [{"type": "tool_use", "id": "t1"}]}},
        {"type": "user", "message": {"content": [{"type": "tool_result", "tool_use_id": "t1"}]}},
    )
    made.process.children = True
    async with anyio.create_task_group() as group:
        group.start_soon(_passes, made, 60)
        _, failure = await made.watch()
    assert failure is not None
    assert failure.rule == "stall_after"
    await made.ledger.close()


async def test_the_transcript_of_the_session_is_found_and_counted(tmp_path: Path) -> None:
    """As soon as the session is known its transcript counts, and stream and transcript together count once."""
    made = await bench(tmp_path, "claude-code")
    message = {"id": "m1", "model": "m", "usage": {"input_tokens": 10, "output_tokens": 1}}
    made.tell({"type": "system", "subtype": "init", "session_id": "s-1"})
    made.tell({"type": "assistant", "session_id": "s-1", "message": message})
    folder = made.home / "projects" / "here"
    folder.mkdir(parents=True)
    final = {**message, "usage": {"input_tokens": 10, "output_tokens": 30}}
    (folder / "s-1.jsonl").write_text(json.dumps({"type": "assistant", "sessionId": "s-1", "message": final}) + "\n")
    made.process.end(0, DONE)
    ending, _ = await made.watch()
    assert (ending.session, await made.spent()) == ("s-1", 40)
    assert (await made.ledger.run(made.runner.watched.run.id)).session == "s-1"
    await made.ledger.close()


async def test_failures_are_kept_short_and_few(command: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many and long the failures a run tells, what is kept of them fits into memory."""
    monkeypatch.setattr(module, "SIGNALS_KEPT", 20)
    command.runner = Runner(command.runner.watched, command.ledger, command.clock)
    huge = {"type": "failure", "kind": "crash", "message": "x" * 100_000}
    command.tell(*[huge] * (module.SIGNALS_KEPT + 50), {**huge, "message": "the last"})
    command.process.end(1)
    _, failure = await command.watch()
    assert failure is not None
    assert failure.evidence == "the last"
    kept = command.runner._signals
    assert len(kept) == module.SIGNALS_KEPT
    assert all(len(signal.text) <= module.TEXT_KEPT for signal in kept)


async def test_the_vendors_own_windows_are_kept_with_their_time(tmp_path: Path) -> None:
    """A warning told on the way is on record for the account; read again days later, it is not younger for that."""
    made = await bench(tmp_path, "claude-code")
    ends_s = made.clock.now_ms() // 1000 + 3600
    info = {"status": "allowed_warning", "rateLimitType": "five_hour", "utilization": 0.91, "resetsAt": ends_s}
    made.tell({"type": "rate_limit_event", "rate_limit_info": info})
    told_ms = made.clock.now_ms() - 60_000
    os.utime(made.process.spool.out, ns=(told_ms * 1_000_000,) * 2)
    made.process.end(0)
    os.utime(made.process.spool.out, ns=(told_ms * 1_000_000,) * 2)
    await made.watch()
    (view,) = (await made.ledger.vendor_windows(["acme"], made.clock.now_ms()))["acme"]
    window = view.window
    assert (window.name, window.status, window.used, window.reset_ms) == (
        "five_hour",
        "allowed_warning",
        91.0,
        ends_s * 1000,
    )
    assert window.at_ms == told_ms
    await made.ledger.close()


async def test_what_outlives_its_agent_is_told(command: Bench) -> None:
    """A run that left processes behind says so, whether it went well or not: they could have gone on to spend."""
    command.process.left = 2
    command.process.end(0, OK)
    ending, failure = await command.watch()
    assert (ending.state, failure) == (RunState.SUCCEEDED, None)
    run = command.runner.watched.run.id
    await command.ledger.end_run(run, ending, failure, command.clock.now_ms())
    assert (await command.ledger.run(run)).reason == "2 processes outlived the agent and had to be ended"


async def test_a_refusal_after_work_is_told_apart(tmp_path: Path) -> None:
    """However much an agent says after its tool call, that it has worked is not forgotten."""
    made = await bench(tmp_path, "claude-code")
    tool = {"type": "tool_use", "id": "t", "name": "Edit"}
    made.tell({"type": "assistant", "message": {"id": "m", "content": [tool]}})
    made.tell(*[{"type": "assistant", "message": {"id": "m", "content": [{"type": "text", "text": "so"}]}}] * 3)
    refusal = {"subtype": "success", "is_error": False, "num_turns": 2, "result": "I cannot assist with that."}
    made.tell({"type": "result", **refusal})
    made.process.end(0)
    assert (await made.watch())[1] is None
    await made.ledger.close()
