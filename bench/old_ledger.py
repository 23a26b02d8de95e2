"""A ledger with years of use behind it, made in a minute: bulk SQL into the real schema, proved by the real audit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import anyio
import apsw

from locum.policy.plan import Chain, Meter, Plan, Tier
from locum.policy.window import Block, Calendar, Rolling, WindowRule
from locum.store.ledger import Ledger
from locum.store.queries import parse
from locum.store.worker import InlineWorker

HOUR = 3_600_000
DAY = 24 * HOUR
RULES: dict[str, WindowRule] = {
    "week": Calendar("week"),
    "rolling": Rolling(5 * HOUR),
    "block": Block(5 * HOUR),
}
"""The chains, each called after the window it is metered over."""
CHAINS = {
    rule: Chain(rule, tuple(Tier(f"{rule}-{name}", "claude-code", f"{rule}-{name}", "opus") for name in "ab"))
    for rule in RULES
}
TIERS = 2 * len(CHAINS)
RUN = 100
"""Entries of one run."""
RECENT_MS = 9 * HOUR + HOUR // 2
"""The last hours, which are the same in ledgers of any size."""
PAUSE_MS = 6 * HOUR
"""Nothing was used for so long ahead of them, so that the same blocks begin in every ledger."""

FILLING = ("entries", "runs", "tasks", "counted", "tier_buckets", "buckets")


@dataclass(frozen=True, slots=True)
class Past:
    """`entries` in all, the last at `end_ms`: `recent` of them in the last hours, the rest evenly over `span_ms`."""

    entries: int
    recent: int
    span_ms: int
    end_ms: int

    def __post_init__(self) -> None:
        assert self.entries > self.recent, "something was used before the last hours"


def plan() -> Plan:
    """Three chains of two tiers, each with the window it is shown over, and no budgets."""
    meters = {}
    for name, chain in CHAINS.items():
        for scope in (f"chain:{name}", *(f"tier:{tier.name}" for tier in chain.tiers)):
            meters[scope] = Meter(RULES[name])
    return Plan(CHAINS, (), meters)


def build(path: Path, past: Past) -> None:
    """Make the ledger at `path`, whole or not at all."""
    made = path.with_suffix(".new")
    for left in path.parent.glob(f"{made.name}*"):
        left.unlink()
    anyio.run(_open_and_close, made, past.end_ms, Plan(CHAINS))
    _fill(made, past)
    anyio.run(_open_and_close, made, past.end_ms, plan())  # traces where the blocks began
    made.rename(path)


def audited(path: Path, now_ms: int) -> tuple[int, tuple[str, ...]]:
    """How many entries the ledger has, and what the audit finds wrong with it."""

    async def audit() -> tuple[int, tuple[str, ...]]:
        ledger = await Ledger.open(path, plan(), now_ms, InlineWorker())
        report = await ledger.audit()
        await ledger.close()
        return report.entries, report.problems

    return anyio.run(audit)


async def _open_and_close(path: Path, now_ms: int, with_plan: Plan) -> None:
    await (await Ledger.open(path, with_plan, now_ms, InlineWorker())).close()


def _fill(path: Path, past: Past) -> None:
    """Write rows as the ledger would have; indexes are made when all are there, and nothing is synced till then."""
    statements = parse(Path(__file__).with_suffix(".sql").read_text())
    connection = apsw.Connection(str(path))
    for pragma in ("journal_mode = OFF", "synchronous = OFF", "foreign_keys = OFF", "cache_size = -500000"):
        connection.execute(f"PRAGMA {pragma}")
    found = "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'entry' AND sql IS NOT NULL"
    indexes = connection.execute(found).fetchall()
    values = {
        "entries": past.entries,
        "recent": past.recent,
        "recent_step": RECENT_MS / max(1, past.recent),
        "before_ms": RECENT_MS + PAUSE_MS,
        "old_step": past.span_ms / (past.entries - past.recent),
        "end_ms": past.end_ms,
        "tiers": TIERS,
        "run": RUN,
    }
    with connection:
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
        connection.execute(statements["tiers"])
        for chain in CHAINS.values():
            for tier in chain.tiers:
                named = {"chain": chain.name, "tier": tier.name, "account": tier.account}
                connection.execute(statements["tier"], named)
        for name in FILLING:
            connection.execute(statements[name], values)
        for _, sql in indexes:
            connection.execute(str(sql))
        connection.execute(statements["drop_tiers"])
        connection.execute(statements["drop_hours"])
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
