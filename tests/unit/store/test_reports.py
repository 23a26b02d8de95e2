"""What is told from outside: counted once, added up with everything else, and braked by the same budgets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from locum.policy.board import EventKind
from locum.policy.failure import Failure, FailureKind
from locum.policy.gate import Place
from locum.policy.notice import NoticeKind
from locum.policy.plan import Brake, Chain
from locum.policy.report import Report, payer_of
from locum.policy.task import Ending, RunState
from locum.policy.usage import NO_TOKENS, Payer, Tokens, Usage
from locum.policy.window import Block, Lifetime, Rolling
from locum.store.ledger import Ledger
from locum.store.queries import migrations
from locum.store.sqlite import APPLICATION_ID
from locum.store.worker import InlineWorker, ThreadWorker
from tests.ledgers import DAY, HOUR, START, TODAY, A, B, C, budget, crossings, held, opened, plan_of, spend, started

pytestmark = pytest.mark.anyio

DEFAULT = Chain("default", (A, B, C))
ON_A, ON_B = Place(DEFAULT, A), Place(DEFAULT, B)
REPORT = Report("report", "job-1", ON_A)
NOBODY = Payer("claude-code", session="s")
ON_B_PAYS = payer_of("claude-code", ON_B, "s")


@pytest.fixture(params=[InlineWorker, ThreadWorker])
async def ledger(request, tmp_path):
    """An empty ledger on either worker, audited when the test is over."""
    ledger = await opened(tmp_path, worker=request.param())
    yield ledger
    assert (await ledger.audit()).problems == ()
    await ledger.close()


def told(tokens: Tokens | int, of: Report = REPORT, **more) -> Report:
    """A report of so many tokens."""
    tokens = Tokens(tokens) if isinstance(tokens, int) else tokens
    return replace(of, tokens=tokens, usages=(Usage(of.id, tokens),), **more)


async def total(ledger: Ledger, scope: str = "total", now_ms: int = START) -> int:
    """What a scope has used."""
    return (await ledger.usage(scope, now_ms)).totals.total


async def test_a_report_told_again_changes_nothing(ledger):
    """The same id, the same words: one row, one count, one success; and it says that it was known."""
    first = await ledger.report(told(Tokens(5, 6, 7, 8)), START)
    assert (first.tokens, first.duplicate) == (Tokens(5, 6, 7, 8), False)
    for later in range(1, 4):
        again = await ledger.report(told(Tokens(5, 6, 7, 8)), START + later)
        assert (again.tokens, again.events, again.duplicate) == (NO_TOKENS, (), True)
    ((_, view),) = await ledger.reports()
    assert (view.at_ms, view.tokens, view.failure) == (START, Tokens(5, 6, 7, 8), None)
    assert [event.kind for _, event in await ledger.events()] == [EventKind.SUCCEEDED]


async def test_only_growth_of_a_report_is_counted(ledger):
    """A runner that tells its running sum is counted by what is new; a smaller count never takes anything back."""
    counts = (Tokens(5), Tokens(9, 1), Tokens(2, 1), Tokens(9, 1, 0, 4))
    new = [(await ledger.report(told(each), START)).tokens for each in counts]
    assert new == [Tokens(5), Tokens(4, 1), NO_TOKENS, Tokens(0, 0, 0, 4)]
    ((_, view),) = await ledger.reports()
    assert view.tokens == Tokens(9, 1, 0, 4)
    assert await total(ledger) == await total(ledger, "tier:a") == await total(ledger, "chain:default") == 14


async def test_only_the_first_outcome_of_a_report_moves_the_chain(ledger):
    """A success is not undone by a failure told later under its id, nor the other way round."""
    failure = Failure(FailureKind.AUTH_ERROR, "no")
    await ledger.report(REPORT, START)
    assert (await ledger.report(replace(REPORT, failure=failure), START)).events == ()
    assert held(ledger) == {}
    second = replace(REPORT, id="job-2", failure=failure)
    assert [each.kind for each in (await ledger.report(second, START)).events] == [EventKind.BUMPED]
    await ledger.report(replace(second, failure=None), START)
    assert list(held(ledger)) == ["account:acme"]
    assert [view.failure for _, view in await ledger.reports()] == [None, "auth_error"]


async def test_a_failure_told_again_after_a_release_holds_nothing(ledger):
    """What the operator has released stays so, whoever repeats old news."""
    failed = replace(REPORT, failure=Failure(FailureKind.AUTH_ERROR, "no"))
    await ledger.report(failed, START)
    await ledger.release("default", None, None, START)
    assert (await ledger.report(failed, START + 1)).duplicate
    assert held(ledger) == {}


async def test_ids_of_one_agent_are_not_those_of_another(ledger):
    """The same id from two agents is two pieces of work, and their usage keys live apart as well."""
    for agent in ("report", "claude-code", "codex"):
        found = await ledger.report(told(10, replace(REPORT, agent=agent)), START)
        assert (found.tokens.total, found.duplicate) == (10, False)
    assert await total(ledger) == 30


async def test_everything_told_comes_back(ledger):
    """Every field of a report is on record; what was not told is unknown and not zero."""
    whole = Report(
        *("report", "ä" * 200, ON_B, Tokens(1, 2, 3, 4), (), Failure(FailureKind.CRASH, "it fell")),
        *("s-1", "big", "acme", 420_000),
    )
    await ledger.report(whole, START)
    await ledger.report(Report("report", "bare", None), START + 1)
    await ledger.report(told(0, Report("report", "zero", None)), START + 2)
    (seq, first), (_, bare), (_, zero) = await ledger.reports()
    assert (first.agent, first.id, first.at_ms, first.chain, first.tier) == (
        "report",
        "ä" * 200,
        START,
        "default",
        "b",
    )
    assert (first.session, first.model, first.provider, first.cost_micros) == ("s-1", "big", "acme", 420_000)
    assert (first.failure, first.reason, first.tokens) == ("crash", "it fell", Tokens(1, 2, 3, 4))
    assert (bare.chain, bare.tier, bare.tokens, bare.cost_micros, bare.failure) == (None, None, None, None, None)
    assert zero.tokens == Tokens()
    assert [view.id for _, view in await ledger.reports(after=seq)] == ["bare", "zero"]
    assert len(await ledger.reports(limit=1)) == 1


async def test_a_count_that_was_unknown_can_become_known(ledger):
    """Told first without tokens, then with: they are counted, and the row knows them."""
    await ledger.report(REPORT, START)
    assert (await ledger.report(told(7), START)).tokens == Tokens(7)
    assert [view.tokens for _, view in await ledger.reports()] == [Tokens(7)]


async def test_nobodys_usage_counts_as_such_and_in_all(ledger):
    """It stands in `unattributed` and in the total, in no chain, tier or account, and names no failure anywhere."""
    await ledger.record_outside(NOBODY, [Usage("m1", Tokens(40), at_ms=START - 10 * DAY)], START)
    failed = replace(REPORT, place=None, failure=Failure(FailureKind.AUTH_ERROR, "no"))
    assert (await ledger.report(told(2, failed), START)).events == ()
    assert (await total(ledger, "unattributed"), await total(ledger)) == (42, 42)
    for scope in ("chain:default", "tier:a", "account:acme"):
        assert await total(ledger, scope) == 0
    assert (held(ledger), dict(ledger.board.chains)) == ({}, {})


async def test_a_session_that_a_run_owns_counts_nothing_outside(ledger):
    """While a run of ours is in a session, only the run counts it; when it has ended, what is new counts outside."""
    run = await started(ledger)
    await ledger.saw_session(run.id, "s", START)
    assert await ledger.session_owner("s") == run.id
    for payer in (NOBODY, ON_B_PAYS):
        assert (await ledger.record_outside(payer, [Usage("m1", Tokens(5))], START)).tokens == NO_TOKENS
    await ledger.record(run.id, [Usage("m1", Tokens(5))], START)
    await ledger.end_run(run.id, Ending(RunState.SUCCEEDED, 0), None, START)
    assert await ledger.session_owner("s") is None
    assert await ledger.session_owner("s", START) == run.id, "it ended just now"
    assert await ledger.session_owner("s", START + 1) is None
    payer = replace(ON_B_PAYS, agent="command")
    later = [Usage("m1", Tokens(5)), Usage("m2", Tokens(3))]
    assert (await ledger.record_outside(payer, later, START)).tokens == Tokens(3)
    assert (await total(ledger, "tier:a"), await total(ledger, "tier:b")) == (5, 3)


async def test_an_absurd_count_is_not_counted(ledger):
    """A number that no agent can have used adds nothing, outside as in a run."""
    for tokens in (Tokens(10**12 + 1), Tokens(-1)):
        assert (await ledger.record_outside(ON_B_PAYS, [Usage("m1", tokens)], START)).tokens == NO_TOKENS
    assert await total(ledger) == 0


async def test_the_time_of_usage_is_the_agents_own_up_to_now(ledger):
    """A row says when it was spent; one from the future counts now."""
    usages = [Usage("old", Tokens(1), at_ms=START - 3 * DAY), Usage("new", Tokens(2), at_ms=START + DAY)]
    await ledger.replan(plan_of(budget(1_000_000)), START)
    await ledger.record_outside(ON_B_PAYS, usages, START)
    assert await total(ledger, "chain:default") == 2
    assert await total(ledger) == 3


@pytest.mark.parametrize("outside", ["session", "report"])
@pytest.mark.parametrize("window", [TODAY, Lifetime(), Rolling(5 * HOUR), Block(5 * HOUR)])
@pytest.mark.parametrize(
    ("brake", "owner", "target"),
    [(Brake.CHAIN, "default", "rung:default/a"), (Brake.TIER, "a", "tier:a"), (Brake.HALT, "default", "chain:default")],
)
async def test_every_brake_fires_for_usage_from_outside(tmp_path, brake, owner, target, window, outside):
    """Half of it ours, half of somebody's session: the commit that crosses holds and tells, once a window."""
    ledger = await opened(tmp_path, plan_of(budget(100, window, brake, owner)))
    run = await started(ledger)
    await spend(ledger, run, 50)

    async def use(key: str, tokens: int, at_ms: int) -> None:
        if outside == "session":
            await ledger.record_outside(payer_of("x", ON_A, "s"), [Usage(key, Tokens(tokens))], at_ms)
        else:
            await ledger.report(told(tokens, replace(REPORT, id=key)), at_ms)

    await use("m1", 49, START + 1)
    assert held(ledger) == {}
    await use("m2", 1, START + 2)
    assert list(held(ledger)) == [target]
    assert ledger.board.chain("default").last_failure_kind is FailureKind.TOKEN_BUDGET
    await use("m3", 500, START + 3)
    assert await crossings(ledger) == 1
    assert list(held(ledger)) == [target]
    ends = held(ledger)[target]
    if ends is not None:
        await ledger.settle(ends)
        await use("m4", 1, ends)
        assert held(ledger) == {}, "a new window has room"
    assert (await ledger.audit()).problems == ()
    await ledger.close()


async def test_nobodys_usage_crosses_no_budget(tmp_path):
    """However much it is: there is no tier to hold."""
    ledger = await opened(tmp_path, plan_of(budget(1), budget(1, brake=Brake.HALT)))
    await ledger.record_outside(NOBODY, [Usage("m", Tokens(10**9))], START)
    assert (held(ledger), await ledger.notices()) == ({}, [])
    await ledger.close()


async def test_usage_of_a_tier_that_has_left_the_file_is_kept(tmp_path):
    """A late row of a session whose tier was removed meanwhile still counts, and its chain's budget still fires."""
    ledger = await opened(tmp_path, plan_of(budget(10), chains={"default": (A, B)}))
    gone = Place(Chain("default", (C,)), C)
    await ledger.record_outside(payer_of("codex", gone, "s"), [Usage("m", Tokens(10))], START)
    assert list(held(ledger)) == ["rung:default/c"]
    lost = Place(Chain("removed", (C,)), C)
    await ledger.report(told(5, Report("report", "x", lost, failure=Failure(FailureKind.AUTH_ERROR, "no"))), START)
    assert await total(ledger, "chain:removed") == 5
    assert (await ledger.audit()).problems == ()
    await ledger.close()


async def test_people_hear_of_a_failure_outside_as_of_one_inside(ledger):
    """The bump is the same one: an event with its hold, and one notice."""
    await ledger.report(replace(REPORT, failure=Failure(FailureKind.USAGE_LIMIT, "spent")), START)
    assert [notice.kind for _, notice in await ledger.notices()] == [NoticeKind.TIER_BUMPED]


async def test_nothing_from_outside_is_lost_when_the_daemon_is(tmp_path):
    """What was acknowledged is there after a reopening, and is known again when it is told again."""
    ledger = await opened(tmp_path, plan_of(budget(1_000)))
    await ledger.record_outside(ON_B_PAYS, [Usage("m1", Tokens(5))], START)
    await ledger.report(told(7, replace(REPORT, failure=Failure(FailureKind.AUTH_ERROR, "no"))), START)
    again = await opened(tmp_path, plan_of(budget(1_000)))
    assert (await again.record_outside(ON_B_PAYS, [Usage("m1", Tokens(5))], START)).tokens == NO_TOKENS
    assert (await again.report(told(7), START)).duplicate
    assert await total(again, "chain:default") == 12
    assert list(held(again)) == ["account:acme"]
    assert (await again.audit()).problems == ()
    for each in (ledger, again):
        await each.close()


async def test_a_block_begins_with_the_first_use_from_outside(tmp_path):
    """A session of somebody's starts the vendor's block as a run does; a late row does not move it."""
    ledger = await opened(tmp_path, plan_of(budget(100, Block(5 * HOUR))))
    await ledger.record_outside(ON_B_PAYS, [Usage("m1", Tokens(1), at_ms=START)], START)
    await ledger.record_outside(ON_B_PAYS, [Usage("m2", Tokens(1), at_ms=START - HOUR)], START)
    assert (await ledger.usage("chain:default", START)).window.start_ms == START
    await ledger.close()


# ── a ledger from before ─────────────────────────────────────────────────────────────────────────────────


async def test_a_ledger_of_the_first_schema_is_taken_over_whole(tmp_path):
    """Entries, counts, holds and sums are those of before; they still cannot be changed, and new ones go on."""
    path = tmp_path / "ledger.db"
    plan = plan_of(budget(100), budget(70, Block(3 * HOUR), Brake.HALT))
    ledger = await opened(tmp_path, plan)
    for number, tier in enumerate((A, B, C), 1):
        run = await started(ledger, number, tier)
        await spend(ledger, run, 20, START + number * HOUR)
    before = ((await ledger.audit()).tokens, held(ledger), await ledger.events(), await ledger.notices())
    rows = await _entries(path)
    await ledger.close()
    _downgrade(path)
    ledger = await opened(tmp_path, plan, START + 4 * HOUR)
    audit = await ledger.audit()
    assert (audit.problems, audit.tokens) == ((), before[0])
    assert (held(ledger), await ledger.events(), await ledger.notices()) == before[1:]
    assert await _entries(path) == rows
    await ledger.record_outside(NOBODY, [Usage("m", Tokens(1))], START + 4 * HOUR)
    assert (await _entries(path))[-1][0] == len(rows) + 1, "numbers are never given twice"
    assert await ledger.reports() == []
    with apsw.Connection(str(path)) as raw:
        for change in ("UPDATE entry SET input = 1", "DELETE FROM entry"):
            with pytest.raises(apsw.ConstraintError):
                raw.execute(change)
    assert (await ledger.audit()).problems == ()
    await ledger.close()


async def _entries(path: Path) -> list[tuple]:
    connection = apsw.Connection(str(path))
    try:
        return list(connection.execute("SELECT * FROM entry ORDER BY seq"))
    finally:
        connection.close()


def _downgrade(path: Path) -> None:
    """Pour what is in a ledger into one that the first schema has made."""
    old = path.with_name("old.db")
    connection = apsw.Connection(str(old))
    connection.execute(migrations()[0])
    connection.execute("ATTACH ? AS new", (str(path),))
    for (name,) in list(connection.execute("SELECT name FROM main.sqlite_schema WHERE type = 'table'")):
        if not name.startswith("sqlite_"):
            columns = ", ".join(f'"{row[1]}"' for row in connection.execute(f"PRAGMA main.table_info({name})"))
            connection.execute(f"INSERT INTO main.{name} ({columns}) SELECT {columns} FROM new.{name}")
    connection.execute("DETACH new")
    connection.pragma("user_version", 1)
    connection.pragma("application_id", APPLICATION_ID)
    connection.close()
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    old.rename(path)
