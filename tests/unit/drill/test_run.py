"""A drill from outside: how it ends when nobody wants it any more."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from locum.config.load import load
from locum.drill import run
from locum.drill.report import Result
from tests.harness import LOCUM


def service(folder: Path) -> Path:
    """A service.json with one tier."""
    path = folder / "service.json"
    path.write_text(json.dumps({"failover": {"tiers": [{"name": "a", "agent": "claude-code"}]}}))
    return path


@pytest.mark.parametrize("error", [BrokenPipeError, KeyboardInterrupt])
def test_what_the_listener_raises_is_raised_alone(tmp_path, monkeypatch, error):
    """`locum drill | head`: no group of errors, which nobody could tell from a fault of the drill; and nothing is left."""

    async def rehearse(_loaded, _environ, scenario, top, *, serve):
        assert serve
        top.mkdir()
        return Result(scenario.name, "", 0)

    def told(_):
        raise error

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(run.tempfile, "tempdir", None)
    monkeypatch.setattr(run, "_rehearse", rehearse)
    path = service(tmp_path)
    with pytest.raises(error):
        run.drill(load(path, {}), {}, told=told)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupt_is_answered_at_once_and_leaves_nothing(tmp_path, short, number):
    """In the middle of a run: it says that it stops, ends with 130, and no folder and no process is left."""
    path, scratch = service(tmp_path), short
    environ = {**os.environ, "TMPDIR": str(scratch)}
    drill = subprocess.Popen(
        # Whoever runs the tests in the background has them ignore Ctrl-C, and all that they start.
        ["env", "--default-signal=INT", LOCUM, "drill", "--config", path, "--scenario", "hang"],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    patience = time.monotonic() + 30
    try:
        while drill.poll() is None and not list(scratch.glob("*/*/state/runs/*/out")):
            assert time.monotonic() < patience
            time.sleep(0.01)
        drill.send_signal(number)
        out, err = drill.communicate(timeout=15)
    finally:
        drill.kill()
        drill.communicate()
    assert (drill.returncode, out) == (130, "")
    assert err.startswith("Stopping")
    assert err.count("\n") == 1
    assert not list(scratch.iterdir())
    assert not using(scratch)


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short name: sockets lie in what a drill keeps there."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


def using(folder: Path) -> list[str]:
    """The processes whose arguments or environment name a folder."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            told = (each / "environ").read_bytes() + (each / "cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in told and int(each.name) != os.getpid():
            found.append(each.name)
    return found
