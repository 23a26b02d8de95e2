"""Notices on their way to a sink: how soon one is tried, and how long very many take."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import anyio

from bench.rounds import quantile, short, told
from bench.subject import Found, Limit, Subject
from locum.policy.notice import Notice, NoticeKind, Severity
from locum.policy.plan import Plan
from locum.store import notices
from locum.store.ledger import Ledger
from tests.harness import Daemon, running, until
from tests.sink import Sink, sink

SIGNED_WITH = "whsec_bm90aGluZyB0aGF0IGlzIGEgc2VjcmV0"
OUT_OF_STEP = 0.037


def measure(folder: Path, rounds: int = 200, many: int = 10_000) -> Found:
    """Bump chain after chain; then start a daemon whose ledger is full of notices that wait."""
    with sink() as there:
        soon = _soon(folder / "soon", there, rounds)
    with sink() as there:
        seconds = _all(folder / "many", there, many)
        ids = [post.id for post in there.posts]
    assert len(set(ids)) == len(ids) == many, "each came in once"
    return Found(
        (quantile(soon, 0.99) / 1000, seconds),
        (
            ("the order to bump sent → its notice at the sink", told(soon, "ms")),
            (f"{many:,} notices that wait, one webhook", f"{short(many / seconds)} a second, in order"),
        ),
    )


def _service(folder: Path, there: Sink, chains: int = 0) -> dict[str, Any]:
    folder.mkdir()
    (folder / "secret").write_text(SIGNED_WITH)
    (folder / "secret").chmod(0o600)
    tiers = [{"name": name, "agent": "command", "command": ["true"], "account": name} for name in ("a", "b")]
    return {
        "failover": {"tiers": tiers},
        "chains": {f"c{number}": {"tiers": [_own(number, 1), _own(number, 2)]} for number in range(chains)},
        "notify": [there.channel(secret={"file": "secret"})],
    }


def _own(chain: int, tier: int) -> dict[str, Any]:
    return {"name": f"c{chain}-{tier}", "agent": "command", "command": ["true"]}


def _soon(folder: Path, there: Sink, rounds: int) -> list[float]:
    """Milliseconds from each order to bump a chain to its notice at the sink."""
    times = []
    with running(Daemon(folder, _service(folder, there, rounds))) as daemon:
        for number in range(rounds):
            time.sleep(OUT_OF_STEP * (1 + number % 7))
            began = time.monotonic()
            daemon.client.post(f"/chains/c{number}/bump")
            there.wait(number + 1)
            assert there.posts[-1].json["tier"] == f"c{number}-1"
            times.append((there.posts[-1].at - began) * 1000)
    return times


def _all(folder: Path, there: Sink, many: int) -> float:
    """Seconds from the start of a daemon until the last of so many waiting notices has come in, in their order."""
    daemon = Daemon(folder, _service(folder, there))
    daemon.state.mkdir(mode=0o700)
    written = anyio.run(_fill, daemon.state / "locum.db", many)
    began = time.monotonic()
    with running(daemon):
        until(lambda: len(there.posts) >= many, "all have come in", 600, daemon.log, daemon.alive)
        seconds = there.posts[many - 1].at - began
    assert [post.id for post in there.posts] == written, "they came in as they were written"
    return seconds


async def _fill(path: Path, many: int) -> list[str]:
    """A ledger with so many notices, no two of one chain, for a channel that is known to it; their names."""
    now_ms = time.time_ns() // 1_000_000
    ledger = await Ledger.open(path, Plan({}, channels={"ops": "not as it will be"}), now_ms, mark="bench")
    made = [
        Notice(NoticeKind.TIER_BUMPED, Severity.WARNING, now_ms, f"c{number}", "A title", "A message. " * 30)
        for number in range(many)
    ]
    await ledger._database.write(lambda tx: [notices.add(tx, each) for each in made])  # noqa: SLF001 - all at once
    names = [notice.id for _, notice in await ledger.notices(limit=many)]
    await ledger.close()
    return names


SUBJECT = Subject(
    name="notices",
    limits=(
        Limit("cause committed → first delivery attempt, p99", 1, "s"),
        Limit("10,000 notices to a local sink: all delivered, each id once in order per channel", 60, "s"),
    ),
    how=(
        "A real daemon with one signed webhook to a sink on loopback. Chain after chain is bumped, out of step "
        "with the daemon, and the time is that from sending the order to the request at the sink: the commit lies in "
        "between. Then a daemon is started on a ledger in which 10,000 notices wait, and the time is that from its "
        "start to the last request; the sink has each once, in the order in which they were written."
    ),
    measure=measure,
    tiny={"rounds": 3, "many": 30},
)
