"""A daemon with nothing to do: what it holds and what it burns."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from bench.rounds import short
from bench.subject import Found, Limit, Subject
from tests.harness import Daemon, running

SERVICE: dict[str, Any] = {
    "usage_threshold_tokens": 5_000_000,
    "usage_reset": "week",
    "failover": {
        "tiers": [
            {"name": "claude-max", "agent": "claude-code", "model": "opus"},
            {"name": "codex", "agent": "codex"},
        ]
    },
    "limits": {"parallel": 4},
}
"""As service.json.example, with two tiers."""


def measure(folder: Path, settle: float = 5, watch: float = 60) -> Found:
    """Leave it alone for `settle` seconds, then watch it for `watch`."""
    with running(Daemon(folder, SERVICE)) as daemon:
        assert daemon.process is not None
        pid = daemon.process.pid
        time.sleep(settle)
        began, before = time.monotonic(), _used(pid)
        time.sleep(watch)
        seconds, after = time.monotonic() - began, _used(pid)
        memory = _memory(pid)
    burnt, woken = ((now - then) / seconds for now, then in zip(after, before, strict=True))
    return Found(
        (memory["VmRSS"], burnt * 100),
        (
            ("memory at the end (RSS)", f"{short(memory['VmRSS'])} MB, {short(memory['VmHWM'])} MB at its highest"),
            ("CPU", f"{short(burnt * 100)} % of one CPU over {seconds:.0f} s"),
            ("wakes", f"{short(woken)} a second, all threads"),
        ),
    )


def _memory(pid: int) -> dict[str, float]:
    """What a process holds, in MB."""
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 / 1e6 for words in lines if words[0] in ("VmRSS:", "VmHWM:")}


def _used(pid: int) -> tuple[float, float]:
    """Seconds of CPU (to the nanosecond, by the scheduler's own count) and how often it was woken, over all threads."""
    seconds, woken = 0.0, 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        seconds += int((thread / "schedstat").read_text().split()[0]) / 1e9
        status = (thread / "status").read_text()
        woken += int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return seconds, woken


SUBJECT = Subject(
    name="idle",
    limits=(
        Limit("daemon idle over 60 s: RSS", 70, "MB"),
        Limit("daemon idle over 60 s: CPU", 0.2, "%"),
    ),
    how=(
        "A daemon with a service.json like the example's (two tiers, a weekly budget) and no tasks, left alone for 5 s "
        "and then watched for 60 s through /proc. CPU is of one CPU, user and system, all threads."
    ),
    measure=measure,
    tiny={"settle": 0.2, "watch": 0.5},
)
