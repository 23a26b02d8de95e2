"""Five hundred who listen to the real daemon, a fifth of whom never read."""

from __future__ import annotations

import selectors
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.harness import Daemon, running, until

LISTENERS, DEAF = 500, 100
ROUNDS = 400
"""Bumps and releases: more than the buffers of a connection hold."""
ASKED = b"GET /events HTTP/1.1\r\nhost: locum\r\naccept: text/event-stream\r\n\r\n"


def rss_kb(pid):
    """The memory that a process has."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_who_never_reads_costs_neither_memory_nor_anybody_elses_time(tmp_path):
    """All who read are told everything once; the deaf are hung up on; memory stays flat, and orders are not held up."""
    tiers = [{"name": name, "agent": "command", "command": ["true"]} for name in ("one", "two")]
    with running(Daemon(tmp_path, {"failover": {"tiers": tiers}})) as daemon, ExitStack() as stack:
        client, pid = daemon.client, daemon.process.pid
        listeners = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(LISTENERS)]
        for each in listeners:
            each.connect(str(client.paths[0]))
            each.sendall(ASKED)
        until(lambda: _listening(client) == LISTENERS, "all listen")
        hearing = listeners[DEAF:]
        selector, heard = selectors.DefaultSelector(), dict.fromkeys(hearing, b"")
        for each in hearing:
            selector.register(each, selectors.EVENT_READ)
        before, slowest = rss_kb(pid), 0.0
        for number in range(ROUNDS):
            began = time.monotonic()
            client.post("/chains/default/bump" if number % 2 == 0 else "/chains/default/release", {})
            slowest = max(slowest, time.monotonic() - began)
            _read(selector, heard, 0)
        last = client.get("/events", limit=1000)["events"][-1]["seq"]
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and any(_events(data) < last for data in heard.values()):
            _read(selector, heard, 0.2)
        assert {_events(data) for data in heard.values()} == {last}, "everything, once"
        grown = rss_kb(pid) - before
        until(lambda: _listening(client) == LISTENERS - DEAF, "the deaf are hung up on", timeout=120)
        print(f"{LISTENERS} listeners: memory +{grown / 1024:.1f} MB, slowest order {slowest * 1000:.0f} ms")
        assert grown < 60 << 10, "a buffer each for the deaf, and nothing that grows with what happens"
        assert slowest < 5


def _listening(client):
    return int(client.text("/metrics").partition("\nlocum_event_listeners ")[2].split()[0])


def _events(data):
    return data.count(b"event: event\n")


def _read(selector, heard, seconds):
    for key, _ in selector.select(seconds):
        heard[key.fileobj] += key.fileobj.recv(1 << 20)
