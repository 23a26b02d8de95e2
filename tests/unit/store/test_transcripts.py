"""How far transcripts were read is kept with what they told, and every row counts for whom it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from locum.errors import ConflictError
from locum.policy.gate import Place
from locum.policy.plan import Chain
from locum.policy.report import payer_of
from locum.policy.task import Ending, RunState
from locum.policy.usage import NO_TOKENS, Payer, Tokens, Usage
from locum.store.transcripts import Share, Transcript, save
from tests.ledgers import HOUR, START, A, B, C, budget, held, opened, plan_of, started

pytestmark = pytest.mark.anyio

FILE = Transcript("/home/u/.x/s.jsonl", "command", START, 1, 2, 30, 4, 20, "ab", skipping=True, session="s", model="m")
ON_B = payer_of("command", Place(Chain("default", (A, B, C)), B), "s")
SHARED = Payer("command", account="acme", session="s")
DONE = Ending(RunState.SUCCEEDED, 0)


@pytest.fixture
async def ledger(tmp_path):
    """A ledger that adds up when it is closed."""
    made = await opened(tmp_path, plan_of(budget(1000)))
    yield made
    assert (await made.audit()).problems == ()
    await made.close()


async def spent(ledger, scope: str) -> int:
    """All tokens of a scope."""
    return (await ledger.usage(scope, START)).totals.total


async def test_a_folder_is_watched_from_when_it_was_seen_first(ledger):
    """Seen again it does not begin anew; an import reaches back, and never forward."""
    assert (await ledger.transcripts.begin("codex", "/h", START)).since_ms == START
    assert (await ledger.transcripts.begin("codex", "/h", START + HOUR)).since_ms == START
    assert (await ledger.transcripts.reach_back("codex", "/h", START - HOUR)).since_ms == START - HOUR
    assert (await ledger.transcripts.reach_back("codex", "/h", START)).since_ms == START - HOUR
    assert (await ledger.transcripts.reach_back("command", "/h", 7)).since_ms == 7
    found = [(each.agent, each.path, each.since_ms) for each in await ledger.transcripts.folders()]
    assert found == [("codex", "/h", START - HOUR), ("command", "/h", 7)]


async def test_how_far_a_file_was_read_is_kept_by_folder_and_agent(ledger):
    """Every field comes back as it was; a folder whose name only begins the same holds none of it."""
    there = (FILE, replace(FILE, path="/home/u/.x/a/b.jsonl", skipping=False, model=None))
    elsewhere = (replace(FILE, path="/home/u/.xy/s.jsonl"), replace(FILE, path="/home/u/.x/c.jsonl", agent="codex"))
    await ledger.transcripts.save((*there, *elsewhere))
    assert await ledger.transcripts.below("command", "/home/u/.x") == {each.path: each for each in there}
    await ledger.transcripts.save([replace(FILE, position=25)])
    assert (await ledger.transcripts.below("command", "/home/u/.x"))[FILE.path].position == 25
    await ledger.transcripts.forget([FILE.path, "/not/there"])
    assert set(await ledger.transcripts.below("command", "/home/u/.x")) == {there[1].path}


async def test_what_cannot_be_counted_is_not_kept_as_read(ledger):
    """The place in the file and the tokens are one commit: when it fails, neither is there."""

    def script(tx):
        save(tx, FILE)
        raise ConflictError("no")

    with pytest.raises(ConflictError):
        await ledger._database.write(script)
    assert await ledger.transcripts.below("command", "/home/u/.x") == {}


async def test_usage_of_an_account_that_several_tiers_share_moves_no_tier(ledger):
    """It counts for the account and as nobody's; no tier and no chain has used it, and no budget is over."""
    await ledger.transcripts.record([Share(FILE, SHARED, [Usage("m", Tokens(5000), at_ms=START)])], START)
    scopes = ("account:acme", "unattributed", "total", "chain:default", "tier:a", "tier:b")
    assert [await spent(ledger, scope) for scope in scopes] == [5000, 5000, 5000, 0, 0, 0]
    assert held(ledger) == {}


async def test_usage_of_the_only_tier_fires_its_budgets(ledger):
    """What a person spends is spent: the chain's budget holds the tier, once."""
    found = await ledger.transcripts.record([Share(FILE, ON_B, [Usage("m", Tokens(1000), at_ms=START)])], START)
    assert (found.tokens.total, set(held(ledger))) == (1000, {"rung:default/b"})
    assert not (
        await ledger.transcripts.record([Share(FILE, ON_B, [Usage("m", Tokens(1000), at_ms=START)])], START)
    ).events


@pytest.mark.parametrize("payer", [ON_B, SHARED, Payer("command", session="s")])
async def test_what_was_counted_before_a_run_told_its_session_becomes_the_runs(ledger, payer):
    """The transcript was read first: its tokens move to the run, so that the agent's own total adds nothing."""
    run = await started(ledger)
    rows = [Usage("m1", Tokens(7, 3), at_ms=START), Usage("m2", Tokens(cache_read=40), at_ms=START)]
    await ledger.transcripts.record([Share(FILE, payer, rows)], START)
    before = Usage("m0", Tokens(100), at_ms=START - HOUR)
    await ledger.transcripts.record([Share(FILE, payer, [before])], START)
    await ledger.saw_session(run.id, "s", START)
    await ledger.record(run.id, rows, START)
    assert await ledger.run_tokens(run.id) == Tokens(7, 3, 40)
    await ledger.end_run(run.id, replace(DONE, total=Tokens(7, 3, 40), session="s"), None, START + 5)
    assert await spent(ledger, "total") == 150
    assert await spent(ledger, "tier:a") == 50
    assert await spent(ledger, "account:acme") == (50 if payer.account is None else 150)


async def test_a_row_that_comes_after_its_runs_end_is_the_runs(ledger):
    """It is dated within the run: with a total told it changes nothing, without one it is added to that run."""
    for number, total in ((1, Tokens(30)), (2, None)):
        run = await started(ledger, number)
        await ledger.saw_session(run.id, f"s{number}", START)
        await ledger.record(run.id, [Usage(f"a{number}", Tokens(10), at_ms=START)], START)
        await ledger.end_run(run.id, replace(DONE, total=total), None, START + 100)
        late = [Usage(f"b{number}", Tokens(20), session=f"s{number}", at_ms=START + 50)]
        await ledger.transcripts.record([Share(FILE, SHARED, late)], START + 200)
        assert await ledger.run_tokens(run.id) == Tokens(30)
    person = [Usage("c", Tokens(1), session="s1", at_ms=START + 100)]
    assert (await ledger.transcripts.record([Share(FILE, SHARED, person)], START + 200)).tokens == Tokens(1)
    assert await spent(ledger, "unattributed") == 1
    assert await spent(ledger, "total") == 61


async def test_a_run_in_progress_counts_its_session_by_itself(ledger):
    """Whatever the row is dated; the place in the file is kept all the same."""
    run = await started(ledger)
    await ledger.saw_session(run.id, "s", START)
    for at_ms in (START - HOUR, START, None):
        found = await ledger.transcripts.record(
            [Share(FILE, ON_B, [Usage(f"m{at_ms}", Tokens(5), at_ms=at_ms)])], START
        )
        assert found.tokens == NO_TOKENS
    assert FILE.path in await ledger.transcripts.below("command", "/home/u/.x")
    await ledger.end_run(run.id, DONE, None, START)
