"""The audit finds whatever does not add up."""

from __future__ import annotations

import pytest

from locum.policy.failure import Failure, FailureKind
from locum.policy.task import Ending, RunState
from locum.policy.usage import Tokens
from tests.ledgers import START, B, budget, opened, plan_of, spend, started

pytestmark = pytest.mark.anyio

BREAKAGES = {
    "an hour's total": ("UPDATE bucket SET output = output + 1 WHERE scope = 'tier:a'", "the hour"),
    "an hour's total gone": ("DELETE FROM bucket WHERE scope = 'total'", "the hour"),
    "an entry": ("UPDATE entry SET input = input + 1 WHERE seq = 1", "the hour"),
    "a count": ("UPDATE counted SET input = input + 1 WHERE agent = 'command'", "the count of"),
    "a run's tokens": ("UPDATE run SET cache_read = 1 WHERE id = 'run-2'", "the tokens of run run-2 are not the sum"),
    "an agent's total": ("UPDATE run SET told_input = 1 WHERE id = 'run-1'", "not the total its agent told"),
    "an entry's tier": ("UPDATE entry SET tier = 'b' WHERE seq = 1", "names another task"),
    "an entry's run": ("UPDATE entry SET run = 'nobody' WHERE seq = 1", "a row of entry names"),
    "the board": ("UPDATE board SET body = replace(body, 'token_budget', 'network')", "the board is not what"),
    "the board's text": ("UPDATE board SET body = '[]'", "the board in the ledger cannot be read"),
    "an event": ("DELETE FROM event WHERE kind = 'bumped' AND tier = 'a'", "the board is not what"),
    "an event's text": ("UPDATE event SET hold = '{}' WHERE kind = 'bumped'", "the log of the chains cannot be read"),
    "a notice": ("DELETE FROM notice WHERE kind = 'tier_bumped'", "does not have exactly one notice"),
    "a notice twice": (
        "INSERT INTO notice (kind, severity, at_ms, title, message, data, event) SELECT kind, severity, at_ms, title, message, data, event FROM notice",
        "does not have exactly one notice",
    ),
    "a crossing's sum": ("UPDATE crossing SET output = output + 1", "is not the sum of the entries that there were"),
    "a crossing's time": ("UPDATE crossing SET start_ms = start_ms + 86400000", "is not the sum of the entries"),
    "a crossing's threshold": ("UPDATE crossing SET threshold = 130", "was told before it was reached"),
    "a crossing gone": ("DELETE FROM crossing", "tells of a threshold that is not on record so"),
    "a crossing's notice": ("UPDATE crossing SET unit = 'tokens'", "tells of a threshold that is not on record so"),
    "a task's state": ("UPDATE task SET state = 'queued' WHERE id = 'task-0002'", "task task-0002 is queued"),
    "a task's end": ("UPDATE task SET ended_ms = NULL WHERE id = 'task-0001'", "task task-0001 is done"),
    "a run's state": ("UPDATE run SET ended_ms = 5 WHERE id = 'run-2'", "run run-2 has a state"),
    "a run's failure": ("UPDATE run SET failure = 'crash' WHERE id = 'run-1'", "run run-1 has a state"),
}


@pytest.mark.parametrize("name", BREAKAGES)
async def test_a_broken_row_is_found(tmp_path, name):
    """Each kind of row, changed behind the ledger's back, is told."""
    ledger = await history(tmp_path)
    assert (await ledger.audit()).problems == ()
    statement, problem = BREAKAGES[name]
    await tamper(ledger, statement)
    assert any(problem in each for each in (await ledger.audit()).problems)
    await ledger.close()


async def test_two_runs_of_a_task_at_a_time_are_found(tmp_path):
    """Should the index that forbids it ever be lost, the audit still sees it."""
    ledger = await history(tmp_path)
    await tamper(ledger, "DROP INDEX run_one_at_a_time")
    await tamper(ledger, "UPDATE run SET state = 'running', task = 'task-0002', number = 9 WHERE id = 'run-1'")
    assert any("more than one run" in each for each in (await ledger.audit()).problems)


async def test_a_thousand_problems_are_told_briefly(tmp_path):
    """A ledger in ruins makes a short report that says how much more there is."""
    ledger = await opened(tmp_path)
    run = await started(ledger)
    for number in range(50):
        await spend(ledger, run, 1, key=str(number))
    await tamper(ledger, "DELETE FROM counted")
    problems = (await ledger.audit()).problems
    assert len(problems) == 21
    assert "30 more" in problems[-1]


async def test_entries_events_and_notices_cannot_be_changed(tmp_path):
    """The database itself refuses to change or delete what was recorded, and what people were told."""
    ledger = await history(tmp_path)
    for table in ("entry", "event", "notice"):
        for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET at_ms = 0"):
            with pytest.raises(Exception, match="never"):
                await ledger._database.write(lambda tx, text=statement: tx.connection.execute(text).fetchall())
    assert (await ledger.audit()).problems == ()


async def test_a_sound_ledger_reports_what_it_has_read(tmp_path):
    """Entries, events and their sum."""
    report = await (await history(tmp_path)).audit()
    assert (report.entries, report.tokens) == (4, Tokens(170))
    assert report.events > 3


async def history(folder):
    """A ledger with something of everything in it."""
    ledger = await opened(folder, plan_of(budget(100)))
    one, two = await started(ledger, 1), await started(ledger, 2, B)
    await spend(ledger, one, 120, START + 1)
    await spend(ledger, two, 40, START + 2)
    await ledger.end_run(one.id, Ending(RunState.SUCCEEDED, total=Tokens(110)), None, START + 3)
    three = await started(ledger, 3, B)
    await spend(ledger, three, 20, START + 4)
    await ledger.end_run(three.id, Ending(RunState.FAILED), Failure(FailureKind.AUTH_ERROR, "no"), START + 5)
    return ledger


async def tamper(ledger, statement):
    """Change a row behind the ledger's back."""

    def script(tx):
        for trigger in ("entry_stays", "entry_kept", "event_stays", "event_kept", "notice_stays", "notice_kept"):
            tx.connection.execute(f"DROP TRIGGER IF EXISTS {trigger}")
        tx.connection.execute(statement).fetchall()

    tx = ledger._database._tx
    tx.connection.execute("PRAGMA foreign_keys = OFF")
    await ledger._database.write(script)
