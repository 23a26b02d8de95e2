"""Sessions that nobody tells of: counted as they are written, once, for whom they are."""

from __future__ import annotations

import json

import pytest

from locum.engine import sources
from locum.engine.stretch import Stretch
from tests.unit.engine.watching import Unheard, save, service, watching
from tests.unit.web.sessions import BUDGET, Session, counted, holds, row, until, used

pytestmark = pytest.mark.anyio

MAX = {"name": "max", "agent": "claude-code"}
API = {"name": "api", "agent": "claude-code", "env": {"ANTHROPIC_API_KEY": "sk-0123456789"}}
THREAD = "019ab3c1-0000-7000-8000-000000000001"


@pytest.fixture
async def boss(tmp_path):
    """A supervisor that watches `~/.claude` and `~/.codex`, neither of which is there yet."""
    async with watching(tmp_path) as boss:
        yield boss


# ── counted ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("agent", "name", "tier"), [("claude-code", "s-1", "max"), ("codex", THREAD, "codex")])
async def test_what_a_person_spends_counts_for_the_tier(boss, tmp_path, agent, name, tier):
    """In a home that was not there when the daemon started: each row as it is written, for tier, chain and account."""
    session = Unheard(boss, tmp_path, name, agent)
    for turn, tokens in enumerate((5, 12, 20), 1):
        session.spend(f"m{turn}", tokens - (0, 5, 12)[turn - 1])
        await counted(boss, tokens, f"tier:{tier}")
    account = boss.ledger.plan.tiers[tier].account
    assert [await used(boss, scope) for scope in ("chain:default", f"account:{account}", "unattributed")] == [20, 20, 0]


async def test_a_budget_that_a_person_uses_up_holds_the_tier(tmp_path):
    """Their tokens are as spent as any: the chain moves on, and its waiting tasks hear of it."""
    async with watching(tmp_path, BUDGET) as boss:
        heard = boss.bell.heard()
        Unheard(boss, tmp_path).spend("m1", 1000)
        await counted(boss, 1000)
        assert holds(boss) == ["rung:default/max"]
        assert boss.bell.heard() > heard


async def test_what_was_there_before_is_history(tmp_path):
    """Neither a file that lay there, nor old rows of one that goes on or was forked from it, are counted."""
    old = tmp_path / ".claude/projects/-srv-project/s-1.jsonl"
    old.parent.mkdir(parents=True)
    history = row("s-1", "m0", 100, ago_s=60)
    old.write_bytes(history)
    async with watching(tmp_path) as boss:
        Unheard(boss, tmp_path).spend("m1", 7)
        await counted(boss, 7)
        Unheard(boss, tmp_path, "s-2").write(history.replace(b"s-1", b"s-2") + row("s-2", "m2", 3))
        await counted(boss, 10)


async def test_forks_and_copies_count_once(boss, tmp_path):
    """Rows told again in another file, under another session, in another order: none counts twice."""
    rows = [row("s-1", f"m{number}", 10 + number) for number in range(5)]
    Unheard(boss, tmp_path).write(b"".join(rows))
    await counted(boss, 60)
    Unheard(boss, tmp_path, "s-2").write(b"".join(each.replace(b"s-1", b"s-2") for each in reversed(rows)))
    Unheard(boss, tmp_path, "s-3").write(rows[0] + row("s-3", "m9", 1))
    await counted(boss, 61)


async def test_a_row_counts_once_it_is_whole(boss, tmp_path):
    """Cut anywhere, and after a look at each part: nothing of it before its end is there."""
    session, data = Unheard(boss, tmp_path), row("s-1", "m1", 9)
    for part in (data[:40], data[40:-10], data[-10:-1]):
        session.write(part)
        await boss.sources._look()
        assert await used(boss) == 0
    session.write(data[-1:])
    await counted(boss, 9)


async def test_a_line_that_is_too_long_costs_itself_only(boss, tmp_path, monkeypatch):
    """It is passed over, also over a restart, which is said; what follows it counts."""
    monkeypatch.setattr("locum.engine.spool.LONGEST_LINE", 2000)
    monkeypatch.setattr("locum.engine.stretch.CHUNK", 512)
    session = Unheard(boss, tmp_path)
    session.write(row("s-1", "m1", 1) + b'{"type":"assistant"' + b"x" * 5000)
    await counted(boss, 1)
    (watched,) = boss.sources.watched[:1]
    assert watched.trouble.endswith("s-1.jsonl: a line of more than 16M was passed over")
    boss.sources.refresh()
    session.write(b"y" * 5000 + row("s-1", "m2", 2) + row("s-1", "m3", 4))
    await counted(boss, 5)
    assert watched.trouble.endswith("s-1.jsonl: a line of more than 16M was passed over")
    session.spend("m4", 8)
    await counted(boss, 13)
    assert boss.sources.watched[0].trouble == ""


async def test_a_file_that_is_too_large_is_said(boss, tmp_path, monkeypatch):
    """What lies behind its first bytes is not read, and that is told as long as it stands there."""
    for where in ("spool", "stretch"):
        monkeypatch.setattr(f"locum.engine.{where}.MOST", 1024)
    session = Unheard(boss, tmp_path)
    session.write(row("s-1", "m1", 1) + b"x" * 2000 + b"\n" + row("s-1", "m2", 2))
    await counted(boss, 1)
    assert boss.sources.watched[0].trouble.endswith("s-1.jsonl: only its first 1K are read")
    await boss.sources._look()
    assert boss.sources.watched[0].trouble


async def test_a_file_that_is_replaced_cut_or_rotated_is_read_anew(boss, tmp_path):
    """By another file of the same name, by a shorter or an equally long one in place, under the same inode."""
    session = Unheard(boss, tmp_path)
    session.write(row("s-1", "m1", 1) + row("s-1", "m2", 2))
    await counted(boss, 3)
    new = tmp_path / "new"
    new.write_bytes(row("s-1", "m3", 4) + row("s-1", "m4", 8) + row("s-1", "m5", 16))
    new.rename(session.transcript)
    boss.sources.events.tell(session.transcript)
    await counted(boss, 31)
    session.transcript.write_bytes(row("s-1", "m6", 32))
    boss.sources.events.tell(session.transcript)
    await counted(boss, 63)
    data = session.transcript.read_bytes()
    session.transcript.write_bytes(data.replace(b"m6", b"m7"))
    boss.sources.events.tell(session.transcript)
    await counted(boss, 95)
    session.transcript.rename(session.transcript.with_suffix(".jsonl.1"))
    session.write(row("s-1", "m8", 64))
    await counted(boss, 159)


async def test_a_row_without_a_date_counts_when_its_file_was_written(boss, tmp_path):
    """It is not lost, and not dated ahead."""
    undated = json.loads(row("s-1", "m1", 5))
    del undated["timestamp"]
    Unheard(boss, tmp_path).write(json.dumps(undated).encode() + b"\n")
    await counted(boss, 5)


async def test_files_that_come_together_share_a_commit(boss, tmp_path, monkeypatch):
    """A commit costs a sync: hundreds of new files take a few, each of a bounded size, and every row counts once."""
    good, sizes = boss.ledger.transcripts.record, []

    async def seen(shares, now_ms):
        sizes.append(len(shares))
        return await good(shares, now_ms)

    monkeypatch.setattr(boss.ledger.transcripts, "record", seen)
    monkeypatch.setattr(sources, "SHARES_A_COMMIT", 64)
    made = tmp_path / "made"
    made.mkdir()
    for number in range(200):
        (made / f"s-{number}.jsonl").write_bytes(row(f"s-{number}", f"m{number}", 1))
    projects = tmp_path / ".claude/projects"
    projects.mkdir(parents=True)
    made.rename(projects / "-srv-project")
    boss.sources.events.tell(projects / "-srv-project")
    await counted(boss, 200)
    assert (sum(sizes), max(sizes), len(sizes)) == (200, 64, 4)


async def test_subagents_and_threads_count_too(boss, tmp_path):
    """Rows in a session's own folder, new since the last look."""
    session = Unheard(boss, tmp_path)
    session.spend("m1", 1)
    await counted(boss, 1)
    beside = session.transcript.with_suffix("") / "subagents" / "agent-1.jsonl"
    beside.parent.mkdir(parents=True)
    beside.write_bytes(row("s-1", "m2", 2))
    boss.sources.events.tell(session.transcript.with_suffix(""))
    await counted(boss, 3)

    async def listened_to() -> bool:
        return str(beside.parent) in boss.sources.events.folders

    await until(listened_to)


# ── whose it is ──────────────────────────────────────────────────────────────────────────────────────────


async def test_a_home_that_several_tiers_share_moves_no_tier(tmp_path):
    """It is the account's where they share one, and nobody's else; no budget is used up by it."""
    one, two = ({**API, "name": f"api-{key}", "env": {"ANTHROPIC_API_KEY": f"sk-012345678{key}"}} for key in "12")
    cases = (
        (service(MAX, {**MAX, "name": "small", "model": "haiku"}, usage_threshold_tokens=5), 7),
        (service(one, two, usage_threshold_tokens=5), 0),
    )
    for number, (config, account) in enumerate(cases):
        home = tmp_path / str(number)
        home.mkdir()
        async with watching(home, config) as boss:
            Unheard(boss, home).spend("m1", 7)
            await counted(boss, 7, "unattributed")
            tiers = [f"tier:{name}" for name in boss.ledger.plan.tiers]
            assert [await used(boss, scope) for scope in (*tiers, "chain:default")] == [0, 0, 0]
            assert await used(boss, "account:claude-code") == account
            assert holds(boss) == []


async def test_the_login_that_lies_in_a_home_is_what_people_use_there(tmp_path):
    """A tier that brings an API key of its own shares the home, but not who pays: budgets of the other one count."""
    async with watching(tmp_path, service(MAX, API, usage_threshold_tokens=5)) as boss:
        Unheard(boss, tmp_path).spend("m1", 7)
        await counted(boss, 7, "tier:max")
        assert holds(boss) != []


async def test_the_hooks_of_a_session_know_whose_login_it_uses(tmp_path):
    """The same is true of whoever hears of a session first, and of the only tier there is."""
    for number, tiers in enumerate(((MAX, API), (API,))):
        home = tmp_path / str(number)
        home.mkdir()
        async with watching(home, service(*tiers)) as boss:
            session = Unheard(boss, home)
            session.transcript.touch()
            await session.prompt()
            session.spend("m1", 7)
            await counted(boss, 7, f"tier:{tiers[0]['name']}")


async def test_a_session_whose_hooks_name_a_tier_is_that_tiers(tmp_path):
    """Where tiers share a home, what its hooks have said decides, whoever reads the row first."""
    async with watching(tmp_path, service(MAX, {**MAX, "name": "small"})) as boss:
        session = Unheard(boss, tmp_path, query="tier=small")
        session.transcript.touch()
        await session.prompt()
        session.spend("m1", 7)
        await counted(boss, 7, "tier:small")


async def test_a_home_that_no_tier_has_can_be_named(tmp_path):
    """It counts for the account that a tier with it would have; one that is a tier's too stays that tier's."""
    more = [{"agent": "claude-code", "home": "other"}, {"agent": "claude-code", "home": ".claude"}]
    async with watching(tmp_path, service(MAX, usage_sources=more)) as boss:
        other = tmp_path / "other/projects/-srv/s-9.jsonl"
        other.parent.mkdir(parents=True)
        other.write_bytes(row("s-9", "m1", 5))
        boss.sources.events.tell(tmp_path / "other")
        await counted(boss, 5, f"account:claude-code@{tmp_path}/other")
        Unheard(boss, tmp_path).spend("m2", 3)
        await counted(boss, 3, "tier:max")
        assert await used(boss, "unattributed") == 5


async def test_it_can_be_switched_off_and_on_again(tmp_path):
    """By an edit of service.json: what was written meanwhile is found when it is on again."""
    async with watching(tmp_path, service(MAX)) as boss:
        session = Unheard(boss, tmp_path)
        session.spend("m1", 1)
        await counted(boss, 1)
        save(tmp_path, service(MAX, usage_sources=False))
        await boss.reload()

        async def off() -> bool:
            return not boss.sources.watched

        await until(off)
        session.spend("m2", 2)
        assert await used(boss) == 1
        save(tmp_path, service(MAX))
        await boss.reload()
        await counted(boss, 3)


async def test_a_turn_is_reported_with_its_tokens_whoever_has_read_them(boss, tmp_path):
    """The transcript's reader comes first, and the hook's report still says what the turn has used; no turn twice."""
    session = Unheard(boss, tmp_path)
    for turn, tokens in enumerate((7, 5), 1):
        await session.prompt()
        session.spend(f"m{turn}", tokens)
        await counted(boss, 7 if turn == 1 else 12)
        await session.tell("Stop")
    told = [report.tokens.total for _, report in await boss.ledger.reports() if report.tokens]
    assert told == [7, 5]


# ── over restarts ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_new_daemon_goes_on_where_the_last_one_was(tmp_path, monkeypatch):
    """What was written meanwhile counts; what was read is not read again."""
    async with watching(tmp_path) as boss:
        session = Unheard(boss, tmp_path)
        session.write(row("s-1", "m1", 1) + b'{"type":"user"}\n')
        await counted(boss, 1)
    Session.write(session, row("s-1", "m2", 2))
    Session.write(Unheard(boss, tmp_path, "s-2"), row("s-2", "m3", 4))
    seen: list[int] = []
    read = Stretch.read
    monkeypatch.setattr(Stretch, "read", lambda self: (seen.append(self.known.position), read(self))[1])
    async with watching(tmp_path) as boss:
        await counted(boss, 7)
        assert set(seen) == {0, session.transcript.stat().st_size - len(row("s-1", "m2", 2))}
        homes = {each.home.agent.name: each for each in boss.sources.watched}
        assert homes["claude-code"].tree.files == 2


async def test_what_is_read_while_the_ledger_knows_more_does_not_count_twice(boss, tmp_path):
    """An import may have read the same files: told to begin anew, nothing of them is counted again."""
    session = Unheard(boss, tmp_path)
    session.write(row("s-1", "m1", 1) + row("s-1", "m2", 2, ago_s=3600))
    await counted(boss, 1)
    folder = str(tmp_path / ".claude/projects")
    await boss.ledger.transcripts.reach_back("claude-code", folder, 0)
    boss.sources.refresh()

    async def begun_anew() -> bool:
        return any(each.since_ms == 0 for each in boss.sources.watched)

    await until(begun_anew)
    session.spend("m3", 4)
    await counted(boss, 5)
