"""History that is counted in bulk leaves the ledger as if it had been told row by row, in its time."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from locum.policy.plan import Brake
from locum.policy.task import Ending, RunState
from locum.policy.transcript import Transcript
from locum.policy.usage import LARGEST, NO_TOKENS, Payer, Tokens, Usage
from locum.policy.window import Block, Lifetime, Rolling
from locum.store.ledger import Ledger
from locum.store.transcripts import Share
from tests.ledgers import HOUR, START, A, budget, crossings, held, opened, plan_of, started

pytestmark = pytest.mark.anyio

PLAN = plan_of(
    budget(150),
    budget(70, Rolling(2 * HOUR), Brake.TIER, "b"),
    budget(90, Block(5 * HOUR), Brake.TIER, "a"),
    budget(900, Lifetime(), Brake.HALT),
)
PAYERS = (
    Payer("claude-code", "default", "a", "acme", "big"),
    Payer("claude-code", "default", "b", "acme"),
    Payer("claude-code", account="acme"),
    Payer("codex"),
)
NOW = START + 30 * HOUR
SCOPES = ("chain:default", "tier:a", "tier:b", "account:acme", "unattributed", "total")

counts = st.builds(Tokens, st.integers(0, 40), st.integers(0, 20), st.integers(0, 5), st.integers(0, LARGEST + 1))
usages = st.builds(
    Usage,
    st.sampled_from(["m1", "m2", "m3", "m4", "m5", "m6"]),
    st.one_of(counts, counts.map(lambda each: structs.replace(each, cache_write=0))),
    st.sampled_from([None, "x"]),
    st.sampled_from([None, "one", "two"]),
    st.one_of(st.none(), st.integers(START, NOW + HOUR)),
)
shares = st.lists(st.tuples(st.integers(0, len(PAYERS) - 1), st.lists(usages, max_size=5)), max_size=6)


def share_of(number: int, payer: int, told: list[Usage]) -> Share:
    """A share that was read from a file of its own."""
    return Share(Transcript(f"/t/{number}", PAYERS[payer].agent, 0, position=number), PAYERS[payer], told)


async def everything(ledger: Ledger) -> dict[str, object]:
    """What anybody could tell apart: rows of the ledger without their numbers, and what is held."""
    tables = {
        "entry": "chain, tier, account, agent, key, model, session, at_ms, input, output, cache_read, cache_write",
        "counted": "*",
        "bucket": "*",
        "block": "*",
        "transcript": "*",
    }
    found: dict[str, object] = {}
    for table, columns in tables.items():
        rows = await ledger._read(lambda sql, q=f"SELECT {columns} FROM {table}": list(sql.connection.execute(q)))
        found[table] = sorted(rows, key=str)
    report = await ledger.audit()
    assert report.problems == ()
    return {**found, "held": held(ledger), "crossings": await crossings(ledger)}


async def row_by_row(ledger: Ledger, told: list[Share]) -> None:
    """Each usage by itself, share by share, then blocks and budgets as a whole."""
    for share in told:
        await ledger.transcripts.save([share.found])
        for usage in sorted(share.usages, key=lambda each: NOW if each.at_ms is None else min(each.at_ms, NOW)):
            await ledger.record_outside(share.payer, [usage], NOW)


@settings(max_examples=12, deadline=None)
@given(shares, shares, st.integers(1, 6))
def test_bulk_is_row_by_row(before: list, history: list, a_commit: int) -> None:
    """Whatever was counted before, however history is divided: the same entries, counts, hours and sums."""

    async def check() -> None:
        plain = plan_of()
        told = [share_of(number, *each) for number, each in enumerate(history)]
        ahead = [share_of(number, *each) for number, each in enumerate(before)]
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            first, second = await opened(Path(one), plain), await opened(Path(other), plain)
            for ledger in (first, second):
                await row_by_row(ledger, ahead)
            await row_by_row(first, told)
            new = NO_TOKENS
            base = (await second.usage("total", NOW)).totals
            for at in range(0, len(told), a_commit):
                new = sum(await second.record_history(told[at : at + a_commit], NOW), new)
            assert await everything(first) == await everything(second)
            assert (await second.usage("total", NOW)).totals == base + new
            for ledger in (first, second):
                await ledger.close()

    anyio.run(check)


def in_time(told: list[Share]) -> list[tuple[int, Payer, Usage]]:
    """Each key's first usage, by its moment."""
    once: dict[tuple[str, str], tuple[int, Payer, Usage]] = {}
    for share in told:
        for usage in share.usages:
            at_ms = NOW if usage.at_ms is None else min(usage.at_ms, NOW)
            once.setdefault((share.payer.agent, usage.key), (at_ms, share.payer, usage))
    return sorted(once.values(), key=lambda found: found[0])


def without_rungs(found: dict[str, object], payers: set[Payer]) -> dict[str, object]:
    """Which rung a chain's budget takes is clear only if one tier has spent all; how often it crossed is history."""
    held_ = {target: until for target, until in found["held"].items() if len(payers) < 2 or "rung" not in target}
    return {**found, "held": held_, "crossings": None, "transcript": None}


@settings(max_examples=12, deadline=None)
@given(shares, st.permutations(range(6)), st.integers(0, 6))
def test_the_order_of_history_does_not_matter_in_the_end(history: list, order: list[int], again: int) -> None:
    """In any order, with any part told twice: the sums, blocks and holds as if all had been told in its time."""

    async def check() -> None:
        timed = in_time([share_of(number, *each) for number, each in enumerate(history)])
        payers = {payer for _, payer, usage in timed if usage.tokens and max(usage.tokens) <= LARGEST and payer.tier}
        told = [share_of(number, PAYERS.index(payer), [usage]) for number, (_, payer, usage) in enumerate(timed)]
        mixed = [told[number % len(told)] for number in (*order, *range(len(told)))] if told else []
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            first, second = await opened(Path(one), PLAN), await opened(Path(other), PLAN)
            for at_ms, payer, usage in timed:
                await first.record_outside(payer, [structs.replace(usage, at_ms=at_ms)], at_ms)
            await second.record_history(mixed, NOW)
            await second.record_history(mixed[:again], NOW)
            await second.look_back(sorted(payers, key=str), NOW)
            await first.look_back((), NOW)
            found = [without_rungs(await everything(each), payers) for each in (first, second)]
            assert found[0] == found[1]
            for ledger in (first, second):
                await ledger.close()

    anyio.run(check)


async def test_history_uses_up_the_current_window_only(tmp_path: Path) -> None:
    """Tokens of yesterday fire nothing; those of today hold the chain as any others do, once."""
    ledger = await opened(tmp_path, plan_of(budget(100)))
    old = Usage("old", Tokens(5_000), at_ms=NOW - 48 * HOUR)
    await ledger.record_history([share_of(1, 0, [old])], NOW)
    assert await ledger.look_back(PAYERS, NOW) == ()
    assert (held(ledger), await crossings(ledger)) == ({}, 0)
    await ledger.record_history([share_of(2, 0, [Usage("new", Tokens(100), at_ms=NOW - HOUR)])], NOW)
    assert held(ledger) == {}
    assert await ledger.look_back(PAYERS, NOW)
    assert (len(held(ledger)), await crossings(ledger)) == (1, 1)
    assert await ledger.look_back(PAYERS, NOW) == ()
    await ledger.close()


async def test_a_block_begins_at_the_first_use_of_all(tmp_path: Path) -> None:
    """A session told of last that was first moves the block to where it began, and an old hold with it."""
    ledger = await opened(tmp_path, plan_of(budget(100, Block(5 * HOUR))))
    await ledger.record_outside(PAYERS[0], [Usage("live", Tokens(100), at_ms=NOW)], NOW)
    assert list(held(ledger).values()) == [NOW + 5 * HOUR]
    earlier = Usage("first", Tokens(1), at_ms=NOW - 2 * HOUR)
    await ledger.record_history([share_of(1, 0, [earlier])], NOW)
    await ledger.look_back(PAYERS, NOW)
    assert list(held(ledger).values()) == [NOW + 3 * HOUR]
    assert await crossings(ledger) == 1
    await ledger.close()


async def test_history_of_a_run_is_the_run_s(tmp_path: Path) -> None:
    """Rows of a session of ours: in progress they are left to the run, after its end they are added to it."""
    ledger = await opened(tmp_path, plan_of())
    run = await started(ledger, tier=replace(A, agent="claude-code"))
    await ledger.saw_session(run.id, "mine", START)
    row = Usage("m", Tokens(7), session="mine", at_ms=START + 1)
    assert await ledger.record_history([share_of(1, 1, [row])], START + 2) == [NO_TOKENS]
    await ledger.end_run(run.id, Ending(RunState.SUCCEEDED, 0), None, START + 10)
    assert await ledger.record_history([share_of(1, 1, [row])], START + 20) == [Tokens(7)]
    assert await ledger.run_tokens(run.id) == Tokens(7)
    assert (await ledger.usage("tier:b", START + 20)).totals == NO_TOKENS
    assert (await ledger.audit()).problems == ()
    await ledger.close()
