"""What watching transcripts costs, and how soon a line that is written in one is counted."""

from __future__ import annotations

import json
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.rounds import TIMES, median, short, told
from bench.subject import Found, Limit, Subject
from locum.agents.base import Seat
from locum.agents.registry import AGENTS
from locum.engine.tree import SETTLED_NS, Tree, parse
from tests.harness import Daemon, running, until

PER_FOLDER = 100
COUNTED_EVERY = 0.01
"""Seconds between two questions whether it is counted: what is added to each figure at most, beside the answer."""


def measure(folder: Path, rounds: int = 60, looks: int = 60, few: int = 1_000, many: int = 10_000) -> Found:
    """Look at so many files, again and again; then append to one of a daemon's, and ask until it is counted."""
    times = {f"a look at {files:,} files": _looks(folder / str(files), files, looks) for files in (few, many)}
    counted = _counted(folder, rounds, few)
    allowed = (median(each) / (5 + 2 * files / 1000) for each, files in zip(times.values(), (few, many), strict=True))
    return Found(
        (*allowed, median(counted) / 1000),
        (
            *((what, told(each, "ms")) for what, each in times.items()),
            ("a line appended → counted", told(counted, "ms")),
            ("files in the daemon's home", short(few)),
        ),
    )


def _looks(home: Path, files: int, looks: int) -> list[float]:
    """Milliseconds of each look at a home in which nothing is new."""
    _fill(home, files)
    (pattern,) = AGENTS["claude-code"].histories(Seat("", home=home), {})
    parsed = parse(pattern)
    tree = Tree(str(parsed.top), [parsed.levels])
    assert len(tree.look(time.time_ns() + 2 * SETTLED_NS).changed) == files
    times = []
    for _ in range(looks):
        began = time.perf_counter()
        found = tree.look(time.time_ns() + 2 * SETTLED_NS)
        times.append((time.perf_counter() - began) * 1000)
        assert not found.changed and not found.gone  # noqa: PT018 - nothing is new
    return times


def _counted(folder: Path, rounds: int, files: int) -> list[float]:
    """Milliseconds from each append to the answer that it is counted."""
    home = folder / "home"
    _fill(home, files)
    service: dict[str, Any] = {"failover": {"tiers": [{"name": "a", "agent": "claude-code", "home": str(home)}]}}
    times = []
    with running(Daemon(folder / "daemon", service)) as daemon:
        until(lambda: _watched(daemon) == files, "every file is watched")
        transcript, session = next((home / "projects").glob("*/*.jsonl")), str(uuid.uuid4())
        for number in range(1, rounds + 1):
            time.sleep(0.37 * (number % 3))  # not in step with whoever listens
            began = time.perf_counter()
            with transcript.open("a") as file:
                file.write(_row(session))
            while daemon.client.get("/usage")["totals"]["input"] < number:
                assert time.perf_counter() - began < 60, "it is counted"
                time.sleep(COUNTED_EVERY)
            times.append((time.perf_counter() - began) * 1000)
    return times


def _fill(home: Path, files: int) -> None:
    """A home with so many old transcripts of one row."""
    for number in range(files):
        path = home / "projects" / f"-srv-project-{number // PER_FOLDER}" / f"{uuid.uuid4()}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}\n")


def _watched(daemon: Daemon) -> int:
    """How many transcripts the daemon watches."""
    return sum(each["files"] for each in daemon.client.get("/status")["usage_sources"]["homes"])


def _row(session: str) -> str:
    message = {"id": f"msg_{uuid.uuid4().hex}", "model": "opus", "usage": {"input_tokens": 1}}
    now = datetime.now(UTC).isoformat()
    return json.dumps({"type": "assistant", "sessionId": session, "timestamp": now, "message": message}) + "\n"


SUBJECT = Subject(
    name="watch",
    limits=(
        Limit("next look at 1,000 transcripts with nothing new, beside 5 ms + 2 ms per 1,000", 1, TIMES),
        Limit("next look at 10,000 transcripts with nothing new, beside the same", 1, TIMES),
        Limit("a line appended to a transcript → counted in the window, p50", 1, "s"),
    ),
    how=(
        "A home of Claude Code with transcripts in folders of 100. A look compares every file's time, size and inode "
        "with what they were, and finds nothing. The line is appended to one of 1,000 transcripts in the home of a "
        "real daemon's only tier, at moments out of step with it, and `GET /usage` is asked every 10 ms until the "
        "window has it."
    ),
    measure=measure,
    tiny={"rounds": 1, "looks": 1, "few": 20, "many": 40},
)
