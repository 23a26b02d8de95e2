"""The operator's command after each task: what it is told, how often it runs, and that it is in nobody's way."""

from __future__ import annotations

import json
import os
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from locum.engine.post_task import MOST_AT_A_TIME, OUTPUT_KEPT
from locum.engine.retire import once
from locum.policy.task import PostTaskState, TaskState
from tests.unit.engine.followed import RELOADED, after, begun, config, reached, told
from tests.unit.engine.rig import done, fails, make, running, service_of

pytestmark = pytest.mark.anyio


async def test_it_is_told_what_became_of_the_task(tmp_path):
    """Task, attempts with tier, failure and tokens, the chain's budget and where the chain stands now."""
    usage = {"type": "usage", "id": "m1", "input": 40, "output": 2}
    refused = json.dumps(usage) + "\n" + json.dumps({"type": "failure", "kind": "auth_error", "message": "401"}) + "\n"
    said = json.dumps(usage) + '\n{"type":"result","status":"ok"}\n'
    service = {**config(), "usage_threshold_tokens": 1000}
    rig = await make(tmp_path, service, lambda run: run.end(1, refused), lambda run: run.end(0, said))
    async with running(rig):
        task = await rig.ended(await rig.submit("mend it"))
        child = await begun(rig)
        found = child.told()
        child.end()
        await reached(rig, task, PostTaskState.DONE)
    assert found["schema"] == 1
    assert (found["task"]["id"], found["task"]["state"], found["task"]["title"]) == (task.id, "done", "mend it")
    assert [(run["tier"], run["failure"], run["tokens"]["total"]) for run in found["runs"]] == [
        ("a", "auth_error", 42),
        ("b", None, 42),
    ]
    assert (found["tokens"]["input"], found["tokens"]["total"]) == (80, 84)
    assert (found["usage"]["threshold_tokens"], found["usage"]["used_tokens"], found["usage"]["percent"]) == (
        1000,
        84,
        8.4,
    )
    assert (found["chain"]["active_tier"], found["chain"]["last_failure_kind"]) == ("b", "auth_error")
    assert [tier["state"] for tier in found["chain"]["tiers"]] == ["held", "active"]


async def test_how_it_is_started(tmp_path):
    """In the folder of service.json, its path from there, with what `locum` needs to find this daemon; no run's mark."""
    rig = await make(tmp_path, config(), done)
    async with running(rig):
        task = await rig.ended(await rig.submit())
        child = await begun(rig)
        child.end()
    command = child.command
    assert list(command.argv) == [f"{tmp_path}/./after.sh".replace("/./", "/"), "now"]
    assert command.cwd == tmp_path
    assert command.stdin == tmp_path / "state" / "post" / task.id / "result.json"
    own = {name: value for name, value in command.env.items() if name.startswith("LOCUM_")}
    assert own == {
        "LOCUM_TASK": task.id,
        "LOCUM_CHAIN": "default",
        "LOCUM_STATE": str(tmp_path / "state"),
        "LOCUM_SOCKET": str(Path(rig.boss.environ["HOME"]) / ".local/state/locum/locum.sock"),
        "LOCUM_CONFIG": str(tmp_path / "service.json"),
    }
    assert command.env["PATH"] == "/usr/bin:/bin"


async def test_a_bare_name_is_looked_up(tmp_path):
    """Only a path starts at the folder of service.json."""
    rig = await make(tmp_path, config(command=["true"]), done)
    async with running(rig):
        await rig.ended(await rig.submit())
        child = await begun(rig)
        child.end()
    assert list(child.command.argv) == ["true"]


async def test_nothing_is_run_where_nothing_is_asked_for(tmp_path):
    """Without post_task no command is begun and no row is written."""
    rig = await make(tmp_path, service_of("a", "b"), done)
    async with running(rig):
        task = await rig.ended(await rig.submit())
        await anyio.sleep(0.1)
        assert await after(rig, task) is None
    assert rig.processes.begun == []
    assert not (tmp_path / "state" / "post").exists()


@pytest.mark.parametrize(
    ("code", "output", "reason"),
    [
        (1, b"first\nlast words \n\n", "exit code 1: last words"),
        (137, b"", "exit code 137"),
        (2, b"\xff\xfe\x00", "exit code 2: \ufffd\ufffd\0"),
        (3, b"x" * 1000, f"exit code 3: {'x' * 300}"),
    ],
)
async def test_its_failure_is_kept_logged_and_told_and_touches_nothing(tmp_path, code, output, reason):
    """The row and a notice say why, the output's end lies in its folder; task and chain are as they were."""
    rig = await make(tmp_path, config(), done)
    async with running(rig):
        task = await rig.ended(await rig.submit())
        child = await begun(rig)
        board = rig.ledger.board
        child.end(code, output)
        found = await reached(rig, task, PostTaskState.FAILED)
        assert await rig.ledger.task(task.id) == task
        assert rig.ledger.board == board
        assert len(await told(rig)) == 1
    assert task.state is TaskState.DONE
    assert (found.exit, found.reason, found.starts) == (code, reason, 1)
    kept = tmp_path / "state" / "post" / task.id / "output"
    assert kept.read_bytes().decode() == output.decode("utf-8", "replace")


async def test_secrets_are_masked_in_what_is_kept_and_told(tmp_path):
    """What the command prints of a secret in service.json is in no row, no notice and no file, even cut in two."""
    service = config()
    service["failover"]["tiers"][0]["env"] = {"API_KEY": "sk-very-secret-0123456789"}
    rig = await make(tmp_path, service, done)
    async with running(rig):
        task = await rig.ended(await rig.submit())
        child = await begun(rig)
        assert child.command.kept > OUTPUT_KEPT, "a secret on the edge must be seen whole to be found"
        padding = b"x" * (OUTPUT_KEPT - 10 - len(b"\nkey sk-very-secret-0123456789"))
        child.end(1, b"sk-very-secret-0123456789" + padding + b"\nkey sk-very-secret-0123456789")
        found = await reached(rig, task, PostTaskState.FAILED)
        messages = await told(rig)
    kept = (tmp_path / "state" / "post" / task.id / "output").read_text()
    for text in (found.reason, *messages, kept):
        assert "0123456789" not in text
    assert found.reason == "exit code 1: key •••"


async def test_one_that_takes_too_long_is_stopped(tmp_path):
    """After its time limit it gets the grace that agents get, and has failed."""
    rig = await make(tmp_path, config(time_limit="1s"), done)
    async with running(rig):
        task = await rig.ended(await rig.submit())
        child = await begun(rig)
        child.output = b"still at it"
        found = await reached(rig, task, PostTaskState.FAILED)
    assert child.stops == [3.0]
    assert (found.exit, found.reason) == (None, "it took longer than its time_limit (1 s) and was stopped")
    assert (tmp_path / "state" / "post" / task.id / "output").read_text() == "still at it"


async def test_many_at_once_run_a_few_at_a_time_and_hold_nobody_up(tmp_path):
    """Thirty tasks end while commands hang: four run, no task waits for them, and each is run once, oldest first."""
    service = {**config(), "limits": {"parallel": 8, "min_free": "1K"}}
    rig = await make(tmp_path, service, done)
    async with running(rig):
        tasks = [await rig.submit() for _ in range(30)]
        for task in tasks:
            assert (await rig.ended(task)).state is TaskState.DONE
        most = 0
        for number in range(1, 31):
            child = await begun(rig, number)
            await anyio.sleep(0.005)
            most = max(most, sum(not each.over.is_set() for each in rig.processes.begun))
            child.end()
        for task in tasks:
            await reached(rig, task, PostTaskState.DONE)
    assert most == MOST_AT_A_TIME
    assert sorted(each.command.task for each in rig.processes.begun) == sorted(task.id for task in tasks)


@pytest.mark.parametrize("kind", ["failed", "cancelled", "given up"])
async def test_it_follows_every_end(tmp_path, kind):
    """A task that fails, is cancelled or never finds a tier is followed as one that is done."""
    rig = await make(tmp_path, config(), fails("invalid_request") if kind == "failed" else lambda _: None)
    async with running(rig):
        if kind == "given up":
            await rig.ledger.bump("default", "a", None, "x", rig.clock.now_ms())
            await rig.ledger.bump("default", "b", None, "x", rig.clock.now_ms())
        task = await rig.submit(no_wait=kind == "given up")
        if kind == "cancelled":
            await rig.reach(task, TaskState.RUNNING)
            await rig.boss.cancel(task.id)
        ended = await rig.ended(task)
        child = await begun(rig)
        assert child.told()["task"]["state"] == ended.state.value
        assert child.told()["task"]["reason_code"] == (ended.reason_code or None)
        child.end()
        await reached(rig, task, PostTaskState.DONE)


async def test_a_reload_counts_for_what_is_begun_later(tmp_path):
    """What runs goes on with the command it was begun with; the next task is followed by the new one."""
    rig = await make(tmp_path, config(time_limit="1m"), done)
    async with running(rig):
        first = await rig.ended(await rig.submit())
        old = await begun(rig)
        rig.configure(config(command=["./other.sh"], time_limit="1s"))
        await rig.boss.reload()
        await rig.ended(await rig.submit())
        new = await begun(rig, 2)
        await anyio.sleep(1.2)
        assert (old.stops, new.stops) == ([], [3.0])
        old.end()
        await reached(rig, first, PostTaskState.DONE)
    assert (old.command.argv[0], new.command.argv[0]) == (f"{tmp_path}/after.sh", f"{tmp_path}/other.sh")


async def test_a_reload_without_it_drops_what_is_due(tmp_path):
    """What runs ends as it does; what waited is dropped, nobody is alarmed, and nothing follows the next task."""
    rig = await make(tmp_path, config(), done)
    async with running(rig):
        tasks = [await rig.ended(await rig.submit()) for _ in range(MOST_AT_A_TIME + 2)]
        await begun(rig, MOST_AT_A_TIME)
        rig.configure(RELOADED)
        await rig.boss.reload()
        for task in tasks[MOST_AT_A_TIME:]:
            found = await reached(rig, task, PostTaskState.DROPPED)
            assert "taken out of service.json" in found.reason
        for child in rig.processes.begun:
            child.end()
        for task in tasks[:MOST_AT_A_TIME]:
            await reached(rig, task, PostTaskState.DONE)
        late = await rig.ended(await rig.submit())
        assert await after(rig, late) is None
        assert await told(rig) == []


async def test_old_folders_are_removed_and_those_in_use_are_not(tmp_path):
    """Output is kept as long as runs are; what still runs keeps its folder."""
    rig = await make(tmp_path, config(), done)
    async with running(rig):
        old, young = [await rig.ended(await rig.submit()) for _ in range(2)]
        first, second = await begun(rig), await begun(rig, 2)
        folder = rig.boss.post_tasks.folder
        for task in (old, young):
            os.utime(folder(task.id), (0, 0))
        await rig.boss.post_tasks.retire(rig.clock.now_ms())
        assert folder(old.id).exists(), "it is in use"
        first.end()
        second.end()
        for task in (old, young):
            await reached(rig, task, PostTaskState.DONE)
        await rig.until(lambda: not rig.boss.post_tasks._running)
        os.utime(folder(old.id), (0, 0))
        await once(rig.boss)
        assert (folder(old.id).exists(), folder(young.id).exists()) == (False, True)


async def test_a_follower_hears_of_a_failure_and_is_not_kept_waiting(tmp_path):
    """Who follows a task hears of its end at once, whatever follows it; later its log tells that the command failed."""
    rig = await make(tmp_path, config(), done)
    async with running(rig):
        task = await rig.submit()
        live = [each async for each in rig.boss.follow(task.id)]
        assert [each["type"] for each in live[-2:]] == ["attempt", "ended"]
        (await begun(rig)).end(5, b"no")
        await reached(rig, task, PostTaskState.FAILED)
        later = [each async for each in rig.boss.follow(task.id)]
    assert later[-2] == {"type": "post_task", "state": "failed", "exit": 5, "reason": "exit code 5: no"}
    assert later[-1]["type"] == "ended"
