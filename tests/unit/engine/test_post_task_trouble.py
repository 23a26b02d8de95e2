"""The operator's command after each task when hosts, disks, daemons and agents misbehave."""

from __future__ import annotations

import errno
import os

import anyio
import anyio.lowlevel
import pytest

from locum.engine import post_task as post_task_module
from locum.engine.post_task import PostTasks
from locum.policy.task import PostTaskState, TaskState
from locum.store.post_task import MOST_STARTS
from tests.unit.engine.followed import after, begun, config, reached, told
from tests.unit.engine.rig import Flaky, done, make, running

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    """What is tried again is tried again soon."""
    monkeypatch.setattr(post_task_module, "PAUSE", 0.02)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.E2BIG])
async def test_one_that_cannot_be_started_has_failed_at_once(tmp_path, number):
    """A missing program is told with its name, and not tried again."""
    rig = await make(tmp_path, config(), done)
    rig.processes.refusing = OSError(number, os.strerror(number), "x")
    async with running(rig):
        found = await reached(rig, await rig.ended(await rig.submit()), PostTaskState.FAILED)
        assert len(await told(rig)) == 1
    assert found.reason == f"{tmp_path}/after.sh: it cannot be started ({os.strerror(number)})"
    assert (found.exit, found.starts) == (None, 1)


async def test_a_host_that_can_start_nothing_now_is_asked_again_but_not_for_ever(tmp_path):
    """No more processes is no fault of the command; it gets its three starts."""
    rig = await make(tmp_path, config(), done)
    rig.processes.refusing = OSError(errno.EAGAIN, "Resource temporarily unavailable")
    async with running(rig):
        task = await rig.ended(await rig.submit())
        found = await reached(rig, task, PostTaskState.FAILED)
    assert found.starts == MOST_STARTS


async def test_a_clean_stop_ends_it_and_the_next_daemon_runs_it_again(tmp_path):
    """What runs when the daemon stops gets the grace, is due again, and is no failure."""
    rig = await make(tmp_path, config(), done)
    close, rig.ledger.close = rig.ledger.close, anyio.lowlevel.checkpoint
    async with running(rig):
        task = await rig.ended(await rig.submit())
        child = await begun(rig)
    found = await after(rig, task)
    assert found is not None
    assert (child.stops, found.state, found.starts) == ([3.0], PostTaskState.DUE, 1)
    assert await told(rig) == []
    rig.boss.stopping = anyio.Event()
    rig.boss.attempts.stopping = rig.boss.intake.stopping = rig.boss.stopping
    rig.boss.post_tasks = PostTasks(rig.boss)
    async with running(rig):
        (await begun(rig, 2)).end()
        found = await reached(rig, task, PostTaskState.DONE)
        assert found.starts == 2
    await close()


async def test_what_a_dead_daemon_left_is_ended_and_run_again(tmp_path):
    """A row that says running at a start is of a daemon that was killed: its processes go first, then it runs anew."""
    rig = await make(tmp_path, config(), done)
    task = await rig.submit()
    await rig.ledger.give_up(task.id, "x", "x", rig.clock.now_ms())
    await rig.ledger.post_tasks.start(task.id, rig.clock.now_ms())
    stale = tmp_path / "state" / "post" / task.id
    stale.mkdir(parents=True)
    (stale / "output").write_text("of the one before")
    async with running(rig):
        child = await begun(rig)
        assert rig.processes.cleared == [task.id]
        assert not (stale / "output").exists()
        child.end(0, b"fine")
        found = await reached(rig, task, PostTaskState.DONE)
        assert (stale / "output").read_text() == "fine"
    assert found.starts == 2


@pytest.mark.parametrize("name", ["due", "start", "end", "put_back", "running"])
async def test_a_full_disk_delays_and_loses_nothing(tmp_path, name):
    """Whichever row cannot be written or read for a while: it is tried again, and the command runs once to its end."""
    rig = await make(tmp_path, config(), done)
    flaky = Flaky(rig.ledger.post_tasks, name)
    flaky.broken = name != "put_back"
    if name == "put_back":
        rig.processes.refusing = OSError(errno.EAGAIN, "no more processes")
        flaky.broken = True
    async with running(rig):
        task = await rig.ended(await rig.submit())
        if name == "end":
            (await begun(rig)).end()
        await rig.until(lambda: flaky.failed > 1)
        assert (await rig.ledger.task(task.id)).state is TaskState.DONE, "no task is touched"
        rig.processes.refusing = None
        flaky.broken = False
        rig.boss.bell.ring()
        if name != "end":
            (await begun(rig)).end()
        await reached(rig, task, PostTaskState.DONE)
    assert len(rig.processes.begun) == 1


async def test_a_folder_that_cannot_be_written_delays_it_and_no_task(tmp_path):
    """Where `post` cannot be made, tasks go on, no start is counted, and it runs as soon as it can be."""
    rig = await make(tmp_path, config(), done)
    (tmp_path / "state" / "post").write_text("in the way")
    async with running(rig):
        tasks = [await rig.ended(await rig.submit()) for _ in range(2)]
        await anyio.sleep(0.1)
        assert rig.processes.begun == []
        (tmp_path / "state" / "post").unlink()
        rig.boss.bell.ring()
        for number in (1, 2):
            (await begun(rig, number)).end()
        for task in tasks:
            assert (await reached(rig, task, PostTaskState.DONE)).starts == 1


@pytest.mark.parametrize("trap", ["link", "pipe", "file", "full folder"])
async def test_what_lies_in_the_place_of_its_folder_is_replaced(tmp_path, trap):
    """An agent that puts something there beforehand neither stops the command nor has anything written elsewhere."""
    rig = await make(tmp_path, config(), lambda _: None)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "result.json").write_text("precious")
    async with running(rig):
        task = await rig.submit()
        folder = tmp_path / "state" / "post" / task.id
        folder.parent.mkdir()
        match trap:
            case "link":
                folder.symlink_to(elsewhere)
            case "pipe":
                folder.mkdir()
                os.mkfifo(folder / "result.json")
            case "file":
                folder.write_text("x")
            case "full folder":
                (folder / "output" / "deep").mkdir(parents=True)
        await rig.reach(task, TaskState.RUNNING)
        rig.processes.started[0].end(0, '{"type":"result","status":"ok"}\n')
        child = await begun(rig)
        assert child.told()["task"]["id"] == task.id
        child.end(0, b"well")
        await reached(rig, task, PostTaskState.DONE)
    assert (folder / "output").read_text() == "well"
    assert (elsewhere / "result.json").read_text() == "precious"
    assert [path.name for path in elsewhere.iterdir()] == ["result.json"]


async def test_a_folder_that_cannot_be_replaced_holds_up_no_other(tmp_path, monkeypatch):
    """What lies there and cannot be removed costs that one command, not those that come after it."""
    rig = await make(tmp_path, config(), lambda _: None, done)
    async with running(rig):
        task = await rig.submit()
        (tmp_path / "state" / "post" / task.id).mkdir(parents=True)
        with monkeypatch.context() as patched:
            patched.setattr(post_task_module.shutil, "rmtree", lambda *_, **__: None)
            await rig.reach(task, TaskState.RUNNING)
            rig.processes.started[0].end(0, '{"type":"result","status":"ok"}\n')
            found = await reached(rig, task, PostTaskState.FAILED)
        assert found.reason == f"{tmp_path}/state/post/{task.id} cannot be made anew"
        other = await rig.ended(await rig.submit())
        (await begun(rig)).end()
        await reached(rig, other, PostTaskState.DONE)


async def test_output_that_cannot_be_kept_changes_no_outcome(tmp_path):
    """A full disk costs the file with the output, not what is known of its end."""
    rig = await make(tmp_path, config(), done)
    async with running(rig):
        task = await rig.ended(await rig.submit())
        child = await begun(rig)
        (tmp_path / "state" / "post" / task.id / "output").mkdir()
        child.end(4, b"why")
        found = await reached(rig, task, PostTaskState.FAILED)
    assert found.reason == "exit code 4: why"


async def test_a_bug_of_ours_costs_this_command_and_nothing_else(tmp_path, monkeypatch):
    """Should working out the result ever fail, that is told as a failure; the daemon and the tasks go on."""
    rig = await make(tmp_path, config(), done)
    monkeypatch.setattr(post_task_module, "result", lambda *_: 1 / 0)
    async with running(rig):
        first = await rig.ended(await rig.submit())
        found = await reached(rig, first, PostTaskState.FAILED)
        monkeypatch.undo()
        second = await rig.ended(await rig.submit())
        (await begun(rig)).end()
        await reached(rig, second, PostTaskState.DONE)
    assert "locum itself failed" in found.reason
    assert rig.processes.cleared == [first.id], "nothing of it is left unwatched"


async def test_a_chain_that_is_gone_is_told_as_null(tmp_path):
    """A task whose chain was taken out of service.json is followed too."""
    service = config()
    service["chains"] = {"side": {"tiers": ["b"]}}
    rig = await make(tmp_path, service, done)
    async with running(rig):
        await rig.ledger.pause("side", rig.clock.now_ms())
        task = await rig.boss.submit("side", b"x", str(rig.work))
        rig.configure(config())
        await rig.boss.reload()
        ended = await rig.ended(task)
        child = await begun(rig)
        assert (ended.reason_code, child.told()["usage"], child.told()["chain"]) == ("no_chain", None, None)
        assert (child.told()["runs"], child.told()["tokens"]["total"]) == ([], 0)
        child.end()
