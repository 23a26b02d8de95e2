"""Transcripts that nobody told of: how far each was read, and whose the usage in it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from locum.policy.board import Event
from locum.policy.task import Run
from locum.policy.transcript import Transcript
from locum.policy.usage import NO_TOKENS, Payer, Tokens, Usage
from locum.store import brakes, tally, tasks
from locum.store.codec import Memory, Write
from locum.store.sqlite import Database, Row, Sql
from locum.store.views import Recorded


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that an agent keeps transcripts in, by its real path; rows dated before `since_ms` do not count."""

    agent: str
    path: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class Share:
    """What a part of a transcript told, who pays for it, and how far it was read with that. `payer` has no run."""

    found: Transcript
    payer: Payer
    usages: Sequence[Usage]


class Transcripts:
    """The rows of `source` and `transcript`. Every method that changes something is one transaction."""

    def __init__(self, database: Database[Memory]) -> None:
        self._database = database

    async def folders(self) -> list[Folder]:
        """Every folder that was ever watched or imported."""
        return await self._database.read(lambda sql: [Folder(*row) for row in sql.rows("sources")])

    async def begin(self, agent: str, folder: str, now_ms: int) -> Folder:
        """Watch a folder: from now on, unless it was watched or imported before."""

        def script(tx: Write) -> Folder:
            tx.run("add_source", agent=agent, folder=folder, since_ms=now_ms)
            return _folder(tx, agent, folder)

        return await self._database.write(script)

    async def reach_back(self, agent: str, folder: str, since_ms: int) -> Folder:
        """Count a folder's rows from an earlier moment on: they are all read by now. Later ones change nothing."""

        def script(tx: Write) -> Folder:
            tx.run("reach_back", agent=agent, folder=folder, since_ms=since_ms)
            return _folder(tx, agent, folder)

        return await self._database.write(script)

    async def below(self, agent: str, folder: str) -> dict[str, Transcript]:
        """How far an agent's transcripts below a folder were read, by path."""
        bounds = {"above": f"{folder}/", "behind": f"{folder}0"}  # "0" comes right after "/"

        def script(sql: Sql) -> dict[str, Transcript]:
            return {row[0]: _transcript(row) for row in sql.rows("transcripts", agent=agent, **bounds)}

        return await self._database.read(script)

    async def record(self, shares: Sequence[Share], now_ms: int) -> Recorded:
        """Keep how far transcripts were read, and count what that told, share by share: all of it, or nothing.

        What belongs to a run is left to it, or given to it when it has ended.
        """

        def script(tx: Write) -> Recorded:
            for share in shares:
                save(tx, share.found)
            return record(tx, ((share.payer, share.usages) for share in shares), now_ms)

        return await self._database.write(script)

    async def save(self, found: Iterable[Transcript]) -> None:
        """Keep how far these were read; there was nothing to count."""
        kept = tuple(found)

        def script(tx: Write) -> None:
            for each in kept:
                save(tx, each)

        await self._database.write(script)

    async def forget(self, paths: Iterable[str]) -> None:
        """These are gone; should one come back, it is read again, and nothing of it is counted twice."""
        gone = tuple(paths)

        def script(tx: Write) -> None:
            for path in gone:
                tx.run("forget_transcript", path=path)

        await self._database.write(script)


def save(tx: Write, found: Transcript) -> None:
    """Keep how far one was read, in the transaction that counts what it told."""
    tx.run("save_transcript", **{name: getattr(found, name) for name in Transcript.__slots__})


def record(tx: Write, told: Iterable[tuple[Payer, Sequence[Usage]]], now_ms: int) -> Recorded:
    """Count usage of sessions that are not ours, each row for whom it is; then look at the budgets of all of them.

    A run in progress counts its session by itself, all of it. What is dated within one that has ended came late and is
    added to it (and taken back, where the agent's own total already holds it).
    """
    events = brakes.settle(tx, now_ms)
    added = NO_TOKENS
    payers: dict[Payer, None] = {}
    late: dict[str, Run] = {}
    for payer, usages in told:
        for run, theirs in by_run(tx, payer, usages, now_ms):
            if run is None:
                tokens = tally.add(tx, payer, theirs, now_ms)
                payers |= {replace(payer, session=None): None} if tokens else {}
            elif run.ended_ms is None:
                continue
            else:
                tokens = tally.add(tx, run.payer, theirs, now_ms)
                late |= {run.id: run} if tokens else {}
            added += tokens
    for payer in payers:
        events += brakes.check_payer(tx, payer, now_ms)
    for run in late.values():
        events += brakes.check(tx, run.chain, run.tier, now_ms)
    return Recorded(added, events)


def claim(tx: Write, run: Run, session: str, now_ms: int) -> tuple[Event, ...]:
    """A run has told its session: what of it was counted since the run began, before that was known, is the run's."""
    agent, events = run.tier.agent, brakes.settle(tx, now_ms)
    payers: set[Payer] = set()
    for row in tx.all("outside_entries", session=session, agent=agent, since_ms=run.started_ms):
        key, chain, tier, account, model, at_ms, *tokens = row
        owed = Payer(agent, chain, tier, account, model, session)
        tally.move(tx, owed, run.payer, Usage(key, Tokens(*tokens), model, session), at_ms)
        payers.add(replace(owed, model=None))
    for payer in sorted(payers, key=str):
        events += brakes.check_payer(tx, payer, now_ms)
    return events + (brakes.check(tx, run.chain, run.tier, now_ms) if payers else ())


def by_run(
    tx: Write, payer: Payer, usages: Sequence[Usage], now_ms: int
) -> Iterable[tuple[Run | None, Sequence[Usage]]]:
    """The usages by the run that they belong to; None: to nobody's."""
    runs: dict[str, list[Row]] = {}
    shares: dict[str | None, list[Usage]] = {}
    for usage in usages:
        session = usage.session or payer.session or ""
        if session and session not in runs:
            runs[session] = tx.all("session_runs", session=session)
        at_ms = now_ms if usage.at_ms is None else min(usage.at_ms, now_ms)
        shares.setdefault(_owner(runs.get(session, ()), at_ms), []).append(usage)
    return [(None if run is None else tasks.run(tx, run), theirs) for run, theirs in shares.items()]


def _owner(runs: Sequence[Row], at_ms: int) -> str | None:
    """Of the runs that had a session the one in progress, else the one within which that moment lies."""
    for run, started_ms, ended_ms in runs:
        if ended_ms is None or started_ms <= at_ms < ended_ms:
            return str(run)
    return None


def _folder(sql: Sql, agent: str, folder: str) -> Folder:
    row = sql.one("source", agent=agent, folder=folder)
    assert row is not None, "it was written just now"
    return Folder(agent, folder, row[0])


def _transcript(row: Row) -> Transcript:
    """One from its columns, in the order of its fields."""
    values = dict(zip(Transcript.__slots__, row, strict=True))
    return Transcript(**(values | {"skipping": bool(values["skipping"])}))
