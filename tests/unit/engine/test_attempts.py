"""Promises of attempts: what cannot start blames the right one, and what was left behind is found or forgotten."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import anyio
import pytest

from locum.agents.base import Line, Signal
from locum.agents.command import ProgramAgent
from locum.engine import attempts as module
from locum.engine.spool import Spool
from locum.policy.failure import FailureKind
from locum.policy.plan import Plan, Tier
from locum.policy.task import Run, RunState, Task, TaskState
from locum.policy.usage import Tokens, Usage
from tests.unit.engine.rig import OK, FakeProcess, Flaky, Rig, done, fails, make, running, service_of

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits as long for the disk as a daemon does."""
    monkeypatch.setattr(module, "STATE_PAUSE", 0.02)
    monkeypatch.setattr("locum.engine.supervisor.STATE_PAUSE", 0.02)


async def open_run(rig: Rig) -> tuple[Task, Run, Spool]:
    """A run whose daemon is gone: its row is there, and its folder."""
    task = await rig.submit()
    tier = Tier("a", "command", "a")
    run = Run("r-left", task.id, 1, "default", tier, task.cwd, RunState.RUNNING, rig.clock.now_ms())
    await rig.ledger.start_run(run, rig.clock.now_ms())
    spool = rig.boss.spool(run.id)
    spool.create("do it")
    return task, run, spool


async def failures(rig: Rig, task: Task) -> list[tuple[str, FailureKind | None]]:
    """Of each run of a task the tier and the failure."""
    return [(run.tier.name, run.failure) for run in await rig.ledger.runs(task.id)]


def cannot(error: OSError) -> Any:
    """An act: the process cannot be started."""

    def act(_: FakeProcess) -> None:
        raise error

    return act


async def test_a_run_that_never_started_is_forgotten_and_swept(tmp_path: Path) -> None:
    """Without a pid nothing has run; should a wrapper be there all the same, it is ended before the task starts anew."""
    rig = await make(tmp_path, service_of("a"), done)
    task, run, _ = await open_run(rig)
    async with running(rig):
        assert (await rig.ended(task)).state is TaskState.DONE
    assert rig.processes.swept == [run.id]
    assert len(rig.processes.started) == 1


async def test_a_run_that_ended_meanwhile_is_judged_by_its_folder(tmp_path: Path) -> None:
    """What an agent finished while no daemon was there is done, and is not run again."""
    rig = await make(tmp_path, service_of("a"))
    task, run, spool = await open_run(rig)
    (spool.folder / "pid").write_text("1\n")
    FakeProcess(None, spool).end(0, OK)
    async with running(rig):
        assert (await rig.ended(task)).state is TaskState.DONE
    assert rig.processes.swept == [run.id], "what it left behind is ended"
    assert rig.processes.started == []


async def test_a_living_run_is_adopted_and_its_task_not_started_twice(tmp_path: Path) -> None:
    """A run that lives is watched to its end; its directory and its place count as taken meanwhile."""
    rig = await make(tmp_path, service_of("a"), done)
    task, run, spool = await open_run(rig)
    (spool.folder / "pid").write_text("1\n")
    process = rig.processes.living[run.id] = FakeProcess(None, spool)
    async with running(rig):
        await rig.until(lambda: run.id in rig.boss.running())
        assert rig.boss.busy() == frozenset(rig.ledger.plan.chains["default"].targets(rig.ledger.plan.tiers["a"]))
        assert task.id in rig.boss.attempts
        process.end(0, OK)
        assert (await rig.ended(task)).state is TaskState.DONE
    assert rig.processes.started == []


async def test_a_cancel_asked_of_the_last_daemon_is_kept(tmp_path: Path) -> None:
    """A task that was to be cancelled when the daemon died is cancelled by the next one."""
    rig = await make(tmp_path, service_of("a"))
    task, run, spool = await open_run(rig)
    (spool.folder / "pid").write_text("1\n")
    process = rig.processes.living[run.id] = FakeProcess(None, spool)
    await rig.ledger.cancel(task.id, rig.clock.now_ms())
    async with running(rig):
        assert (await rig.ended(task)).state is TaskState.CANCELLED
    assert len(process.stops) == 1


@pytest.mark.parametrize("alive", [True, False])
async def test_a_stop_that_the_last_daemon_did_not_see_through_blames_nobody(tmp_path: Path, alive: bool) -> None:
    """An agent that was told to stop by a daemon that died meanwhile has not failed: its task simply runs again."""
    rig = await make(tmp_path, service_of("a"), done)
    task, run, spool = await open_run(rig)
    (spool.folder / "pid").write_text("1\n")
    await rig.ledger.ask_stop(run.id)
    process = FakeProcess(None, spool)
    if alive:
        rig.processes.living[run.id] = process
    else:
        process.end(143)
    async with running(rig):
        assert (await rig.ended(task)).state is TaskState.DONE
        runs = await rig.ledger.runs(task.id)
    assert len(process.stops) == alive, "what still lives is stopped to the end"
    assert [(each.tier.name, each.state) for each in runs] == [("a", RunState.STOPPED), ("a", RunState.SUCCEEDED)]


@pytest.mark.parametrize(
    ("boot", "state"), [("boot 2", TaskState.DONE), ("boot 1", TaskState.FAILED), ("", TaskState.FAILED)]
)
async def test_what_ended_with_its_host_is_tried_again(tmp_path: Path, boot: str, state: TaskState) -> None:
    """A reboot kills agents without blame; without one, or without knowing, an agent that was killed has crashed."""
    rig = await make(tmp_path, service_of("a"), done)
    await rig.ledger.booted("boot 1")
    rig.processes.host = boot
    task, _, spool = await open_run(rig)
    (spool.folder / "pid").write_text("1\n")
    async with running(rig):
        assert (await rig.ended(task)).state is state
        assert (rig.ledger.board.chain("default").last_failure_kind is None) is (state is TaskState.DONE)


@pytest.mark.parametrize("broken", [False, True])
async def test_a_stop_is_on_record_before_the_agent_hears_of_it(tmp_path: Path, broken: bool) -> None:
    """Whoever finds the stopped agent knows why it ended; a disk that cannot keep it keeps nothing from stopping."""
    rig = await make(tmp_path, service_of("a"))
    record = Flaky(rig.ledger, "ask_stop")
    record.broken = broken
    known = []
    async with running(rig):
        task = await rig.submit()
        await rig.until(lambda: bool(rig.boss.running()))
        [process], [run] = rig.processes.started, rig.boss.running()
        stop = process.stop

        async def heard(grace: float) -> None:
            known.append(await rig.ledger.stop_asked(run))
            await stop(grace)

        process.stop = heard  # type: ignore[method-assign]
        rig.boss.stop()
        await rig.until(lambda: not list(rig.boss.attempts))
        assert (await rig.ledger.task(task.id)).state is TaskState.QUEUED
        assert [each.state for each in await rig.ledger.runs(task.id)] == [RunState.STOPPED]
    assert known == [not broken]


async def test_a_directory_that_cannot_be_entered_blames_the_task(tmp_path: Path) -> None:
    """A working directory that goes away in the last moment fails its task and never a tier."""
    rig = await make(tmp_path, service_of("a", "b"))
    async with running(rig):
        for _ in range(2):
            place = str(rig.work / f"{len(list(rig.work.iterdir()))}")
            rig.processes.acts = [cannot(FileNotFoundError(2, os.strerror(2), place))]
            task = await rig.submit()
            assert (await rig.ended(task)).reason_code == "invalid_request"
            assert await failures(rig, task) == [("a", FailureKind.INVALID_REQUEST)]
    assert rig.ledger.board.holds == {}


async def test_a_process_that_cannot_be_made_is_a_crash_of_the_tier(tmp_path: Path) -> None:
    """No more processes, no shell: the task tries its next tier, with the reason told."""
    rig = await make(tmp_path, service_of("a", "b"), cannot(BlockingIOError(11, os.strerror(11))), done)
    async with running(rig):
        task = await rig.submit()
        assert (await rig.ended(task)).state is TaskState.DONE
        runs = await rig.ledger.runs(task.id)
        assert [(run.tier.name, run.failure) for run in runs] == [("a", FailureKind.CRASH), ("b", None)]
        assert "could not be started" in runs[0].reason


async def test_a_secret_that_is_missing_is_an_auth_error_of_its_tier(tmp_path: Path) -> None:
    """A tier whose secret cannot be read is bumped like one whose login was refused, naming the secret."""
    service = service_of("a", "b")
    service["failover"]["tiers"][0]["env"] = {"KEY": {"env": "NOBODY_SET_THIS"}}
    rig = await make(tmp_path, service, done)
    async with running(rig):
        task = await rig.submit()
        assert (await rig.ended(task)).state is TaskState.DONE
        assert await failures(rig, task) == [("a", FailureKind.AUTH_ERROR), ("b", None)]
        assert "NOBODY_SET_THIS" in rig.ledger.board.chain("default").last_failure_reason


async def test_a_tier_edited_away_in_the_last_moment_costs_nothing(tmp_path: Path) -> None:
    """A tier that is picked and gone before it starts is no crash of the daemon: the task is offered again."""
    rig = await make(tmp_path, service_of("a"), done)
    elsewhere = await make(tmp_path / "edited", service_of("b"))
    await elsewhere.ledger.close()
    read, asked = rig.ledger.runs, []

    async def edits(task_id: str) -> list[Run]:
        asked.append(task_id)
        rig.boss.attempts.seats = elsewhere.boss.attempts.seats  # as in a reload, ahead of the ledger's plan
        return await read(task_id)

    async with running(rig):
        rig.ledger.runs = edits  # type: ignore[method-assign]
        task = await rig.submit()
        await rig.until(lambda: len(asked) > 2)
        assert rig.processes.started == []
        rig.ledger.runs = read  # type: ignore[method-assign]
        rig.configure(service_of("b"))
        assert (await rig.ended(task)).state is TaskState.DONE
        assert await failures(rig, task) == [("b", None)]


async def test_an_end_that_cannot_be_recorded_is_recorded_later(tmp_path: Path) -> None:
    """While the disk takes nothing an ended run waits; it is neither lost nor run again."""
    rig = await make(tmp_path, service_of("a", "b"), fails("auth_error"), done)
    end = Flaky(rig.ledger, "end_run")
    async with running(rig):
        task = await rig.submit()
        await rig.until(lambda: end.failed > 2)
        assert (await rig.ledger.task(task.id)).state is TaskState.RUNNING
        end.broken = False
        assert (await rig.ended(task)).state is TaskState.DONE
        assert await failures(rig, task) == [("a", FailureKind.AUTH_ERROR), ("b", None)]


async def test_a_start_that_cannot_be_recorded_starts_nothing(tmp_path: Path) -> None:
    """Without its row no process is started; the task waits and starts when the disk takes it."""
    rig = await make(tmp_path, service_of("a"), done)
    start = Flaky(rig.ledger, "start_run")
    async with running(rig):
        task = await rig.submit()
        await rig.until(lambda: start.failed > 2)
        assert rig.processes.started == []
        start.broken = False
        assert (await rig.ended(task)).state is TaskState.DONE
    assert len(rig.processes.started) == 1


async def test_a_run_that_is_lost_from_sight_is_found_again(tmp_path: Path) -> None:
    """When the ledger cannot be read for a while the run is watched anew, from its beginning, and counted once."""
    rig = await make(tmp_path, service_of("a"))
    look = Flaky(rig.ledger, "run_tokens")
    async with running(rig):
        task = await rig.submit()
        await rig.until(lambda: bool(rig.processes.started))
        process = rig.processes.started[0]
        process.end(0, json.dumps({"type": "usage", "id": "m", "input": 9}) + "\n" + OK)
        await rig.until(lambda: look.failed > 2)
        look.broken = False
        assert (await rig.ended(task)).state is TaskState.DONE
        assert (await rig.ledger.task_tokens(task.id)).total == 9


@pytest.mark.parametrize("name", ["end_run", "run_tokens"])
async def test_a_stop_leaves_what_cannot_be_written_to_the_next_daemon(tmp_path: Path, name: str) -> None:
    """A daemon that is told to stop while the disk takes nothing ends; its run stays open, to be found."""
    rig = await make(tmp_path, service_of("a"))
    Flaky(rig.ledger, name)
    with anyio.fail_after(10):
        async with running(rig):
            await rig.submit()
            await rig.until(lambda: bool(rig.boss.running()))
            rig.boss.stop()
            await rig.until(lambda: not list(rig.boss.attempts))
            assert len(await rig.ledger.open_runs()) == 1
    assert len(rig.processes.started) == 1


async def test_an_adoption_that_cannot_be_written_leaves_the_run_open(tmp_path: Path) -> None:
    """The same holds for a run of an earlier daemon."""
    rig = await make(tmp_path, service_of("a"))
    _, run, spool = await open_run(rig)
    (spool.folder / "pid").write_text("1\n")
    rig.processes.living[run.id] = FakeProcess(None, spool)
    Flaky(rig.ledger, "end_run")
    with anyio.fail_after(10):
        async with running(rig):
            await rig.until(lambda: run.id in rig.boss.running())
            rig.boss.stop()
            await rig.until(lambda: not list(rig.boss.attempts))
            assert [each.id for each in await rig.ledger.open_runs()] == [run.id]


async def test_a_task_cancelled_while_it_starts_is_cancelled(tmp_path: Path) -> None:
    """A cancel between the decision and the start wins, and no process is made."""
    rig = await make(tmp_path, service_of("a"), done)
    prompt = rig.ledger.prompt

    async def slow(task_id: str) -> bytes:
        text = await prompt(task_id)
        await rig.boss.cancel(task_id)
        return text

    rig.ledger.prompt = slow  # type: ignore[method-assign]
    async with running(rig):
        task = await rig.submit()
        assert (await rig.ended(task)).state is TaskState.CANCELLED
        await rig.until(lambda: task.id not in rig.boss.attempts)
    assert rig.processes.started == []


async def test_a_run_of_a_chain_that_is_gone_is_still_busy(tmp_path: Path) -> None:
    """A tier of a chain that was edited away counts as at work until its run ends, and that run's failure is its task's."""
    rig = await make(tmp_path, service_of("a"))
    async with running(rig):
        task = await rig.submit()
        await rig.until(lambda: bool(rig.boss.running()))
        await rig.ledger.replan(Plan({}), rig.clock.now_ms())
        assert "tier:a" in rig.boss.busy()
        rig.processes.started[0].end(1)
        assert (await rig.ended(task)).reason_code == "chain_gone"


async def test_a_bug_of_ours_costs_one_run_and_not_the_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that locum cannot digest ends its run, clearly, and the task goes on elsewhere; nobody else notices."""
    real = ProgramAgent.read

    def read(agent: ProgramAgent, line: Line) -> tuple[Usage | Signal, ...]:
        if line.data == b"poison":
            raise RuntimeError("a bug")
        return real(agent, line)

    monkeypatch.setattr(ProgramAgent, "read", read)
    rig = await make(tmp_path, service_of("a", "b"), lambda process: process.end(0, "poison\n"), done)
    async with running(rig):
        task = await rig.submit()
        assert (await rig.ended(task)).state is TaskState.DONE
        first, second = await rig.ledger.runs(task.id)
    assert (first.tier.name, first.failure, second.tier.name) == ("a", FailureKind.UNKNOWN, "b")
    assert "locum itself failed" in first.reason


@pytest.mark.parametrize("reported", [0, 5])
async def test_a_program_that_reports_its_usage_has_known_usage(tmp_path: Path, reported: int) -> None:
    """One that tells none in its output, but to us: the run's tokens are those; one that tells none at all, unknown."""
    async with running(await make(tmp_path, service_of("a"))) as rig:
        task = await rig.submit()
        await rig.until(lambda: bool(rig.processes.started))
        (run,) = await rig.ledger.open_runs()
        if reported:
            await rig.ledger.record(run.id, [Usage("report:sub", Tokens(reported))], rig.clock.now_ms())
        rig.processes.started[0].end(0, OK)
        assert (await rig.ended(task)).state is TaskState.DONE
        assert (await rig.ledger.run(run.id)).usage_known is bool(reported)
