"""A ledger that an older locum wrote is taken over whole."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from locum.policy.task import Ending, PostTaskState, RunState, TaskState
from locum.policy.usage import Tokens
from locum.store.queries import migrations
from locum.store.sqlite import APPLICATION_ID
from tests.ledgers import HOUR, START, B, budget, crossings, held, opened, plan_of, run_of, spend

pytestmark = pytest.mark.anyio

HISTORY = Path(__file__).with_name("schema_1.sql")
PLAN = plan_of(budget(1000), post_task=True)
NOW = START + 3 * HOUR
TABLES = ("task", "prompt", "run", "entry", "counted", "bucket", "fired", "event", "board", "notice")


@pytest.fixture
def old(tmp_path):
    """A file of schema 1 with a history; every row of it, by table."""
    connection = apsw.Connection(str(tmp_path / "ledger.db"))
    connection.pragma("journal_mode", "wal")
    connection.execute(migrations()[0])
    connection.execute(HISTORY.read_text())
    connection.pragma("user_version", 1)
    connection.pragma("application_id", APPLICATION_ID)
    rows = every_row(connection)
    connection.close()
    return rows


def every_row(connection):
    """Every row of the tables of schema 1, as far as that knew them."""
    first = apsw.Connection(":memory:")
    first.execute(migrations()[0])
    columns = {
        table: ", ".join(name for _, name, *_ in first.execute(f"PRAGMA table_info({table})")) for table in TABLES
    }
    return {
        table: connection.execute(f"SELECT {names} FROM {table} ORDER BY 1, 2").fetchall()
        for table, names in columns.items()
    }


async def test_every_row_of_an_old_ledger_is_there_as_it_was(tmp_path, old):
    """Entries keep their number, moment and tokens; nothing else is touched, and it all still adds up."""
    ledger = await opened(tmp_path, PLAN, NOW)
    assert await ledger._database.read(lambda sql: every_row(sql.connection)) == old
    report = await ledger.audit()
    assert (report.problems, report.entries, report.tokens) == ((), len(old["entry"]), Tokens(1747, 5))
    await ledger.close()
    assert apsw.Connection(str(tmp_path / "ledger.db")).pragma("user_version") == len(migrations())


async def test_sums_holds_and_crossings_of_an_old_ledger_stand(tmp_path, old):
    """What was used, what is held and what has fired is what it was: nothing fires again."""
    ledger = await opened(tmp_path, PLAN, NOW)
    sums = {scope: (await ledger.usage(scope, NOW)).totals.total for scope in ("chain:default", "tier:a", "total")}
    assert sums == {"chain:default": 1752, "tier:a": 655, "total": 1752}
    assert (await ledger.run_tokens("run-1"), await ledger.run_tokens("run-2")) == (Tokens(650, 5), Tokens(1090))
    assert set(held(ledger)) == {"account:bravo", "rung:default/c"}
    assert await crossings(ledger) == 1
    await ledger.close()


async def test_an_old_ledger_goes_on(tmp_path, old):
    """The open run is counted on without a token twice, ends, and is followed; the rows' numbers go on as well."""
    ledger = await opened(tmp_path, PLAN, NOW)
    (run,) = await ledger.open_runs()
    assert (run.id, run.tier) == ("run-3", B)
    assert (await spend(ledger, run, 7, NOW, key="m11")).tokens == Tokens()
    assert (await spend(ledger, run, 10, NOW, key="m11")).tokens == Tokens(3)
    await ledger.end_run(run.id, Ending(RunState.SUCCEEDED, 0), None, NOW)
    await ledger.start_run(run_of(4, task=2, attempt=2), NOW)
    assert await ledger.post_tasks.due(9) == ["task-0003"], "what had ended before is not followed now"
    assert await ledger.post_tasks.start("task-0003", NOW) is PostTaskState.RUNNING
    assert (await ledger.task("task-0001")).state is TaskState.DONE
    numbers = await ledger._database.read(lambda sql: sql.connection.execute("SELECT MAX(seq) FROM entry").get)
    assert numbers == len(old["entry"]) + 1
    assert (await ledger.audit()).problems == ()
    await ledger.close()


async def test_entries_of_an_old_ledger_can_still_not_be_changed(tmp_path, old):
    """The table that took the old one's place refuses updates and deletes as the old one did."""
    await (await opened(tmp_path, PLAN, NOW)).close()
    connection = apsw.Connection(str(tmp_path / "ledger.db"))
    for statement in ("UPDATE entry SET input = 0", "DELETE FROM entry"):
        with pytest.raises(apsw.ConstraintError, match="never"):
            connection.execute(statement)
    connection.close()


async def test_a_plan_without_post_task_makes_nothing_due_after_a_migration(tmp_path, old):
    """The tasks of an old ledger that have ended are never followed, with or without a command."""
    for post_task in (False, True):
        ledger = await opened(tmp_path, plan_of(budget(1000), post_task=post_task), NOW)
        assert await ledger.post_tasks.due(9) == []
        await ledger.close()


async def test_what_an_old_ledger_has_told_is_named(tmp_path, old):
    """Every notice gets a name and a place, once: at the second start it is still the same."""
    names = []
    for _ in range(2):
        ledger = await opened(tmp_path, PLAN, NOW)
        found = await ledger.notices()
        names.append([notice.id for _, notice in found])
        assert all(notice.id.startswith("msg_") and notice.link == "/#chain/default" for _, notice in found)
        await ledger.close()
    assert names[0] == names[1]
    assert len(set(names[0])) == len(old["notice"]) == 3
