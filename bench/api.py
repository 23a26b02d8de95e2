"""What a question to the daemon costs it, with many asking at once, and what a status bar waits for its line."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.rounds import interleaved, median, told
from bench.subject import Found, Limit, Subject
from tests.harness import Daemon, running

SERVICE: dict[str, Any] = {
    "usage_threshold_tokens": 10**9,
    "failover": {"tiers": [{"name": f"t{number}", "agent": "claude-code", "account": "a"} for number in range(4)]},
    "chains": {"side": {"tiers": ["t0", "t1"]}},
}
ASKED = b"GET %s HTTP/1.1\r\nhost: locum\r\n\r\n"
TICK = os.sysconf("SC_CLK_TCK")


def measure(folder: Path, requests: int = 20_000, at_once: int = 32, rounds: int = 200, pause: float = 5.0) -> Found:
    """Ask the same again and again over connections that stay open, and count the daemon's own time."""
    with running(Daemon(folder, SERVICE)) as daemon:
        assert daemon.process is not None
        pid, path = daemon.process.pid, daemon.client.paths[0]
        daemon.client.post("/hooks/post-task", {"id": "1", "chain": "default", "tier": "t0", "tokens": {"input": 10}})
        time.sleep(pause)  # what a start leaves to do is over
        found = {}
        for name in ("/usage", "/status"):
            began, spent = time.perf_counter(), _cpu_s(pid)
            with ThreadPoolExecutor(at_once) as crowd:
                list(crowd.map(lambda _, name=name: _ask(path, name, requests // at_once), range(at_once)))
            number = requests // at_once * at_once
            spent, took = _cpu_s(pid) - spent, time.perf_counter() - began
            found[name] = max(spent, 1 / TICK) / number * 1e6, number / took
        line = daemon.run("statusline", "--print").stdout.strip()
        arms = {"statusline": lambda: _line(line, b"t0"), "of that: the shell and a curl that asks nobody": _nothing}
        times = interleaved(arms, rounds, warm_up=1)
    details = [
        (f"GET {name}, CPU of the daemon", f"{cost:.0f} µs, {rate:,.0f} a second")
        for name, (cost, rate) in found.items()
    ]
    shown = [(name, told(each, "ms")) for name, each in times.items()]
    return Found((found["/usage"][0], median(times["statusline"])), (*details, *shown))


def _ask(path: Path, name: str, number: int) -> None:
    """One of those who ask: one question after the other, each answered before the next."""
    with _connected(path) as connection:
        for _ in range(number):
            connection.sendall(ASKED % name.encode())
            _read(connection)


def _read(connection: socket.socket) -> None:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(1 << 16)
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    left = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]) - len(body)
    while left:
        left -= len(connection.recv(left))


@contextmanager
def _connected(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        yield connection


def _cpu_s(pid: int) -> float:
    """Seconds of processor that a process has had, all its threads and the kernel on its behalf."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def _line(line: str, says: bytes) -> float:
    """Milliseconds from the start of the shell to the end of its line."""
    began = time.perf_counter()
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, check=True)
    assert done.stdout.startswith(says), done
    return (time.perf_counter() - began) * 1000


def _nothing() -> float:
    return _line("curl -q --version || true", b"curl ")


SUBJECT = Subject(
    name="api",
    limits=(
        Limit("`GET /usage` with 32 asking at once, CPU per request", 300, "µs"),
        Limit("the status bar's line, whole process, p50", 15, "ms"),
    ),
    how=(
        "32 connections to a real daemon's socket stay open, and each asks for `/usage` again as soon as it is "
        "answered; what counts is the time that the daemon's process has spent on all of it, by the kernel's account, "
        "divided by the requests. The configuration has two chains, four tiers and one account. The line is the one "
        "that `locum statusline --print` shows, run by `/bin/sh`, from the start of the shell to its end."
    ),
    measure=measure,
    known_miss="The machine was busy: a shell and a curl that ask nobody took as long, see below.",
    tiny={"requests": 64, "rounds": 1, "pause": 0.0},
)
