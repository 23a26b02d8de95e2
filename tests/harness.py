"""A real daemon in a folder of its own, for tests that use real processes and sockets."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from locum.cli.client import Client
from locum.errors import LocumError

PYTHON = sys.executable
LOCUM = str(Path(PYTHON).with_name("locum"))
SCRIPTED = str(Path(__file__).with_name("scripted_agent.py"))


class Daemon:
    """`locum serve` with a service.json of the test's own."""

    def __init__(self, folder: Path, config: dict[str, Any], env: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.work = folder / "work"
        self.log = folder / "daemon.log"
        self.config = folder / "service.json"
        self.work.mkdir(parents=True, exist_ok=True)
        self.configure(config)
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("LOCUM_")},
            "LOCUM_STATE": str(self.state),
            "LOCUM_CONFIG": str(self.config),
            **(env or {}),
        }
        self.client = Client((self.state / "locum.sock",))
        self.process: subprocess.Popen[bytes] | None = None
        self.inside: tuple[str, ...] = ()
        """What the daemon is started by, when that is not the test itself."""
        self.program: tuple[str, ...] = (LOCUM, "serve")
        """What is started: the daemon, or something that becomes it."""

    def configure(self, config: dict[str, Any]) -> None:
        """Write service.json the way careful editors do: a new file, renamed over the old."""
        new = self.folder / "service.json.new"
        new.write_text(json.dumps(config, indent=1))
        new.rename(self.folder / "service.json")

    def start(self, *, wait: bool = True) -> None:
        """Start it, and wait until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.inside, *self.program], env=self.env, cwd=self.folder, stdout=log, stderr=log
            )
        if wait:
            until(self.answers, "the daemon answers", log=self.log, alive=self.alive)

    def alive(self) -> bool:
        """Whether the daemon's process runs."""
        return self.process is not None and self.process.poll() is None

    def answers(self) -> bool:
        """Whether it serves its socket."""
        try:
            self.client.get("/healthz", timeout=2)
        except (LocumError, OSError):
            return False
        return True

    def kill(self) -> None:
        """Kill -9, and reap."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

    def stop(self) -> int:
        """Stop cleanly; the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(60)

    def submit(self, prompt: str, cwd: Path | None = None, **more: Any) -> str:
        """Queue a task; its id."""
        body = {"prompt": prompt, "cwd": str(cwd or self.work), **more}
        return str(self.client.post("/tasks", body)["id"])

    def task(self, task_id: str) -> dict[str, Any]:
        """The task with its runs."""
        return self.client.get(f"/tasks/{task_id}")

    def ended(self, task_id: str, timeout: float = 60) -> dict[str, Any]:
        """The task once it has ended."""
        until(
            lambda: self.task(task_id)["state"] in ("done", "failed", "cancelled"), f"{task_id} ends", timeout, self.log
        )
        return self.task(task_id)

    def run(self, *argv: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run a verb of the command line against this daemon."""
        return subprocess.run(
            [LOCUM, *argv],
            env=self.env,
            cwd=self.work,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            **more,
        )


D = TypeVar("D", bound=Daemon)


@contextmanager
def running(made: D) -> Iterator[D]:
    """Start a daemon, and end it whatever happens."""
    made.start()
    try:
        yield made
    finally:
        if made.alive():
            made.stop()


class World(Daemon):
    """A daemon to which each test adds a chain of its own, so that many tests share one process."""

    def __init__(self, folder: Path, config: dict[str, Any] | None = None, env: dict[str, str] | None = None) -> None:
        stage = folder / "base"
        stage.mkdir(parents=True, exist_ok=True)
        self.service: dict[str, Any] = {
            "failover": {"tiers": [scripted({}, name="base", stage=stage)]},
            "chains": {},
            "limits": {"parallel": 4},
            **(config or {}),
        }
        super().__init__(folder, self.service, env)

    def apply(self) -> None:
        """Write the configuration and have it taken over."""
        self.configure(self.service)
        answer = self.client.post("/reload")
        assert answer["problems"] == [], answer

    def chain(self, name: str, tiers: dict[str, list[dict[str, Any]]], **more: Any) -> dict[str, Any]:
        """Add a chain whose tiers, called `NAME-TIER`, play those steps; its entry in the configuration."""
        stage = self.stage(name)
        made = [scripted(*steps, name=f"{name}-{tier}", stage=stage) for tier, steps in tiers.items()]
        return self.chain_of(name, made, **more)

    def chain_of(self, name: str, tiers: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """Add a chain of these tiers; its entry in the configuration."""
        entry = {"tiers": tiers, **more}
        self.service["chains"][name] = entry
        self.apply()
        return entry

    def stage(self, chain: str) -> Path:
        """The folder of a chain's scripts."""
        stage = self.folder / "stages" / chain
        stage.mkdir(parents=True, exist_ok=True)
        return stage

    def place(self) -> Path:
        """A fresh working directory, so that no task waits for another's."""
        self.places = getattr(self, "places", 0) + 1
        place = self.work / f"{self.places}"
        place.mkdir()
        return place

    def begin(self, chain: str, prompt: str = "do it", **more: Any) -> str:
        """Queue a task of a chain in a directory of its own; its id."""
        return self.submit(prompt, more.pop("cwd", None) or self.place(), chain=chain, **more)

    def do(self, chain: str, prompt: str = "do it", **more: Any) -> dict[str, Any]:
        """Run a task of a chain to its end."""
        return self.ended(self.begin(chain, prompt, **more))

    def status(self, chain: str = "default") -> dict[str, Any]:
        """How a chain stands."""
        found: dict[str, Any] = self.client.get("/status")["chains"][chain]
        return found

    def tier(self, chain: str, tier: str) -> dict[str, Any]:
        """How the tier `CHAIN-TIER` stands."""
        found: dict[str, Any] = next(each for each in self.status(chain)["tiers"] if each["name"] == f"{chain}-{tier}")
        return found

    def events(self, chain: str) -> list[dict[str, Any]]:
        """The log of a chain, oldest first."""
        found: list[dict[str, Any]] = self.client.get("/events", chain=chain, limit=1000)["events"]
        return found

    def notices(self, kind: str, chain: str) -> list[dict[str, Any]]:
        """The notices of one kind about a chain."""
        told = self.client.get("/notices", limit=1000)["notices"]
        return [each for each in told if each["kind"] == kind and each["chain"] == chain]

    def prompts(self, chain: str, tier: str) -> list[str]:
        """What the agent of `CHAIN-TIER` was asked, run by run."""
        played = self.stage(chain) / f"{chain}-{tier}.prompts"
        return [json.loads(line)["prompt"] for line in played.read_text().splitlines()] if played.exists() else []

    def until(self, true: Callable[[], bool], what: str, timeout: float = 20) -> None:
        """Wait until something is true, bounded."""
        until(true, what, timeout, self.log)


def world(
    folder: Path, config: dict[str, Any] | None = None, env: dict[str, str] | None = None
) -> AbstractContextManager[World]:
    """A world that is running, and is ended whatever happens."""
    return running(World(folder, config, env))


def may_mount() -> bool:
    """Whether this user may mount file systems in a namespace of its own."""
    done = (
        subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False) if shutil.which("unshare") else None
    )
    return done is not None and done.returncode == 0 and os.geteuid() == 0


def path_of(task: dict[str, Any]) -> list[tuple[str, str | None]]:
    """The way a task went: of each run the tier, without its chain's name, and the failure."""
    return [(run["tier"].rpartition("-")[2], run["failure"]) for run in task["runs"]]


def seconds_until(moment: str | None) -> float:
    """How far away a moment (ISO 8601) is."""
    assert moment is not None, "a moment is told"
    return datetime.fromisoformat(moment).timestamp() - time.time()


def until(
    true: Callable[[], bool],
    what: str,
    timeout: float = 20,
    log: Path | None = None,
    alive: Callable[[], bool] = lambda: True,
) -> None:
    """Wait until something is true, bounded; show the daemon's log when it does not come."""
    end = time.monotonic() + timeout
    while not true():
        if time.monotonic() > end or not alive():
            text = log.read_text()[-5000:] if log and log.exists() else ""
            raise AssertionError(f"it was waited in vain until {what}\n{text}")
        time.sleep(0.02)


def scripted(*steps: dict[str, Any], name: str, stage: Path, **more: Any) -> dict[str, Any]:
    """A tier whose agent plays `steps`, one a run, the last one again and again (see scripted_agent.py)."""
    script = stage / f"{name}.json"
    script.write_text(json.dumps(list(steps)))
    return {"name": name, "agent": "command", "command": [PYTHON, SCRIPTED, str(script)], **more}
