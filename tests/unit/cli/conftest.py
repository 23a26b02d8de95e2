"""Verbs run in this process, at a time that stands still, against a daemon that answers from a table."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from locum.cli import plain
from locum.cli.main import locum

NOW = int(datetime(2026, 11, 22, 2, 50, tzinfo=UTC).timestamp() * 1000)


@pytest.fixture(autouse=True)
def _still(monkeypatch):
    """The wall clock stands, the time zone is UTC, and nothing of this host's own setup is seen."""
    monkeypatch.setattr(plain, "now_ms", lambda: NOW)
    monkeypatch.setenv("TZ", "UTC")
    for name in ("LOCUM_CONFIG", "LOCUM_SOCKET", "LOCUM_STATE", "LOCUM_RUN", "RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """Run a verb: `cli("status", "--json")`; its daemon, if any, is at `tmp_path/locum.sock`."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LOCUM_SOCKET", str(tmp_path / "locum.sock"))
    monkeypatch.chdir(tmp_path)

    def run(*args, **more):
        return CliRunner().invoke(locum, args, **more)

    return run
