"""The real daemon over TCP: tokens from the command line, the stream of events, the line for a status bar."""

from __future__ import annotations

import http.client
import json
import subprocess
import time
from urllib.parse import urlsplit

from tests.harness import Daemon, running

TIERS = [{"name": name, "agent": "command", "command": ["true"]} for name in ("one", "two")]
SERVICE = {"failover": {"tiers": TIERS}, "http": {"listen": "127.0.0.1:0"}}


def connected(daemon):
    """A connection over TCP."""
    found = urlsplit(daemon.client.get("/status")["http"]["url"])
    return http.client.HTTPConnection(found.hostname, found.port, timeout=20)


def answered(daemon, method, path, **headers):
    """Status and JSON over TCP."""
    connection = connected(daemon)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_the_network_from_the_first_token_to_a_stop(tmp_path):
    """A token works from its making to its revocation, over a restart too; a stream tells what happens; and a stop
    is not held up by who listens.
    """
    with running(Daemon(tmp_path, SERVICE)) as daemon:
        token = daemon.run("token", "create", "mine", "--scope", "operate").stdout.strip()
        auth = {"authorization": f"Bearer {token}"}
        assert answered(daemon, "GET", "/status")[0] == 401
        assert answered(daemon, "POST", "/chains/default/pause", **auth)[1]["paused"] is True
        daemon.kill()
        daemon.start()
        assert answered(daemon, "GET", "/chains/default", **auth)[1]["paused"] is True
        stream = connected(daemon)
        stream.request("GET", "/events", headers={**auth, "accept": "text/event-stream"})
        told = stream.getresponse()
        assert daemon.run("bump", "--reason", "upkeep").returncode == 0
        lines = []
        while not any("upkeep" in line for line in lines):
            lines.append(told.readline().decode())
        assert any(line.startswith("id: ") for line in lines)
        line = daemon.run("statusline", "--print").stdout
        shown = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=True, timeout=20)
        assert shown.stdout.startswith("two | paused")
        assert daemon.run("token", "revoke", "mine").returncode == 0
        assert answered(daemon, "GET", "/status", **auth)[0] == 401
        assert "/login?code=" in daemon.run("dashboard", "--print").stdout
        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < 15
        stream.close()
        shown = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=True, timeout=20)
        assert shown.stdout == "", "without a daemon the bar is empty, and nothing fails"
        assert "Traceback" not in daemon.log.read_text()
