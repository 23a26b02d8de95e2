"""From starting the daemon to its first answer, with a year of entries in its ledger."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from bench.old_ledger import CHAINS, DAY, Past, build
from bench.rounds import interleaved, median, told
from bench.subject import Found, Limit, Subject
from tests.harness import Daemon

PATIENCE = 60.0
LOOK_EVERY = 0.001

WINDOWS: dict[str, Any] = {"week": "week", "rolling": {"rolling": "5h"}, "block": {"block": "5h"}}
BUDGET = 1_000_000_000_000
"""A budget that is looked at and never reached."""


def measure(folder: Path, entries: int = 1_000_000, recent: int = 8_000, rounds: int = 15, warm_up: int = 1) -> Found:
    """Start a daemon on the large ledger and one on a new ledger, in turn."""
    daemons = {name: Daemon(folder / name, _service()) for name in ("old", "new")}
    daemons["old"].state.mkdir(mode=0o700)
    ledger = daemons["old"].state / "locum.db"
    build(ledger, Past(entries, recent, 365 * DAY, time.time_ns() // 1_000_000))
    found = interleaved({name: lambda daemon=each: _start(daemon) for name, each in daemons.items()}, rounds, warm_up)  # type: ignore[misc]
    return Found(
        (median(found["old"]) / 1000,),
        (
            (f"with {entries:,} entries ({ledger.stat().st_size / 1e6:,.0f} MB)", told(found["old"], "ms")),
            ("with a new ledger", told(found["new"], "ms")),
        ),
    )


def _service() -> dict[str, Any]:
    """The three chains of the ledger, with budgets over their windows that have to be read at the start."""
    chains = {
        name: {
            "usage_threshold_tokens": BUDGET,
            "usage_reset": WINDOWS[name],
            "tiers": [{"name": tier.name, "agent": tier.agent, "account": tier.account} for tier in chain.tiers],
        }
        for name, chain in CHAINS.items()
    }
    return {"failover": {"tiers": [{"name": "spare", "agent": "codex"}]}, "chains": chains}


def _start(daemon: Daemon) -> float:
    """Milliseconds from starting the process to its first answer."""
    began = time.perf_counter()
    daemon.start(wait=False)
    while not daemon.answers():
        assert daemon.alive(), daemon.log.read_text()[-2000:]
        assert time.perf_counter() - began < PATIENCE, "it does not answer"
        time.sleep(LOOK_EVERY)
    taken = (time.perf_counter() - began) * 1000
    assert daemon.stop() == 0, "it ends as it was asked to"
    return taken


SUBJECT = Subject(
    name="start",
    limits=(Limit("start to serving with 1 M entries, p50", 1, "s"),),
    how=(
        "`locum serve`, from the start of its process to its first answer on the socket, asked every millisecond, on "
        "a ledger of 1 M entries over the last year with three chains whose budgets (a week, the last 5 h, a 5 h "
        "block) are added up on the way; in turn with one on an empty ledger. The files are warm."
    ),
    measure=measure,
    tiny={"entries": 1_000, "recent": 800, "rounds": 1, "warm_up": 0},
)
