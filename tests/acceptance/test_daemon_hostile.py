"""Promises against hostile agents: whatever they write, ignore, start or become, the daemon lives and says why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from locum.engine.proc import marked
from locum.words import size
from tests.harness import World, path_of, world

MOST_MEMORY_KB = 200 << 10
SPOOL = 32 << 20
OK = '{"type":"result","status":"ok"}'


@pytest.fixture(scope="module")
def earth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One daemon for all tests of this file, with small bounds and a poisoned environment."""
    limits = {"parallel": 4, "spool": "32M", "stop_grace": "1s"}
    poison = {
        "NOTIFY_SOCKET": "/nowhere",
        "WATCHDOG_USEC": "1",
        "LISTEN_FDS": "0",
        "CREDENTIALS_DIRECTORY": "/nowhere",
        "HARMLESS": "kept",
    }
    with world(tmp_path_factory.mktemp("hostile"), {"limits": limits}, poison) as made:
        yield made


def shell(earth: World, chain: str, script: str, **more: Any) -> None:
    """A chain whose first tier runs a shell script, and whose second does well."""
    first = {"name": f"{chain}-a", "agent": "command", "command": ["sh", "-c", script], **more}
    second = {"name": f"{chain}-b", "agent": "command", "command": ["echo", "stood in"]}
    earth.chain_of(chain, [first, second])


def reason(task: dict[str, Any]) -> str:
    """Why the first attempt failed."""
    return str(task["runs"][0]["reason"])


def peak_memory_kb(earth: World) -> int:
    """The most memory the daemon has ever used."""
    assert earth.process is not None
    text = Path(f"/proc/{earth.process.pid}/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0])


def test_a_gigantic_line_is_cut_off_by_the_spool_cap(earth: World) -> None:
    """A line without an end fills neither the memory nor the disk: the run is stopped, the reason told, work goes on."""
    shell(earth, "endless", "tr '\\000' x </dev/zero | head -c 3G")
    task = earth.do("endless")
    assert path_of(task) == [("a", "crash"), ("b", None)]
    assert f"wrote more than limits.spool ({size(SPOOL)})" in reason(task)
    assert peak_memory_kb(earth) < MOST_MEMORY_KB


def test_a_flood_of_short_lines_is_cut_off_by_the_spool_cap(earth: World) -> None:
    """An agent that writes faster than anybody can read is stopped all the same, and soon."""
    shell(earth, "flood", f"yes '{json.dumps({'type': 'nonsense', 'padding': 'x' * 150})}' | head -c 3G")
    task = earth.do("flood")
    assert path_of(task) == [("a", "crash"), ("b", None)]
    assert "limits.spool" in reason(task)
    size = (earth.state / "runs" / task["runs"][0]["id"] / "out").stat().st_size
    assert SPOOL < size < SPOOL + (1 << 20), "no more is kept than was asked for"
    assert peak_memory_kb(earth) < MOST_MEMORY_KB


def test_garbage_hides_no_usage(earth: World) -> None:
    """Invalid UTF-8, NULs, broken and deeply nested JSON and absurd counts are passed over; what is right counts."""
    noise = [
        b"\xff\xfe\x00\x80\n",
        b'{"type":"usage","input":\n',
        b"[" * 100_000 + b"\n",
        b'{"a":' * 50_000 + b"\n",
        b'{"type":"usage","id":"x","input":-5}\n',
        b'{"type":"usage","id":"y","input":1e400}\n',
        b'{"type":"usage","id":"z","input":' + b"9" * 5000 + b"}\n",
        b'{"type":"failure","kind":["auth_error"],"message":{}}\n',
        b'{"type":"result","status":"\\ud800"}\n',
        b'{"type":"usage","id":"good","input":7}\r\n',
        b'{"type":"usage","id":"cut","input":11}',
    ]
    raw = earth.stage("garbage") / "noise"
    raw.write_bytes(b"".join(noise[:7] + noise[8:]))
    shell(earth, "garbage", f"cat {raw}")
    task = earth.do("garbage")
    assert path_of(task) == [("a", None)]
    assert earth.client.get("/usage")["chains"]["garbage"]["totals"]["input"] == 18


@pytest.mark.parametrize(("name", "program"), [("absent", "/nowhere/agent"), ("folder", "/tmp"), ("bare", "no-such")])
def test_an_agent_that_cannot_be_started_says_so(earth: World, name: str, program: str) -> None:
    """A program that is missing, or is a folder, is a crash with a sentence that names it, and the next tier works."""
    tier = {"name": f"{name}-a", "agent": "claude-code", "program": program}
    earth.chain_of(name, [tier, {"name": f"{name}-b", "agent": "command", "command": ["true"]}])
    task = earth.do(name)
    assert path_of(task) == [("a", "crash"), ("b", None)]
    assert task["runs"][0]["exit"] in (126, 127)
    assert "claude" in reason(task)


def test_a_stubborn_agent_and_its_runaway_child_are_both_ended(earth: World) -> None:
    """A cancel ends an agent that ignores TERM, and the child that has left its session."""
    child = f"{sys.executable} -c 'import os, time; os.setsid(); time.sleep(600)' & "
    shell(earth, "stubborn", f"trap '' TERM HUP INT; {child} echo up; while :; do sleep 0.1; done")
    task = earth.begin("stubborn")
    earth.until(lambda: bool(earth.task(task)["runs"]), "it runs")
    run = earth.task(task)["runs"][0]["id"]
    earth.until(lambda: len(marked(run)) >= 3, "all are up")
    earth.client.post(f"/tasks/{task}/cancel")
    assert earth.ended(task)["state"] == "cancelled"
    assert marked(run) == []


def test_what_an_agent_leaves_behind_is_swept(earth: World) -> None:
    """A child that outlives its agent, in a session of its own, is gone when the task is done, and the run says so."""
    shell(earth, "litter", f"setsid sleep 600 >/dev/null 2>&1 & echo '{OK}'")
    task = earth.do("litter")
    assert path_of(task) == [("a", None)]
    assert marked(task["runs"][0]["id"]) == []
    assert "outlived the agent" in reason(task)


FOLDER = "import os, sys; folder = os.path.dirname(sys.argv[1]); "
TRAPS = {
    "pipe": "[(os.unlink(p), os.mkfifo(p)) for n in ('out', 'err') for p in [os.path.join(folder, n)]]",
    "zero": "[(os.unlink(p), os.symlink('/dev/zero', p)) for n in ('out', 'err') for p in [os.path.join(folder, n)]]",
    "holes": "os.truncate(os.path.join(folder, 'out'), 1 << 40)",
    "metapipe": "p = os.path.join(folder, 'meta.json'); os.unlink(p); os.mkfifo(p)",
    "exitpipe": "os.mkfifo(os.path.join(folder, 'exit')); os.unlink(os.path.join(folder, 'pid'))",
}


@pytest.mark.parametrize("trap", TRAPS)
def test_traps_in_a_runs_folder_hold_nobody_up(earth: World, trap: str) -> None:
    """Pipes, devices and endless holes in the places of a run's files cost that run its words, and nobody anything."""
    command = [sys.executable, "-c", f"{FOLDER}{TRAPS[trap]}; sys.exit(4)", "{prompt_file}"]
    name = f"trap{trap}"
    second = {"name": f"{name}-b", "agent": "command", "command": ["echo", "stood in"]}
    earth.chain_of(name, [{"name": f"{name}-a", "agent": "command", "command": command}, second])
    assert path_of(earth.do(name)) == [("a", "crash"), ("b", None)]
    assert earth.answers()


def test_a_runs_folder_full_of_traps_is_adopted(tmp_path: Path) -> None:
    """A daemon that finds poisoned runs starts, answers, harms no stranger, and brings every task to an end."""
    with world(tmp_path, {"limits": {"parallel": 8, "stop_grace": "1s"}}) as earth:
        decoy = subprocess.Popen(["sleep", "600"], start_new_session=True)
        try:
            wait = {"name": "w-a", "agent": "command", "command": ["sh", "-c", "echo up; exec sleep 600"]}
            earth.chain_of("w", [wait, {"name": "w-b", "agent": "command", "command": ["true"]}])
            tasks = []
            for poison in (_pipes, _wrong_meta, _long_pid, _no_folder, _decoy_pid(decoy.pid)):
                task = earth.begin("w")
                earth.until(lambda task=task: bool(earth.task(task)["runs"]), "it runs")  # type: ignore[misc]
                tasks.append((task, earth.state / "runs" / earth.task(task)["runs"][0]["id"], poison))
            for _, folder, _ in tasks:
                earth.until(lambda folder=folder: (folder / "pid").exists(), "its wrapper is up")  # type: ignore[misc]
            earth.kill()
            for _, folder, poison in tasks:
                poison(folder)
            earth.start()
            for task, folder, _ in tasks:
                earth.client.post(f"/tasks/{task}/cancel")
                assert earth.ended(task)["state"] == "cancelled"
                assert marked(folder.name) == []
            assert decoy.poll() is None
        finally:
            decoy.kill()
            decoy.wait()


def _pipes(folder: Path) -> None:
    for name in ("out", "err", "meta.json", "lock", "pid"):
        (folder / name).unlink()
        os.mkfifo(folder / name)


def _wrong_meta(folder: Path) -> None:
    meta = {"home": 5, "environ": {"HOME": 5}, "bounds": [None] * 4, "timezone": "No/Where", "began": None}
    (folder / "meta.json").write_text(json.dumps(meta))


def _long_pid(folder: Path) -> None:
    (folder / "pid").write_text("9" * 40)


def _no_folder(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))
    folder.write_text("not a folder")


def _decoy_pid(pid: int) -> Callable[[Path], None]:
    def poison(folder: Path) -> None:
        (folder / "pid").write_text(f"{pid}\n")

    return poison


@pytest.mark.parametrize("name", ["daemon.lock", "runs", "dangling"])
def test_a_state_folder_that_is_spoilt_is_told_by_name(tmp_path: Path, name: str) -> None:
    """What lies in the place of the lock or of the runs is named in one sentence, and the exit code tells."""
    made = World(tmp_path)
    made.state.mkdir()
    spoilt = made.state / ("runs" if name == "dangling" else name)
    match name:
        case "daemon.lock":
            os.mkfifo(spoilt)
        case "runs":
            spoilt.write_text("")
        case "dangling":
            spoilt.symlink_to("nowhere")
    made.start(wait=False)
    assert made.process is not None
    try:
        assert made.process.wait(30) == 1
    finally:
        made.process.kill()
    told = made.log.read_text()
    assert f"{spoilt}: " in told
    assert "Traceback" not in told
    assert "File exists" not in told


def test_a_storm_of_children_is_survived(earth: World) -> None:
    """Two hundred short children leave the daemon answering and the task done."""
    shell(earth, "storm", f"for i in $(seq 200); do sleep 0.01 & done; wait; echo '{OK}'")
    task = earth.begin("storm")
    began = time.monotonic()
    assert earth.answers()
    assert time.monotonic() - began < 1
    assert path_of(earth.ended(task)) == [("a", None)]


def test_an_agent_that_closes_its_output_is_still_judged(earth: World) -> None:
    """Closing standard output and error ends nothing: the exit code decides."""
    shell(earth, "mute", "exec >&- 2>&-; sleep 0.2; exit 3")
    task = earth.do("mute")
    assert path_of(task) == [("a", "crash"), ("b", None)]
    assert task["runs"][0]["exit"] == 3


def test_a_silent_agent_is_stopped(earth: World) -> None:
    """Silence longer than stall_after is `stalled`, and the next tier takes over."""
    shell(earth, "silent", "sleep 600", stall_after="1s")
    task = earth.do("silent")
    assert path_of(task) == [("a", "stalled"), ("b", None)]
    assert reason(task) == "silent for 1 s"


def test_a_chatty_agent_is_stopped_at_its_time_limit(earth: World) -> None:
    """An agent that always says something is stopped when its time is over."""
    shell(earth, "slow", "while :; do echo on; sleep 0.1; done", stall_after="1s", time_limit="1s")
    task = earth.do("slow")
    assert path_of(task) == [("a", "stalled"), ("b", None)]
    assert "time_limit" in reason(task)


def test_a_tool_at_work_is_no_silence(earth: World) -> None:
    """While a tool call's own process works the agent may be silent; once that has ended the silence counts."""
    tool = {"type": "tool_use", "id": "t1", "name": "Bash", "input": {}}
    said = {"type": "assistant", "session_id": "s", "message": {"id": "m1", "content": [tool]}}
    script = earth.stage("tool") / "claude"
    script.write_text(f"#!/bin/sh\ncat >/dev/null\necho '{json.dumps(said)}'\nsleep 2.5\nexec tail -f /dev/null\n")
    script.chmod(0o755)
    tier = {"name": "tool-a", "agent": "claude-code", "program": str(script), "stall_after": "1s"}
    earth.chain_of("tool", [tier, {"name": "tool-b", "agent": "command", "command": ["true"]}])
    began = time.monotonic()
    task = earth.do("tool")
    assert path_of(task) == [("a", "stalled"), ("b", None)]
    assert time.monotonic() - began > 2.4


def test_a_prompt_of_five_megabytes_arrives_whole(earth: World) -> None:
    """A prompt far longer than any command line may be reaches the agent, through the command line and the socket."""
    earth.chain("long", {"a": [{}]})
    prompt = "".join(f"line {number} äöü\n" for number in range(320_000))
    assert len(prompt.encode()) > 5 << 20
    done = earth.run("submit", "--chain", "long", "--cwd", str(earth.place()), "-", input=prompt)
    assert done.returncode == 0, done.stderr
    assert earth.ended(done.stdout.strip())["state"] == "done"
    assert earth.prompts("long", "a") == [prompt]


def test_a_directory_that_vanishes_before_the_run_fails_the_task_alone(earth: World) -> None:
    """A task whose directory is gone fails with that reason; no tier is tried or held for it."""
    earth.chain("gone", {"a": [{}]})
    earth.client.post("/chains/gone/pause")
    place = earth.place()
    task = earth.begin("gone", cwd=place)
    place.rmdir()
    earth.client.post("/chains/gone/resume")
    ended = earth.ended(task)
    assert (ended["state"], ended["reason_code"], ended["runs"]) == ("failed", "no_cwd", [])
    assert str(place) in ended["reason"]


def test_a_directory_that_vanishes_during_the_run_harms_nothing_else(earth: World) -> None:
    """An agent may remove its own directory: what it said counts, and the daemon goes on."""
    shell(earth, "sawn", f"rmdir \"$PWD\"; echo '{OK}'")
    assert path_of(earth.do("sawn")) == [("a", None)]


def test_an_agent_sees_an_environment_of_its_own(earth: World) -> None:
    """Nothing of the daemon's own reaches an agent; it has a TMPDIR that goes when the run ends, and knows its run."""
    place = earth.place()
    shell(earth, "env", "env -0 >environ; touch $TMPDIR/left")
    task = earth.do("env", cwd=place)
    entries = (place / "environ").read_text().rstrip("\0").split("\0")
    environ = dict(entry.split("=", 1) for entry in entries)
    run = task["runs"][0]["id"]
    ours = {name: value for name, value in environ.items() if name.startswith("LOCUM_")}
    names = {"LOCUM_RUN": run, "LOCUM_TASK": task["id"], "LOCUM_CHAIN": "env", "LOCUM_TIER": "env-a"}
    assert ours == names | {"LOCUM_SOCKET": os.fspath(earth.state / "locum.sock")}
    for private in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS", "CREDENTIALS_DIRECTORY"):
        assert private not in environ
    assert (environ["HARMLESS"], environ["PWD"]) == ("kept", os.fspath(place))
    assert environ["TMPDIR"] == os.fspath(earth.state / "runs" / run / "tmp")
    assert not Path(environ["TMPDIR"]).exists()
