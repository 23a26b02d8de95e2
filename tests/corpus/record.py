"""Records a real agent CLI before the mock provider: what it wrote and how it ended, as a folder of the corpus."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from locum.agents.base import Agent, Command, Launch, Seat, Source
from locum.agents.registry import AGENTS
from locum.agents.replay import CWD, HOME, Case, Reading, lines_of
from locum.engine.spool import expand
from locum.policy.failure import Failure
from locum.policy.usage import TOKEN_TYPES, Tokens
from locum.words import iso
from tests.acceptance import logins
from tests.acceptance.install_agents import cache_folder, node_path
from tests.acceptance.provider import Provider
from tests.acceptance.provider_steps import Step

PATIENCE_S = 150.0
"""How long a run may take: Qwen tries again for 90 s."""
GRACE_S = 5.0
LONGEST_TEXT = 600
"""A text that is longer is no error: instructions, or what a file held."""
TOLD = Tokens(1200, 42, 800, 300)


@dataclass(frozen=True)
class Play:
    """What the provider does to a run, and what it is started with.

    `oauth`: with a subscription's login, `github`: with GitHub's; `args` and `env`: more of them; `resume`: this session, which is not there;
    `again`: once before with the same new session; `url`: of a provider that is not ours; `patience_s`:
    how long it may take.
    """

    steps: tuple[Step, ...] = (Step(tokens=TOLD),)
    oauth: bool = False
    github: bool = False
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    prompt: str = "say done"
    resume: str = ""
    again: bool = False
    url: str = ""
    patience_s: float = PATIENCE_S


CASES: Mapping[str, Play] = {
    "ok": Play((Step(tokens=TOLD),)),
    "tool": Play((Step("tool", tokens=TOLD),)),
    "auth": Play((Step("auth"),)),
    "throttle": Play((Step("throttle", seconds=1),)),
    # What a subscription may use is told to nobody who pays by use.
    "quota": Play((Step("usage_limit", reset_in_s=7200),), oauth=True),
    "overloaded": Play((Step("overloaded"),)),
    "e500": Play((Step("e500"),)),
    "cut": Play((Step("cut_stream", tokens=TOLD),)),
}
"""What the provider does to each run, which is all that differs between them."""


@dataclass(frozen=True)
class Ran:
    """How a run ended: its exit code (-N: by signal N) and whether it had to be stopped; epoch milliseconds of a whole second."""

    exit: int
    stopped: bool
    ended_ms: int


def record(agent: str, name: str, provider: Provider, into: Path, play: Play | None = None) -> Case:
    """Run `agent` once as locum would start it, and write what came of it to `into`/AGENT/live.NAME.

    NAME is one of CASES; with a `play` of its own it is written to `into`/AGENT/said.NAME.

    What its adapter makes of it stands in `expected.json`: a person looks at it before it goes into the corpus.
    """
    folder = into / agent / f"{'said' if play else 'live'}.{name}"
    play = play or CASES[name]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    key = f"{'sk-ant-oat01-' if play.oauth else 'gho_' if play.github else 'key-'}{uuid.uuid4().hex}"
    provider.script(key, play.steps)
    url = play.url or provider.url
    login = logins.github(url, key) if play.github else logins.login(agent, url, key, oauth=play.oauth)
    # Not where everybody may write: Gemini does not trust settings that lie there.
    own = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    own.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="locum-", dir=own, ignore_cleanup_errors=True) as made:
        place = Path(made).resolve()
        for each in ("user", "tmp", "project", "run/given"):
            (place / each).mkdir(parents=True)
        logins.settle(agent, place / "home", url)
        logins.used_before(place / "user")
        args, model, program = (*login.get("args", ()), *play.args), logins.MODELS[agent], logins.program(agent)
        seat = Seat("live", model, program, args, {**login["env"], **play.env}, place / "home")
        run = place / "run"
        launch = Launch(
            seat,
            "r-live",
            play.prompt,
            run / "prompt",
            place / "project",
            fresh=str(uuid.uuid4()),
            resume=play.resume or None,
        )
        if play.again:
            command = AGENTS[agent].command(launch)
            _run(command, launch, _environment(place) | command.env, play.patience_s)
        meta, stopped = _kept(folder, launch, AGENTS[agent], _masks(place, provider.url, key), play)
    meta = {"agent": agent, "case": folder.name} | meta
    _write(folder / "meta.json", meta)
    expected = judged(Case(folder, meta, {}), stopped=stopped)
    _write(folder / "expected.json", expected)
    return Case(folder, meta, expected)


def _kept(
    folder: Path, launch: Launch, adapter: Agent, masks: Sequence[tuple[bytes, bytes]], play: Play
) -> tuple[dict[str, Any], bool]:
    """Run it and keep what it wrote; the rest of its `meta.json`, and whether it had to be stopped."""
    run, command = launch.prompt_file.parent, adapter.command(launch)
    env = _environment(run.parent) | command.env
    ran = _run(command, launch, env, play.patience_s)
    meta: dict[str, Any] = {"exit": ran.exit, "ended_ms": ran.ended_ms}
    for stream in ("stdout", "stderr"):
        (folder / stream).write_bytes(_masked((run / stream).read_bytes(), masks))
    # The session of a run that did not begin because it was there already is that of another run.
    if not play.again and (transcript := _transcript(adapter, launch, env)):
        (folder / "transcript.jsonl").write_bytes(_masked(transcript.read_bytes(), masks))
        meta |= _place(adapter, transcript, launch, command, masks)
    return meta, ran.stopped


def _place(
    adapter: Agent, transcript: Path, launch: Launch, command: Command, masks: Sequence[tuple[bytes, bytes]]
) -> dict[str, Any]:
    """Where the transcript lay: below the home, or where a variable of the run's environment says."""
    named = [name for name in adapter.variables if command.env.get(name) == str(transcript)]
    if named:
        place = f"given/{transcript.name}"
        return {"place": place, "environ": dict.fromkeys(named, f"{{home}}/{place}")}
    place = os.path.relpath(transcript, launch.seat.home)
    return {"place": _masked(place.encode(), masks).decode(), "chosen": launch.fresh}


def _environment(place: Path) -> dict[str, str]:
    """The environment that a run starts from: nothing of this host but its programs."""
    return {
        "PATH": node_path(),
        "HOME": str(place / "user"),
        "TMPDIR": str(place / "tmp"),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


def _run(command: Command, launch: Launch, env: Mapping[str, str], patience_s: float) -> Ran:
    run = launch.prompt_file.parent
    for name, data in command.files.items():
        (launch.folder / name).write_bytes(data)
    launch.prompt_file.write_text(launch.prompt)
    (run / "stdin").write_bytes(command.stdin)
    with (run / "stdin").open("rb") as said, (run / "stdout").open("wb") as out, (run / "stderr").open("wb") as err:
        child = subprocess.Popen(
            command.argv, stdin=said, stdout=out, stderr=err, env=env, cwd=launch.cwd, start_new_session=True
        )
        stopped = False
        try:
            child.wait(patience_s)
        except subprocess.TimeoutExpired:
            stopped = True
            _signal(child, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(GRACE_S)
        finally:
            _signal(child, signal.SIGKILL)
            child.wait()
    return Ran(child.returncode, stopped, int(time.time()) * 1_000)


def _signal(child: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)


def _transcript(adapter: Agent, launch: Launch, env: Mapping[str, str]) -> Path | None:
    """The session's transcript, found as the runner finds it: by the session that the agent told, or was given."""
    reading = Reading(adapter)
    for line in lines_of(Source.OUT, (launch.prompt_file.parent / "stdout").read_bytes()):
        reading.take(line)
    patterns = adapter.sources(launch.seat, launch.cwd, reading.session or launch.fresh, env)
    return next(iter(expand(patterns)), None)


def _masks(place: Path, url: str, key: str) -> list[tuple[bytes, bytes]]:
    """What names this host and this run, and what stands in the corpus for it; the longest first."""
    names = {
        str(place / "home"): str(HOME),
        str(place / "user"): str(HOME.parent),
        str(place / "project"): str(CWD),
        str(place / "run"): "/run/locum/r-live",
        str(place / "tmp"): "/tmp",
        str(place): "/srv",
        str(cache_folder()): "/opt/agents",
        url: "http://127.0.0.1:4000",
        url.removeprefix("http://"): "127.0.0.1:4000",
        key: "key-live",
    }
    mangled = {
        as_name(name): as_name(known)
        for name, known in names.items()
        for as_name in (_mangled, _dashed)
        if name.startswith("/")
    }
    masks = [(name.encode(), known.encode()) for name, known in (names | mangled).items()]
    return sorted(masks, key=lambda mask: -len(mask[0]))


def _mangled(path: str) -> str:
    """A path as Claude Code and Qwen make a folder's name of it."""
    return path.replace("/", "-").replace(".", "-").replace("_", "-")


def _dashed(path: str) -> str:
    """A path as pi does."""
    return path.strip("/").replace("/", "-")


def _masked(data: bytes, masks: Sequence[tuple[bytes, bytes]]) -> bytes:
    for name, known in masks:
        data = data.replace(name, known)
    return b"".join(_shortened(line) for line in data.splitlines(keepends=True))


def _shortened(line: bytes) -> bytes:
    """A line of JSON without the long texts in it, which are no errors and nobody's business."""
    try:
        event = json.loads(line)
    except ValueError:
        return line
    if not isinstance(event, dict | list) or len(line) < LONGEST_TEXT:
        return line
    return json.dumps(_cut(event), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _cut(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _cut(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_cut(each) for each in value]
    return f"{value[:80]}… [cut]" if isinstance(value, str) and len(value) > LONGEST_TEXT else value


def judged(case: Case, *, stopped: bool) -> dict[str, Any]:
    """What the adapter reads from a run, in the shape of `expected.json`."""
    reading = case.replay()
    verdict = reading.verdict(case.end)
    failed = verdict if isinstance(verdict, Failure) else None
    return {
        "kind": failed and failed.kind,
        "rule": failed and failed.rule,
        "window": failed and failed.window,
        "reset": failed and iso(failed.reset_ms),
        "lost_session": bool(failed and failed.lost_session),
        "stopped": "stalled" if stopped else None,
        "session": reading.session or None,
        "usage": {name: getattr(reading.spent, name) for name in TOKEN_TYPES},
    }


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def recordable() -> Iterator[str]:
    """The agents that there is an adapter and a program to install for."""
    return (name for name in AGENTS if name in logins.MODELS)
