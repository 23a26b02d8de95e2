"""From the exit of an agent that failed to the start of the next tier's."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

from bench.rounds import interleaved, median, quantile, short, timed, told
from bench.subject import Found, Limit, Subject
from tests.harness import Daemon, running

LIMIT = '{"type":"failure","kind":"usage_limit","message":"no more for now"}'
FAILS = f"""echo '{LIMIT}'; printf %s "$EPOCHREALTIME" >"$0/$LOCUM_TASK.end"; exit 1"""
"""An agent whose last act is to look at the clock."""
WORKS = """printf %s "$EPOCHREALTIME" >"$0/$LOCUM_TASK.start"; echo '{"type":"result","status":"ok"}'"""
"""An agent whose first act is to look at the clock."""


def measure(folder: Path, rounds: int = 60, warm_up: int = 3) -> Found:
    """Fail on one tier and go on with the next, again and again."""
    stamps = folder / "stamps"
    stamps.mkdir()
    tiers = [_tier("first", FAILS, stamps), _tier("second", WORKS, stamps)]
    with running(Daemon(folder, {"failover": {"tiers": tiers}})) as daemon:
        arms = {
            "handover": lambda: _one(daemon, stamps),
            "bash": lambda: _bash(stamps),
            "syncs": timed(lambda: _sync_twice(folder / "synced")),
        }
        found = interleaved(arms, rounds, warm_up)
        audit = daemon.client.get("/audit")
    assert audit["clean"], audit
    handover = found["handover"]
    return Found(
        (median(handover),),
        (
            ("exit → start", told(handover, "ms")),
            ("exit → start, p99", f"{short(quantile(handover, 0.99))} ms"),
            ("of that: bash alone, from being started to its first act", told(found["bash"], "ms")),
            ("of that: two appends of 4 kB to a file on this disk, each synced", told(found["syncs"], "ms")),
        ),
    )


def _tier(name: str, script: str, stamps: Path) -> dict[str, Any]:
    return {"name": name, "agent": "command", "command": ["/bin/bash", "-c", script, str(stamps)]}


def _one(daemon: Daemon, stamps: Path) -> float:
    """One task that fails on the first tier and is done by the second; the milliseconds between the two."""
    task = daemon.submit("do it")
    ended = daemon.ended(task)
    path = [(run["tier"], run["failure"]) for run in ended["runs"]]
    assert path == [("first", "usage_limit"), ("second", None)], path
    daemon.client.post("/chains/default/release")
    began, over = (float((stamps / f"{task}.{what}").read_text()) for what in ("start", "end"))
    return (began - over) * 1000


def _bash(stamps: Path) -> float:
    """How long bash takes to get to its first act: it is part of every handover above."""
    stamp = stamps / "bash"
    began = time.time()
    subprocess.run(["/bin/bash", "-c", 'printf %s "$EPOCHREALTIME" >"$0"', str(stamp)], check=True)
    return (float(stamp.read_text()) - began) * 1000


def _sync_twice(path: Path) -> None:
    """What two commits cost at the least."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for _ in range(2):
        os.write(file, bytes(4096))
        os.fdatasync(file)
    os.close(file)


SUBJECT = Subject(
    name="handover",
    limits=(Limit("failing agent's exit → next tier's process started, p50, all commits durable", 10, "ms"),),
    how=(
        "Two tiers of a real daemon, their agents bash scripts. The first tells that its usage limit is reached, looks "
        "at the clock as its last act and exits; the second looks at the clock as its first. Between the two the exit "
        "is seen, the failure judged, the account held, the event and the notice written, the next tier picked, the "
        "new run's row written (two commits, each synced) and its process started. The exit of the first bash and "
        "the start of the second are part of the figure; nothing is subtracted."
    ),
    measure=measure,
    tiny={"rounds": 1, "warm_up": 0},
)
