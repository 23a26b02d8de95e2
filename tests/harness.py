"""A real daemon in a folder of its own, for tests that use real processes and sockets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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

    def configure(self, config: dict[str, Any]) -> None:
        """Write service.json the way careful editors do: a new file, renamed over the old."""
        new = self.folder / "service.json.new"
        new.write_text(json.dumps(config, indent=1))
        new.rename(self.folder / "service.json")

    def start(self, *, wait: bool = True) -> None:
        """Start it, and wait until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([LOCUM, "serve"], env=self.env, cwd=self.folder, stdout=log, stderr=log)
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


@contextmanager
def daemon(folder: Path, config: dict[str, Any], env: dict[str, str] | None = None) -> Iterator[Daemon]:
    """A daemon that is running, and is ended whatever happens."""
    made = Daemon(folder, config, env)
    made.start()
    try:
        yield made
    finally:
        if made.alive():
            made.stop()


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
