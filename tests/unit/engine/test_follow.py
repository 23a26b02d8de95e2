"""Promises of following: a task's whole story, in order, to whoever comes early or late."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from locum.engine import follow as module
from locum.errors import NotFoundError
from locum.policy.task import Task
from tests.ledgers import HOUR
from tests.unit.engine.rig import OK, FakeProcess, HandClock, Rig, done, fails, make, running, service_of

pytestmark = pytest.mark.anyio
Story = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever follows looks more often than in life."""
    monkeypatch.setattr(module, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(module, "LOOK_WHILE_QUEUED", 0.01)


async def story(rig: Rig, task: Task, *, from_start: bool = True) -> Story:
    """Everything that is told of a task, until it has ended."""
    with anyio.fail_after(10):
        return [event async for event in rig.boss.follow(task.id, from_start=from_start)]


def types(told: Story) -> list[str]:
    """What kinds of things were told."""
    return [event["type"] for event in told]


async def test_the_whole_story_of_a_task_that_moves(tmp_path: Path) -> None:
    """Attempt, output, failure, switch, attempt, end: in this order, also for whoever comes when all is over."""
    usage = json.dumps({"type": "usage", "id": "m", "input": 7}) + "\n"

    def works(process: FakeProcess) -> None:
        process.say(f"plain words\n{usage}")
        process.spool.err.write_text("a warning\n")
        done(process)

    rig = await make(tmp_path, service_of("a", "b"), _fails_later(clock := HandClock()), works, clock=clock)
    async with running(rig):
        task = await rig.submit()
        live = await story(rig, task)
        late = await story(rig, task)
    for told in (live, late):
        assert types(told) == ["attempt", "failed", "switch", "attempt", "output", "output", "ended"]
        failed = next(event for event in told if event["type"] == "failed")
        assert (failed["tier"], failed["kind"], failed["reason"], failed["next"]) == (
            "a",
            "auth_error",
            "log in",
            "move",
        )
        switch = next(event for event in told if event["type"] == "switch")
        assert (switch["from"], switch["to"], switch["kind"]) == ("a", "b", "auth_error")
        assert switch["until_ms"] > rig.clock.now_ms()
        words = [(event["stream"], event["text"]) for event in told if event["type"] == "output"]
        assert words == [("out", "plain words"), ("err", "a warning")]
        assert (told[-1]["state"], told[-1]["tokens"]["total"]) == ("done", 7)


def _fails_later(clock: HandClock) -> Callable[[FakeProcess], None]:
    """An act: a failure that takes a second."""

    def act(process: FakeProcess) -> None:
        clock.wall_ms += 1000
        fails("auth_error", message="log in")(process)

    return act


async def test_a_retry_in_place_says_when(tmp_path: Path) -> None:
    """A failure that is tried again on the same tier tells how long that waits, and the wait itself is told."""
    rig = await make(tmp_path, service_of("a"), fails("overloaded"), done)
    told: Story = []
    async with running(rig):
        task = await rig.submit()
        with anyio.fail_after(10):
            async for event in rig.boss.follow(task.id):
                told.append(event)
                if event["type"] == "waiting":
                    rig.leap(5)
    assert types(told) == ["attempt", "failed", "waiting", "attempt", "ended"]
    assert (told[1]["next"], told[1]["wait_ms"]) == ("retry", 2000)
    assert told[2]["reason"] == "it tries the same tier again"


async def test_the_last_of_all_tries_is_not_said_to_be_tried_again(tmp_path: Path) -> None:
    """A task without tries left gives up: neither a wait nor another tier is announced that never comes."""
    rig = await make(tmp_path, service_of("a", "b") | {"limits": {"attempts": 1}}, fails("overloaded"))
    async with running(rig):
        task = await rig.submit()
        told = await story(rig, task)
    assert types(told) == ["attempt", "failed", "ended"]
    assert (told[1]["next"], told[1]["wait_ms"], told[2]["reason_code"]) == ("fail", None, "attempts")


async def test_each_reason_to_wait_is_told_once(tmp_path: Path) -> None:
    """Paused, then every tier held: each is told when it becomes the reason, not at every look."""
    rig = await make(tmp_path, service_of("a"), done)
    told: Story = []

    async def follower(task: Task) -> None:
        async for event in rig.boss.follow(task.id):
            told.append(event)

    async with running(rig), anyio.create_task_group() as group:
        await rig.boss.pause("default")
        await rig.boss.bump("default", "a", rig.clock.now_ms() + HOUR, "a break")
        task = await rig.submit()
        group.start_soon(follower, task)
        for number, step in enumerate([rig.boss.resume("default"), rig.boss.release("default", None, None)], start=1):
            await rig.until(lambda number=number: types(told).count("waiting") == number)
            await anyio.sleep(0.1)  # several looks
            await step
    waits = [(event["reason"], event["until_ms"]) for event in told if event["type"] == "waiting"]
    assert waits == [("chain default is paused", None), ("every tier is held", rig.clock.now_ms() + HOUR)]
    assert types(told)[-2:] == ["attempt", "ended"]


async def test_a_task_that_waits_for_a_tier_it_has_not_tried_says_so(tmp_path: Path) -> None:
    """The chain has a tier, but this task has failed there: it is not told that every tier is held."""
    rig = await make(tmp_path, service_of("a", "b"), lambda process: process.end(3))
    until_ms = rig.clock.now_ms() + HOUR
    async with running(rig):
        await rig.boss.bump("default", "b", until_ms, "a break")
        task = await rig.submit()
        with anyio.fail_after(10):
            async for event in rig.boss.follow(task.id):
                if event["type"] == "waiting":
                    break
    assert event["reason"] == "this task has failed on a, and every other tier is held"
    assert event["until_ms"] == until_ms


async def test_a_plain_program_may_answer_in_json(tmp_path: Path) -> None:
    """A line that begins with a brace and is none of the protocol's is output, and is shown."""
    answer = '{"answer": 42}'

    def works(process: FakeProcess) -> None:
        process.say(f"{answer}\n{{ not json at all\n")
        done(process)

    rig = await make(tmp_path, service_of("a"), works)
    async with running(rig):
        told = await story(rig, await rig.submit())
    assert [each["text"] for each in told if each["type"] == "output"] == [answer, "{ not json at all"]


async def test_a_full_disk_is_a_reason_to_wait(tmp_path: Path) -> None:
    """A task that waits for room on the disk says so."""
    rig = await make(tmp_path, service_of("a"))
    task = await rig.submit()
    rig.boss.low_disk = True
    with anyio.fail_after(10):
        async for event in rig.boss.follow(task.id):
            assert event["type"] == "waiting"
            assert "limits.min_free" in event["reason"]
            break
    await rig.ledger.close()


async def test_late_followers_may_skip_what_had_ended(tmp_path: Path) -> None:
    """Without the past only what is still to come is told."""
    rig = await make(tmp_path, service_of("a"), fails("auth_error"))
    async with running(rig):
        task = await rig.submit()
        await rig.until(lambda: rig.ledger.board.chain("default").exhausted)
        rig.leap(1)
        told: Story = []
        with anyio.fail_after(10):
            async for event in rig.boss.follow(task.id, from_start=False):
                told.append(event)
                rig.processes.acts = [done]
                await rig.boss.release("default", None, None)
    assert [kind for kind in types(told) if kind != "returned"] == ["waiting", "attempt", "ended"]


async def test_what_is_written_is_told_while_it_is_written(tmp_path: Path) -> None:
    """Lines are shown as they come, each once; what an agent says is shown instead of its protocol."""
    rig = await make(tmp_path, service_of("a"))
    told: Story = []

    async def follower(task: Task) -> None:
        async for event in rig.boss.follow(task.id):
            told.append(event)

    async with running(rig), anyio.create_task_group() as group:
        task = await rig.submit()
        group.start_soon(follower, task)
        await rig.until(lambda: bool(rig.processes.started))
        process = rig.processes.started[0]
        for number in range(3):
            process.say(f"line {number}\n")
            await rig.until(lambda number=number: types(told).count("output") == number + 1)
        process.say("x" * 300_000 + "\nthe last")
        process.end(0, "\n" + OK)
    texts = [event["text"] for event in told if event["type"] == "output"]
    assert texts[:3] == ["line 0", "line 1", "line 2"]
    assert [len(text) for text in texts[3:]] == [300_000, len("the last")]


async def test_an_agents_words_are_shown_and_its_protocol_is_not(tmp_path: Path) -> None:
    """Of Claude Code's stream people see what it said."""
    service = service_of("a")
    service["failover"]["tiers"] = [{"name": "a", "agent": "claude-code"}]
    text = {"type": "assistant", "message": {"id": "m", "content": [{"type": "text", "text": "hello"}]}}
    result = {"type": "result", "subtype": "success", "is_error": False, "num_turns": 1, "result": "hello"}
    lines = json.dumps({"type": "system", "subtype": "init", "session_id": "s"}), json.dumps(text), json.dumps(result)
    rig = await make(tmp_path, service, lambda process: process.end(0, "\n".join(lines) + "\n"))
    async with running(rig):
        told = await story(rig, await rig.submit())
    assert [event["text"] for event in told if event["type"] == "output"] == ["hello"]
    assert told[-1]["said"] == "hello"


async def test_what_is_said_in_pieces_is_shown_line_by_line(tmp_path: Path) -> None:
    """Gemini CLI breaks its words anywhere: people see whole lines, and the task ends with the whole last answer."""
    service = service_of("a")
    service["failover"]["tiers"] = [{"name": "a", "agent": "gemini"}]
    said = [
        {"type": "message", "role": "assistant", "content": text, "delta": True} for text in ("I l", "ook\nat ", "it.")
    ]
    tool, last = {"type": "tool_use", "tool_id": "t"}, said[0] | {"content": "do"}
    events = [*said, tool, last, last | {"content": "ne"}, {"type": "result", "status": "success"}]
    written = "\n".join(map(json.dumps, events)) + "\n"
    rig = await make(tmp_path, service, lambda process: process.end(0, written))
    async with running(rig):
        told = await story(rig, await rig.submit())
    assert [event["text"] for event in told if event["type"] == "output"] == ["I look", "at it.", "done"]
    assert told[-1]["said"] == "done"


async def test_a_task_that_is_not_there_is_told(tmp_path: Path) -> None:
    """Following nothing is an error, not an endless wait."""
    rig = await make(tmp_path, service_of("a"))
    with pytest.raises(NotFoundError):
        await story(rig, Task("t-none", "default", "/", None, 0))  # type: ignore[arg-type]
    await rig.ledger.close()


async def test_a_chain_that_is_gone_ends_the_story(tmp_path: Path) -> None:
    """A queued task whose chain is edited away ends, and its follower hears why."""
    service = service_of("a", chains={"other": {"tiers": ["a"]}})
    rig = await make(tmp_path, service)
    async with running(rig):
        await rig.boss.pause("other")
        task = await rig.boss.submit("other", b"x", str(tmp_path))
        rig.configure(service_of("a"))
        told = await story(rig, task)
    assert types(told)[-1] == "ended"
    assert told[-1]["reason_code"] == "no_chain"
