"""Usage written by many at once, durable when the call returns, beside plain appends to a file on the same disk."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import apsw

from bench.rounds import TIMES, median, short, told
from bench.subject import Found, Limit, Subject
from locum.policy.plan import Brake, Budget, Chain, Meter, Plan, Threshold, Tier
from locum.policy.task import Run, RunState, Task, TaskState
from locum.policy.usage import Tokens, Usage
from locum.policy.window import Calendar
from locum.store.ledger import Ledger
from locum.store.queries import migrations, queries
from locum.store.worker import Batch, Job, Lane, ThreadWorker

PRODUCERS = 100
BYTES = 256
"""One record of the plain file: about what an entry and its count take in the ledger, indexes aside."""
NOW = 1_800_000_000_000
WEEK = Calendar("week")
BUDGET = Budget(Brake.CHAIN, "default", 10**15, WEEK)
PLAN = Plan(
    {"default": Chain("default", tuple(Tier(name, "claude-code", name, "opus") for name in ("max", "api")))},
    (BUDGET,),
    {"default": Meter(WEEK)},
    alerts={BUDGET.scope: tuple(Threshold(at, BUDGET.scope, WEEK, budget=BUDGET) for at in (80, 90, 100))},
)


class Counting(ThreadWorker):
    """The ledger's own threads, counting commits."""

    def __init__(self) -> None:
        self.commits = 0

    def lane(self, name: str, batch: Batch, most: int) -> Lane:
        """As `Worker` says."""

        def counted(jobs: Sequence[Job]) -> None:
            batch(jobs)
            self.commits += name == "locum-writer" and bool(jobs)

        return super().lane(name, counted, most)


@dataclass
class Bench:
    """One ledger and one plain file in `folder`; every producer writes `entries` a round."""

    folder: Path
    entries: int
    ledger: Ledger
    worker: Counting
    written: int = 0
    group: int = 1
    rates: dict[str, list[float]] = field(default_factory=dict)

    def keep(self, name: str, seconds: float) -> None:
        """Note how many entries a second that was."""
        self.rates.setdefault(name, []).append(self.entries * PRODUCERS / seconds)

    async def through_the_ledger(self, a_call: int) -> float:
        """All producers at once, `a_call` entries a call; the seconds it took. Notes how many shared a commit."""
        before = self.worker.commits
        self.written += 1
        began = time.perf_counter()
        async with anyio.create_task_group() as group:
            for producer in range(PRODUCERS):
                group.start_soon(self._produce, producer, a_call)
        seconds = time.perf_counter() - began
        self.group = round(self.entries * PRODUCERS / (self.worker.commits - before))
        return seconds

    async def _produce(self, producer: int, a_call: int) -> None:
        run = f"r-{producer:012}"
        for first in range(0, self.entries, a_call):
            usages = [self._usage(producer, first + number) for number in range(a_call)]
            await self.ledger.record(run, usages, NOW + self.written * 60_000 + first)

    def _usage(self, producer: int, number: int) -> Usage:
        """What one answer of a model spends, under a key as long as the vendors'."""
        key = f"msg_01{self.written:06}{producer:06}{number:010}"
        session = f"00000000-0000-4000-8000-{producer:012}"
        tokens = Tokens(3 + number % 900, 40 + number % 700, 20_000 + number, number % 2000)
        return Usage(key, tokens, "claude-opus-4-1", session, NOW + self.written * 60_000 + number)

    def to_a_file(self) -> float:
        """As many bytes appended in groups of the same size, each synced; the seconds it took."""
        block = os.urandom(BYTES) * self.group
        file = os.open(self.folder / "plain", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        began = time.perf_counter()
        for _ in range(-(-self.entries * PRODUCERS // self.group)):
            assert os.write(file, block) == len(block), "the disk takes it whole"
            os.fdatasync(file)
        seconds = time.perf_counter() - began
        os.close(file)
        return seconds

    def to_sqlite_alone(self) -> float:
        """The same rows by nobody but SQLite: entries with their indexes and their counts, in groups of that size."""
        connection = apsw.Connection(str(self.folder / "alone.db"))
        if not connection.pragma("user_version"):
            connection.pragma("journal_mode", "wal")
            for script in migrations():
                connection.execute(script)
            connection.pragma("user_version", 1)
        connection.pragma("synchronous", 2)
        connection.pragma("foreign_keys", 0)
        self.written += 1
        rows = [self._row(producer, number) for number in range(self.entries) for producer in range(PRODUCERS)]
        began = time.perf_counter()
        for first in range(0, len(rows), self.group):
            with connection:
                connection.executemany(queries()["add_entry"], rows[first : first + self.group])
                connection.executemany(queries()["count"], rows[first : first + self.group])
        seconds = time.perf_counter() - began
        connection.close()
        return seconds

    def _row(self, producer: int, number: int) -> dict[str, object]:
        usage = self._usage(producer, number)
        tokens = dict(zip(("input", "output", "cache_read", "cache_write"), usage.tokens, strict=True))
        more = {"run": f"r-{producer:012}", "task": f"t-{producer:012}", "chain": "default", "tier": "max"}
        told = {"key": usage.key, "model": usage.model, "session": usage.session, "at_ms": usage.at_ms}
        return {**more, **told, **tokens, "account": "max", "agent": "claude-code"}


def measure(folder: Path, entries: int = 200, rounds: int = 9, warm_up: int = 1) -> Found:
    """Write so many entries a producer and round: one a call, twenty a call, and the same without the ledger."""
    return anyio.run(_measure, folder, entries, rounds, warm_up, backend_options={"use_uvloop": True})


async def _measure(folder: Path, entries: int, rounds: int, warm_up: int) -> Found:
    worker = Counting()
    ledger = await Ledger.open(folder / "ledger.db", PLAN, NOW, worker)
    bench = Bench(folder, entries, ledger, worker)
    try:
        for producer in range(PRODUCERS):
            await _begin(ledger, producer)
        groups = dict.fromkeys((1, 20), 0)
        for number in range(warm_up + rounds):
            if number == warm_up:
                bench.rates.clear()
            for a_call in sorted(groups, reverse=bool(number % 2)):
                bench.keep(f"ledger, {a_call}", await bench.through_the_ledger(a_call))
                groups[a_call] = bench.group
                bench.keep(f"file, {a_call}", bench.to_a_file())
                bench.keep(f"sqlite, {a_call}", bench.to_sqlite_alone())
        report = await ledger.audit()
    finally:
        await ledger.close()
    assert not report.problems, report.problems
    assert report.entries == entries * PRODUCERS * len(groups) * (warm_up + rounds), "every entry is there, once"
    return _found(bench.rates, groups)


async def _begin(ledger: Ledger, producer: int) -> None:
    tier = PLAN.chains["default"].tiers[producer % 2]
    task = Task(f"t-{producer:012}", "default", "/srv/work", TaskState.QUEUED, NOW)
    await ledger.submit(task, b"do it")
    run = Run(f"r-{producer:012}", task.id, 1, "default", tier, "/srv/work", RunState.RUNNING, NOW)
    await ledger.start_run(run, NOW)


def _found(rates: dict[str, list[float]], groups: dict[int, int]) -> Found:
    ratio = {a_call: median(rates[f"ledger, {a_call}"]) / median(rates[f"file, {a_call}"]) for a_call in groups}
    details = []
    for a_call, group in groups.items():
        calls = "one entry a call" if a_call == 1 else f"{a_call} entries a call"
        alone = median(rates[f"sqlite, {a_call}"]) / median(rates[f"file, {a_call}"])
        details += [
            (f"{calls}, {group:,} a commit: the ledger", told(rates[f"ledger, {a_call}"], "entries/s")),
            (f"{group:,} records an append: the plain file", told(rates[f"file, {a_call}"], "records/s")),
            (f"{group:,} rows a commit: SQLite alone", told(rates[f"sqlite, {a_call}"], "rows/s")),
            (
                f"{calls}: ledger and SQLite alone, beside the file",
                f"{short(ratio[a_call])} {TIMES} and {short(alone)} {TIMES}",
            ),
        ]
    return Found((ratio[1],), tuple(details))


SUBJECT = Subject(
    name="record",
    limits=(
        Limit(
            "durable usage entries/s with 100 producers, beside append + fdatasync of the same bytes in groups",
            0.4,
            TIMES,
            at_least=True,
        ),
    ),
    how=(
        f"{PRODUCERS} tasks of one event loop call `Ledger.record` for as many runs, one entry a call (and, told "
        "below, twenty): each call returns when its entry, its sums and its budget are committed. Beside it, in the "
        f"same rounds, {BYTES} bytes an entry appended to a file and synced, as many at a time as shared a commit; and "
        "SQLite given the ready rows of entries and counts in the same groups, without sums, budgets or callers, "
        "which is the most that the schema allows."
    ),
    measure=measure,
    known_miss=(
        "an append writes one run of bytes; an entry is a row with three indexes, its count a second row with a "
        "key, and both go through a write-ahead log in whole pages. SQLite alone, below, is what remains of the "
        "append's speed when only these two rows are written, by nobody and for nobody. The rest is nine statements an "
        "entry instead of two (its run, its count, the sums of four scopes, the budget) and about as much Python, "
        "with the wake of its caller. Entries that are handed over together share most of that."
    ),
    tiny={"entries": 20, "rounds": 1, "warm_up": 0},
)
