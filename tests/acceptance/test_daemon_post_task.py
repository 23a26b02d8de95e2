"""Promises about the operator's command after each task, with a real daemon, real commands and real deaths."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from locum.engine.proc import POST_TASK_VARIABLE, marked
from tests.harness import LOCUM, World, running, world

SECRET = "sk-after-the-task-0123456789"


def after(earth: World, script: str, **more: Any) -> None:
    """Run this shell script after each task from now on."""
    path = earth.folder / "after.sh"
    new = path.with_suffix(".new")
    new.write_text(f"#!/bin/sh\n{script}\n")
    new.chmod(0o755)
    new.rename(path)
    earth.service["post_task"] = {"command": ["./after.sh"], **more}
    earth.apply()


def ended(earth: World, task: str, timeout: float = 30) -> dict[str, Any]:
    """What became of the command after a task, once it has ended."""

    def over() -> bool:
        found = earth.task(task)["post_task"]
        return found is not None and found["ended"] is not None

    earth.until(over, f"{task} is followed", timeout)
    found: dict[str, Any] = earth.task(task)["post_task"]
    return found


def lines(path: Path) -> list[str]:
    """The lines of a file, none while it is not there."""
    return path.read_text().splitlines() if path.exists() else []


def peak_memory_kb(earth: World) -> int:
    """The most memory the daemon has ever used."""
    assert earth.process is not None
    return int(Path(f"/proc/{earth.process.pid}/status").read_text().partition("VmHWM:")[2].split()[0])


@pytest.fixture(scope="module")
def earth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One daemon for the tests that need no death of it."""
    limits = {"parallel": 4, "min_free": "1K", "stop_grace": "1s"}
    with world(
        tmp_path_factory.mktemp("after"), {"limits": limits}, {"HARMLESS": "kept", "WATCHDOG_USEC": "1"}
    ) as made:
        made.chain("well", {"a": [{"entries": 2}]})
        made.chain("moves", {"a": [{"entries": 1, "failure": "auth_error"}], "b": [{"entries": 1, "say": "fine"}]})
        made.chain("ill", {"a": [{"failure": "invalid_request", "message": "no such thing"}]})
        yield made


def test_it_reads_the_result_where_service_json_lies(earth: World) -> None:
    """The JSON of the page on its input, the folder of service.json around it, this daemon's socket, no mark of a run."""
    after(earth, "cat >told; pwd >where; env >environ")
    task = earth.do("moves")
    assert ended(earth, task["id"]) == {
        **earth.task(task["id"])["post_task"],
        "state": "done",
        "exit": 0,
        "reason": None,
    }
    told = json.loads((earth.folder / "told").read_text())
    known = earth.task(task["id"])
    known.pop("post_task")
    assert {"schema": 1, **told["task"], "runs": told["runs"]} == known
    assert [(run["tier"], run["failure"]) for run in told["runs"]] == [("moves-a", "auth_error"), ("moves-b", None)]
    assert told["tokens"]["total"] == sum(run["tokens"]["total"] for run in told["runs"]) > 0
    assert told["usage"] == earth.client.get("/usage")["chains"]["moves"]
    assert told["chain"]["active_tier"] == "moves-b"
    assert told["chain"]["last_failure_kind"] == "auth_error"
    assert (earth.folder / "where").read_text().strip() == str(earth.folder)
    environ = dict(line.split("=", 1) for line in lines(earth.folder / "environ") if "=" in line)
    assert (environ["LOCUM_TASK"], environ["LOCUM_CHAIN"]) == (task["id"], "moves")
    assert environ["LOCUM_SOCKET"] == str(earth.state / "locum.sock")
    assert environ["HARMLESS"] == "kept"
    assert not {"LOCUM_RUN", "WATCHDOG_USEC", "LOCUM_TIER"} & environ.keys()


def test_it_may_steer_the_daemon_and_an_agent_may_not(earth: World) -> None:
    """`locum pause` from the operator's command pauses the chain; the same words from an agent are refused."""
    earth.chain("calm", {"a": [{}]})
    after(earth, f"{LOCUM} pause calm >paused 2>&1 || exit 9; {LOCUM} status --json >standing")
    assert ended(earth, earth.do("well")["id"])["state"] == "done", lines(earth.folder / "paused")
    assert earth.status("calm")["paused"] is True
    assert json.loads((earth.folder / "standing").read_text())["chains"]["calm"]["paused"] is True
    after(earth, "true")
    script = f"{LOCUM} --state {earth.state} resume calm; test $? = 77"
    earth.chain_of("sly", [{"name": "sly-a", "agent": "command", "command": ["sh", "-c", script]}])
    assert earth.do("sly")["state"] == "done", "the agent was refused with 77"
    assert earth.status("calm")["paused"] is True


def test_a_failure_is_shown_everywhere_and_touches_nothing(earth: World) -> None:
    """Log, notice, task, list, logs and status say why; the task stays done, `locum run` exits with 0, no chain moves."""
    after(earth, "echo first; echo 'the server said 503' >&2; exit 3")
    board = {name: chain["tiers"] for name, chain in earth.client.get("/status")["chains"].items()}
    ran = earth.run("run", "--chain", "well", "--cwd", str(earth.place()), "x")
    assert ran.returncode == 0
    task = earth.client.get("/tasks", chain="well", limit=1)["tasks"][0]["id"]
    found = ended(earth, task)
    assert (found["state"], found["exit"], found["reason"]) == ("failed", 3, "exit code 3: the server said 503")
    assert earth.task(task)["state"] == "done"
    assert {name: chain["tiers"] for name, chain in earth.client.get("/status")["chains"].items()} == board
    (notice,) = [each for each in earth.notices("post_task_failed", "well") if each["data"]["task"] == task]
    assert (notice["severity"], notice["data"]["exit"]) == ("warning", 3)
    assert "post_task failed: exit code 3: the server said 503" in earth.run("tasks", "--limit", "1").stdout
    assert "post_task failed: exit code 3: the server said 503" in earth.run("logs", task).stderr
    assert f"post_task failed after {task}" in earth.run("status").stdout
    earth.until(lambda: "post_task_failed" in earth.log.read_text(), "it is logged")
    assert "the server said 503" in earth.log.read_text()
    assert (earth.state / "post" / task / "output").read_text() == "first\nthe server said 503\n"
    again = earth.folder / "after.sh"
    assert json.loads((earth.state / "post" / task / "result.json").read_text())["task"]["id"] == task
    assert again.exists()
    after(earth, "true")
    ended(earth, earth.do("well")["id"])
    assert "post_task failed" not in earth.run("status").stdout, "a later one did well"


def test_it_follows_failed_and_cancelled_tasks(earth: World) -> None:
    """However a task ends, the command is told so."""
    after(earth, "cat >>ends; echo >>ends")
    failed = earth.do("ill")
    earth.chain("slow", {"a": [{"sleep": 60}]})
    cancelled = earth.begin("slow")
    earth.until(lambda: earth.task(cancelled)["state"] == "running", "it runs")
    earth.client.post(f"/tasks/{cancelled}/cancel")
    for task in (failed["id"], cancelled):
        assert ended(earth, task)["state"] == "done"
    told = {each["task"]["id"]: each for each in map(json.loads, filter(None, lines(earth.folder / "ends")))}
    assert told[failed["id"]]["task"]["state"] == "failed"
    assert told[failed["id"]]["runs"][0]["failure"] == "invalid_request"
    assert told[cancelled]["task"]["state"] == "cancelled"


def test_one_that_hangs_is_ended_with_its_children(earth: World) -> None:
    """One that ignores TERM is killed after limit and grace, its children with it; other tasks do not wait for it."""
    after(earth, "trap '' TERM; (trap '' TERM; sleep 600) & echo stuck; while :; do sleep 0.1; done", time_limit="1s")
    began = time.monotonic()
    task = earth.do("well")
    assert earth.do("well")["state"] == "done"
    assert time.monotonic() - began < 10
    found = ended(earth, task["id"])
    assert (found["state"], found["exit"]) == ("failed", None)
    assert found["reason"] == "it took longer than its time_limit (1 s) and was stopped"
    earth.until(lambda: marked(task["id"], POST_TASK_VARIABLE) == [], "nothing of it is left")
    assert (earth.state / "post" / task["id"] / "output").read_text() == "stuck\n"


def test_a_gigabyte_of_output_fills_nothing(earth: World) -> None:
    """A flood is read past: 64 KiB of it are kept, the daemon does not grow, and tasks end meanwhile."""
    after(earth, "yes 'all work and no play' | head -c 1G; echo the end", time_limit="3s")
    task = earth.do("well")
    earth.do("well")
    earth.do("well")
    ended(earth, task["id"])
    files = list((earth.state / "post").rglob("*"))
    assert all(path.stat().st_size < 70_000 for path in files if path.is_file())
    assert peak_memory_kb(earth) < 200 << 10
    after(earth, "true")
    for each in earth.client.get("/tasks", chain="well", limit=1000)["tasks"]:
        ended(earth, each["id"])


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["./not-there.sh"], "not-there.sh: it cannot be started (No such file or directory)"),
        (["./plain.txt"], "plain.txt: it cannot be started (Permission denied)"),
        (["no-such-program"], "no-such-program: it cannot be started (No such file or directory)"),
        (["./no-shebang"], "no-shebang: it cannot be started (Exec format error)"),
        (["./kills-itself"], "exit code 137"),
        (["./shuts-its-input"], None),
    ],
)
def test_a_bad_command_costs_nobody_else_anything(earth: World, command: list[str], reason: str | None) -> None:
    """Missing, not executable, no program, dead at once: told in a sentence, and the daemon goes on."""
    for name, text, mode in (
        ("plain.txt", "#!/bin/sh\n", 0o644),
        ("no-shebang", "echo\n", 0o755),
        ("kills-itself", "#!/bin/sh\nkill -9 $$\n", 0o755),
        ("shuts-its-input", "#!/bin/sh\nexec <&-\nexit 0\n", 0o755),
    ):
        (earth.folder / name).write_text(text)
        (earth.folder / name).chmod(mode)
    earth.service["post_task"] = {"command": command}
    earth.apply()
    task = earth.do("well")
    found = ended(earth, task["id"])
    assert found["state"] == ("failed" if reason else "done")
    assert (found["reason"] or "").endswith(reason or "")
    assert earth.alive()
    assert "Traceback" not in earth.log.read_text()


def test_secrets_it_prints_are_masked(earth: World) -> None:
    """A secret of service.json that the command prints is in no file, no answer, no notice and no log."""
    earth.service["failover"]["tiers"][0]["env"] = {"API_KEY": SECRET}
    after(earth, f"echo refused {SECRET}; printf 'key \\033[1m{SECRET[:9]}\\033[0m{SECRET[9:]}\\n'; exit 1")
    task = earth.do("well")
    assert ended(earth, task["id"])["reason"] == "exit code 1: key •••"
    kept = (earth.state / "post" / task["id"] / "output").read_text()
    told = json.dumps([earth.client.get("/notices", limit=1000), earth.client.get("/status"), earth.task(task["id"])])
    earth.until(lambda: task["id"] in earth.log.read_text().partition("refused")[2], "it is logged")
    for text in (kept, told, earth.log.read_text(), earth.run("logs", task["id"]).stderr):
        assert SECRET not in text
        assert SECRET[9:] not in text
    del earth.service["failover"]["tiers"][0]["env"]


def test_a_hundred_tasks_that_end_at_once_are_each_followed_once(tmp_path: Path) -> None:
    """All are followed, no more than four at a time, and the ledger adds up."""
    limits = {"parallel": 4, "min_free": "1K"}
    with world(tmp_path, {"limits": limits}) as earth:
        earth.chain("many", {"a": [{}]})
        earth.client.post("/chains/many/pause")
        script = "mkdir -p at; : >at/$LOCUM_TASK; ls at | wc -l >>counts; cat >/dev/null; rm at/$LOCUM_TASK; echo $LOCUM_TASK >>done"
        after(earth, script)
        tasks = [earth.begin("many") for _ in range(100)]
        for task in tasks:
            earth.client.post(f"/tasks/{task}/cancel")
        earth.until(lambda: len(lines(tmp_path / "done")) >= 100, "all are followed", 60)
        assert sorted(lines(tmp_path / "done")) == sorted(tasks)
        assert max(map(int, lines(tmp_path / "counts"))) <= 4
        earth.until(
            lambda: earth.client.get("/status")["post_task"] == {"due": 0, "running": 0, "last_failure": None}, ""
        )
        assert earth.client.get("/audit")["problems"] == []


@pytest.mark.parametrize("when", ["before", "while", "after its end"])
def test_a_daemon_that_is_killed_meanwhile_runs_it_again(tmp_path: Path, when: str) -> None:
    """Kill -9 before it begins, while it runs or as it ends: it comes to its end at least once, and never two at a time."""
    with world(tmp_path, {"limits": {"min_free": "1K"}}) as earth:
        earth.chain("well", {"a": [{}]})
        beat = "mkdir alone || echo two >>wrong; echo $LOCUM_TASK >>begun"
        hold = {"before": "true", "while": "[ -e open ] || sleep 600", "after its end": "kill -STOP $(cat daemon.pid)"}[
            when
        ]
        assert earth.process is not None
        (tmp_path / "daemon.pid").write_text(str(earth.process.pid))
        if when == "after its end":
            hold = f"[ -e open ] || {hold}"
        after(earth, f"{beat}; {hold}; rmdir alone; echo $LOCUM_TASK >>done")
        if when == "before":
            (tmp_path / "state" / "post").write_text("in the way")
        task = earth.begin("well")
        if when == "before":
            earth.until(lambda: "post_task_put_off" in earth.log.read_text(), "it is put off")
        else:
            name = "begun" if when == "while" else "done"
            earth.until(lambda: task in lines(tmp_path / name), f"it has {name}")
        earth.kill()
        (tmp_path / "open").touch()
        if when == "before":
            (tmp_path / "state" / "post").unlink()
        if when == "while":
            (tmp_path / "alone").rmdir()  # the first one is to be ended, and can tidy nothing any more
        earth.start()
        found = ended(earth, task)
        assert found["state"] == "done"
        assert lines(tmp_path / "wrong") == []
        assert lines(tmp_path / "done") == [task] * (2 if when == "after its end" else 1)
        assert lines(tmp_path / "begun") == [task] * (1 if when == "before" else 2)
        assert marked(task, POST_TASK_VARIABLE) == []
        assert earth.client.get("/audit")["problems"] == []


def test_one_that_kills_its_daemon_does_so_three_times_and_no_more(tmp_path: Path) -> None:
    """A command that takes the daemon down each time is given up, told, and the daemon stays up."""
    made = World(tmp_path, {"limits": {"min_free": "1K"}})
    with running(made) as earth:
        earth.chain("well", {"a": [{}]})
        after(earth, "echo x >>begun; kill -9 $(cat daemon.pid); sleep 5")
        task = ""
        for number in range(1, 4):
            assert earth.process is not None
            (tmp_path / "daemon.pid").write_text(str(earth.process.pid))
            task = task or earth.begin("well")
            earth.until(lambda: not earth.alive(), f"it dies for the {number}. time")
            (tmp_path / "daemon.pid").write_text("none")
            earth.start()
        found = ended(earth, task)
        assert (found["state"], found["exit"]) == ("failed", None)
        assert found["reason"] == "it was started 3 times, and each time the daemon ended before it did"
        assert len(lines(tmp_path / "begun")) == 3
        assert len(earth.notices("post_task_failed", "well")) == 1
        assert earth.task(task)["state"] == "done"


def test_a_clean_stop_is_not_held_up_and_it_runs_again(tmp_path: Path) -> None:
    """A stop gives it the grace that agents get; the next daemon runs it from the start, and config may be gone."""
    with world(tmp_path, {"limits": {"min_free": "1K", "stop_grace": "1s"}}) as earth:
        earth.chain("well", {"a": [{}]})
        after(earth, "trap '' TERM; echo x >>begun; [ -e open ] || while :; do sleep 0.1; done; echo x >>done")
        first, second = (earth.do("well")["id"] for _ in range(2))
        earth.until(lambda: len(lines(tmp_path / "begun")) == 2, "both run")
        began = time.monotonic()
        assert earth.stop() == 0
        assert time.monotonic() - began < 8
        assert marked(first, POST_TASK_VARIABLE) == []
        (tmp_path / "open").touch()
        earth.start()
        assert [ended(earth, task)["state"] for task in (first, second)] == ["done", "done"]
        assert len(lines(tmp_path / "done")) == 2
        (tmp_path / "open").unlink()
        third = earth.do("well")["id"]
        earth.until(lambda: len(lines(tmp_path / "begun")) == 5, "it runs")
        assert earth.stop() == 0
        del earth.service["post_task"]
        earth.configure(earth.service)
        earth.start()
        assert ended(earth, third)["state"] == "dropped"


def test_old_output_is_retired(tmp_path: Path) -> None:
    """The folders of commands go when those of runs go."""
    with world(tmp_path, {"limits": {"min_free": "1K"}}) as earth:
        earth.chain("well", {"a": [{}]})
        after(earth, "true")
        task = earth.do("well")["id"]
        ended(earth, task)
        folder = earth.state / "post" / task
        assert folder.is_dir()
        os.utime(folder, (0, 0))
        assert earth.stop() == 0
        earth.start()
        earth.until(lambda: not folder.exists(), "it is removed")


def test_its_folder_may_be_removed_meanwhile(tmp_path: Path) -> None:
    """A command that removes what it was given changes its outcome by nothing."""
    with world(tmp_path, {"limits": {"min_free": "1K"}}) as earth:
        earth.chain("well", {"a": [{}]})
        after(earth, 'rm -rf "$LOCUM_STATE/post/$LOCUM_TASK"; cat >told; exit 4')
        task = earth.do("well")["id"]
        assert ended(earth, task)["reason"] == "exit code 4"
        assert json.loads((tmp_path / "told").read_text())["task"]["id"] == task
        assert shutil.disk_usage(tmp_path).free
