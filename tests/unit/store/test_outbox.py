"""The outbox: which notices go through a channel, in which order, how often, and when it gives up."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from locum.errors import ConflictError, NotFoundError
from locum.policy.delivery import (
    FOLD_AFTER,
    FOLD_MS,
    HOLDS_LINE,
    PATIENCE_MS,
    WAITS_MS,
    DeliveryState,
    Outcome,
    Wanted,
    next_try_ms,
)
from locum.policy.failure import DAY, HOUR, MINUTE, SECOND
from locum.policy.notice import Notice, NoticeKind, Severity
from locum.store import notices
from locum.store.outbox import AHEAD, Claim
from tests.ledgers import START, opened, plan_of

pytestmark = pytest.mark.anyio

FINE = Outcome(told=True, why="ok", status=200)
FAILS = Outcome(told=False, why="500 no", status=500)
GONE = Outcome(told=False, why="410 Gone", status=410, gone=True)


def plan(**channels):
    """A plan with these channels, by default one called `ops`."""
    return plan_of(channels=channels or {"ops": "g1"})


class Line:
    """One channel's line on a clock of its own; `say` tells something, `go` makes the next attempt."""

    def __init__(self, ledger, name="ops", **wanted):
        self.ledger, self.rows = ledger, ledger.outbox
        self.wanted = Wanted(name, **wanted)
        self.now_ms = START
        self.claim = None

    async def say(self, *names, kind=NoticeKind.CHAIN_EXHAUSTED, **more):
        """Write notices in one commit, by default each about a chain of its own; their rows."""

        def script(tx):
            made = (
                Notice(kind, more.get("severity", Severity.WARNING), self.now_ms, more.get("chain", name), name, name)
                for name in names
            )
            return [notices.add(tx, replace(each, data=more.get("data", {}))) for each in made]

        return await self.ledger._database.write(script)

    async def begin(self):
        """Claim what is next: the title of its notice; else when to ask again."""
        found = await self.rows.next(self.wanted, self.now_ms)
        self.claim = found if isinstance(found, Claim) else None
        return found.notice.title if self.claim else found

    async def go(self, outcome=FINE):
        """Make the next attempt, if there is one: the title of its notice; else when to ask again."""
        found = await self.begin()
        if self.claim:
            await self.rows.end(self.claim, outcome, Wanted("nobody"), self.now_ms, 0.0)
        return found

    async def drain(self, outcome=FINE):
        """The titles of all that can be sent now."""
        sent = []
        while isinstance(found := await self.go(outcome), str):
            sent.append(found)
        return sent

    async def until_due(self):
        """Let the time pass until something is to be tried."""
        due_ms = await self.begin()
        assert isinstance(due_ms, int), due_ms
        self.now_ms = due_ms

    async def states(self, name):
        """Where a notice stands, by channel."""
        found = await self.rows.alerts(before=None, limit=1000)
        [deliveries] = [each for _, notice, each in found if notice.title == name]
        return {each.channel: each.state for each in deliveries}

    async def told(self, kind):
        """The notices of a kind."""
        return [each for _, each in await self.ledger.notices(limit=10_000) if each.kind is kind]

    async def view(self):
        """How the channel stands."""
        [found] = [each for each in await self.rows.channels() if each.name == self.wanted.channel]
        return found


@pytest.fixture
async def line(tmp_path):
    """A line of a new ledger."""
    ledger = await opened(tmp_path, plan())
    yield Line(ledger)
    await ledger.close()


async def test_each_notice_is_sent_once_in_order(line):
    """What is told goes through the channel in the order in which it was told, once each."""
    await line.say("a", "b")
    await line.say("c")
    assert await line.drain() == ["a", "b", "c"]
    assert await line.go() is None
    assert await line.states("b") == {"ops": DeliveryState.SENT}


async def test_a_new_channel_hears_of_what_is_told_from_now_on(line):
    """Nobody who adds a channel is told the history; what is told in the commit that knows it first, is."""
    await line.say("old")
    await line.ledger.replan(plan(ops="g1", new="g1"), START)
    await line.say("fresh")
    other = Line(line.ledger, "new")
    assert await other.drain() == ["fresh"]
    assert await line.drain() == ["old", "fresh"]


async def test_a_channel_that_is_taken_out_drops_what_waits(line):
    """Without its entry nothing is sent; put back, it begins anew."""
    await line.say("a", "b")
    await line.begin()
    await line.ledger.replan(plan(other="g"), START)
    await line.rows.end(line.claim, FINE, line.wanted, START, 0.0)
    assert await line.go() is None
    assert await line.states("a") == {"ops": DeliveryState.DROPPED}
    await line.ledger.replan(plan(), START)
    await line.say("c")
    assert await line.drain() == ["c"]


@pytest.mark.parametrize(
    ("wanted", "sent"),
    [
        ({}, ["task", "bump", "config", "grave"]),
        ({"kinds": [NoticeKind.TIER_BUMPED]}, ["bump"]),
        ({"kinds": [NoticeKind.TASK_FINISHED]}, ["end"]),
        ({"kinds": []}, []),
        ({"chains": ["x"]}, ["bump", "config"]),
        ({"least": Severity.WARNING}, ["bump", "config", "grave"]),
        ({"least": Severity.CRITICAL}, ["grave"]),
    ],
)
async def test_a_channel_takes_what_it_asks_for(line, wanted, sent):
    """Kinds, chains and severity choose; what concerns no chain concerns all of them."""
    await line.say("task", severity=Severity.INFO)
    await line.say("bump", kind=NoticeKind.TIER_BUMPED, chain="x")
    await line.say("config", kind=NoticeKind.CONFIG_REJECTED, chain=None)
    await line.say("end", kind=NoticeKind.TASK_FINISHED, severity=Severity.INFO)
    await line.say("grave", severity=Severity.CRITICAL)
    line.wanted = Wanted("ops", **wanted)
    assert await line.drain() == sent


async def test_a_message_is_tried_again_until_it_is_given_up(line):
    """0, 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h; then it is given up, and that is told."""
    await line.say("a")
    tries = []
    while await line.states("a") != {"ops": DeliveryState.GIVEN_UP}:
        assert await line.go(FAILS) == "a"
        tries.append(line.now_ms)
        if await line.states("a") == {"ops": DeliveryState.WAITING}:
            await line.until_due()
    assert [after - before for before, after in pairwise(tries)] == list(WAITS_MS)
    assert WAITS_MS[:4] == (5 * SECOND, 5 * MINUTE, 30 * MINUTE, 2 * HOUR)
    assert tries[-1] - tries[0] >= 3 * DAY
    [notice] = await line.told(NoticeKind.DELIVERY_FAILED)
    assert notice.severity is Severity.CRITICAL
    assert notice.data["channel"] == "ops"
    assert "500 no" in notice.message
    assert (await line.view()).given_up == 1
    assert await line.drain() == [], "it is not told through the channel that does not work"


def test_jitter_is_a_tenth_at_most_and_retry_after_is_clamped():
    """Who asks for a wait gets it, a day at most; no wait is shorter than it would be."""
    assert next_try_ms(1, 0, 0, None, 0.999) < 5.5 * SECOND
    assert next_try_ms(1, 0, 0, 60 * SECOND, 0.0) == 60 * SECOND
    assert next_try_ms(2, 0, 0, 1, 0.0) == 5 * MINUTE
    assert next_try_ms(1, 0, 0, 10**15, 0.0) == DAY
    assert next_try_ms(99, 0, PATIENCE_MS - 1, None, 0.0) == PATIENCE_MS - 1 + WAITS_MS[-1]
    assert next_try_ms(1, 0, PATIENCE_MS, None, 0.0) is None


async def test_giving_up_a_notice_about_a_channel_causes_no_other(line):
    """Two channels that do not work tell of each other once, and not of that for ever."""
    await line.ledger.replan(plan(ops="g1", two="g1"), START)
    other = Line(line.ledger, "two")
    await line.say("a")
    for _ in range(40):
        for each in (line, other):
            each.now_ms = line.now_ms
            await each.drain(FAILS)
        line.now_ms += 12 * HOUR
    told = await line.told(NoticeKind.DELIVERY_FAILED)
    assert Counter(each.data["channel"] for each in told) == {"ops": 1, "two": 1}
    assert {(await each.view()).waiting for each in (line, other)} == {0}


async def test_what_fails_keeps_the_order_for_a_while_and_then_steps_aside(line):
    """What comes behind waits for two retries, five minutes; then it goes first."""
    await line.say("bad", "b", "c")
    for _ in range(HOLDS_LINE - 1):
        assert await line.go(FAILS) == "bad"
        assert isinstance(await line.go(), int), "those behind it wait"
        await line.until_due()
    assert line.now_ms == START + 5 * SECOND + 5 * MINUTE
    assert await line.go(FAILS) == "bad"
    assert await line.go() == "b"
    assert await line.go() == "bad", "the failures seemed to be the channel's: it is tried once more"
    assert await line.drain() == ["c"]


async def test_a_bad_message_is_not_tried_each_time_another_gets_through(line):
    """Once it is known that the channel works without it, it keeps its own times."""
    await line.say("bad", *"bcdef")
    sent = []
    for _ in range(30):
        found = await line.begin()
        if line.claim is None:
            break
        outcome = FAILS if found == "bad" else FINE
        await line.rows.end(line.claim, outcome, Wanted("nobody"), line.now_ms, 0.0)
        sent.append(found)
        if len(sent) < HOLDS_LINE:
            line.now_ms += 5 * MINUTE
    assert sent == ["bad", "bad", "bad", "b", "bad", "c", "d", "e", "f"]


async def test_after_an_outage_all_is_sent_in_order(line):
    """What has stepped aside while nothing got through is due at once when something does, oldest first."""
    names = [f"n{number}" for number in range(12)]
    await line.say(*names)
    for _ in range(60):
        await line.drain(FAILS)
        line.now_ms += 2 * MINUTE
    stepped = (await line.view()).failures
    assert stepped > 10
    await line.until_due()
    sent = await line.drain()
    assert sorted(sent) == sorted(names)
    assert sent[1:] == sorted(sent[1:], key=names.index)


async def test_who_asks_for_quiet_gets_it(line):
    """Retry-After keeps the whole channel quiet, not only the message."""
    await line.say("a", "b")
    await line.go(replace(FAILS, status=429, after_ms=HOUR))
    assert await line.go() == START + HOUR
    line.now_ms += HOUR
    assert await line.drain() == ["a", "b"]


async def test_quiet_lasts_as_long_as_was_asked_for_and_no_longer(line):
    """A message that is next tried in hours does not keep the others waiting so long, whatever it was answered."""
    await line.say("bad", "b")
    for _ in range(HOLDS_LINE):
        await line.go(replace(FAILS, status=429, after_ms=SECOND))
        line.now_ms += 6 * MINUTE
    assert await line.drain() == ["b", "bad"]


async def test_what_is_gone_is_left_alone_until_its_entry_changes(line):
    """After 410 nothing is sent, over restarts too; what waits goes to the new address."""
    await line.say("a", "b")
    assert await line.go(GONE) == "a"
    assert await line.go() is None
    assert (await line.view()).disabled == "410 Gone"
    assert [each.data["channel"] for each in await line.told(NoticeKind.CHANNEL_DISABLED)] == ["ops"]
    await line.ledger.replan(plan(), START)
    assert await line.go() is None
    with pytest.raises(ConflictError, match="disabled"):
        await line.rows.replay(None, "ops", START)
    await line.ledger.replan(plan(ops="g2"), START)
    assert await line.drain() == ["a", "b"]


async def test_a_storm_becomes_one_message(line):
    """The first five of a kind and chain go one by one; the others of that minute are one, with a count."""
    await line.say(*(f"x{number}" for number in range(20)), chain="x")
    await line.say("y", chain="y")
    assert await line.drain() == ["x0", "x1", "x2", "x3", "x4", "y"]
    line.now_ms += FOLD_MS - 1
    await line.say("x20", chain="x")
    assert await line.drain() == []
    line.now_ms += 1
    assert await line.begin() == "x5"
    assert (line.claim.count, line.claim.titles[0], len(line.claim.titles)) == (16, "x6", 10)
    await line.rows.end(line.claim, FINE, Wanted("nobody"), line.now_ms, 0.0)
    [folded] = [each for _, notice, each in await line.rows.alerts(before=None, limit=99) if notice.title == "x20"]
    assert folded[0].state is DeliveryState.FOLDED
    assert folded[0].fold == line.claim.notice.id
    await line.say("x21", chain="x")
    line.now_ms += FOLD_MS
    await line.say("x22", chain="x")
    assert (await line.drain())[-1:] == ["x22"]


async def test_a_storm_that_waited_is_folded_by_its_own_minutes(line):
    """What was told while nothing could be sent is folded as it would have been then."""
    for _ in range(3):
        await line.say(*"abcdefgh", chain="x")
        line.now_ms += 2 * FOLD_MS
    sent = []
    while isinstance(await line.begin(), str):
        sent.append((line.claim.notice.title, line.claim.count))
        await line.rows.end(line.claim, FINE, Wanted("nobody"), line.now_ms, 0.0)
    assert sent == [("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1), ("f", 3)] * 3


async def test_a_clock_that_is_set_back_keeps_nothing_waiting(line):
    """What gathers until a moment that has moved far away is sent all the same, within a minute."""
    line.now_ms += 30 * DAY
    await line.say(*"abcdefgh", chain="x")
    assert len(await line.drain()) == FOLD_AFTER
    line.now_ms = START
    assert await line.drain() == ["f"]


async def test_an_attempt_whose_end_nobody_saw_is_made_again(line, tmp_path):
    """A daemon that dies between claim and mark sends the same message again, under the same name."""
    await line.say("a", "b")
    await line.begin()
    first = line.claim
    await line.ledger.close()
    ledger = await opened(tmp_path, plan())
    again = Line(ledger)
    await again.begin()
    assert (again.claim.notice.id, again.claim.attempt) == (first.notice.id, 2)
    await again.rows.end(again.claim, FINE, Wanted("nobody"), START, 0.0)
    assert await again.drain() == ["b"]
    await ledger.close()
    line.ledger = await opened(tmp_path, plan())
    assert await Line(line.ledger).drain() == []


async def test_replay_sends_again_what_is_asked_for(line):
    """One notice under its old name, or whatever was given up; what was never taken is taken now."""
    line.wanted = Wanted("ops", kinds=[NoticeKind.CHAIN_EXHAUSTED])
    [first] = await line.say("a")
    [unwanted] = await line.say("bump", kind=NoticeKind.TIER_BUMPED)
    assert await line.drain() == ["a"]
    for row, title in ((first, "a"), (unwanted, "bump")):
        assert await line.rows.replay(row, "ops", START) == [("ops", 1)]
        assert await line.drain() == [title]
    await line.say("lost")
    while await line.states("lost") != {"ops": DeliveryState.GIVEN_UP}:
        await line.drain(FAILS)
        line.now_ms += DAY
    assert await line.drain() == []
    assert await line.rows.replay(None, "ops", line.now_ms) == [("ops", 1)]
    assert await line.drain() == ["lost"]
    [late] = await line.say("late")
    assert await line.rows.replay(late, None, line.now_ms) == [("ops", 1)]
    assert await line.drain() == ["late"], "what waits anyhow is not sent twice"


async def test_replay_knows_what_there_is(line):
    """A channel that is not there is told with those that are."""
    with pytest.raises(NotFoundError, match="The channels are: ops"):
        await line.rows.replay(None, "nope", START)
    with pytest.raises(NotFoundError):
        await line.rows.alert("msg_nope")


async def test_what_waits_takes_no_more_room_than_it_has(line):
    """However many notices wait, a few messages are laid out; how many there are is told."""
    for start in range(0, 5000, 1000):
        await line.say(*(f"n{number}" for number in range(start, start + 1000)))
    await line.begin()
    laid_out = await line.ledger._database.read(lambda sql: sql.one("laid_out", channel="ops"))
    assert laid_out == (AHEAD,)
    view = await line.view()
    assert (view.waiting, view.oldest_ms) == (5000, START)


async def test_alerts_are_found(line):
    """The newest first, by pages, by kind, by chain, and those that did not get through."""
    await line.say("a", "b")
    await line.say("bump", kind=NoticeKind.TIER_BUMPED, chain="x")
    await line.go(FAILS)

    async def titles(**asked):
        found = await line.rows.alerts(**({"before": None, "limit": 10} | asked))
        return [notice.title for _, notice, _ in found]

    assert await titles() == ["bump", "b", "a"]
    [(last, _, _)] = await line.rows.alerts(before=None, limit=1)
    assert await titles(before=last) == ["b", "a"]
    assert await titles(kind="tier_bumped") == await titles(chain="x") == ["bump"]
    assert await titles(failed=True) == ["a"]


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.sampled_from("xyz"), st.integers(1, 8)),
        st.tuples(st.just("send"), st.sampled_from(["fine", "fine", "fails", "dies"]), st.integers(1, 6)),
        st.tuples(st.just("pass"), st.sampled_from([SECOND, 10 * SECOND, MINUTE, HOUR]), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=15, deadline=None)
@given(acts=ACTS)
async def test_nothing_is_lost_and_nothing_is_told_twice(tmp_path_factory, acts):
    """Whatever is told, fails, is killed or waits: in the end each notice was told once, alone or in a message of many."""
    ledger = await opened(tmp_path_factory.mktemp("outbox"), plan())
    line, said, tried, told = Line(ledger), [], [], Counter()

    async def attempt(how):
        found = await line.begin()
        if line.claim is None:
            return False
        tried.append((found, line.claim.attempt))
        if how != "dies":
            outcome = FINE if how == "fine" else FAILS
            await line.rows.end(line.claim, outcome, Wanted("nobody"), line.now_ms, 0.0)
            told[found] += how == "fine"
        return True

    for act, what, count in acts:
        if act == "say":
            names = [f"{what}{len(said) + number}" for number in range(count)]
            said += names
            await line.say(*names, chain=what)
        elif act == "pass":
            line.now_ms += what
        else:
            for _ in range(count):
                await attempt(what)
    for _ in range(200):
        if not await attempt("fine"):
            line.now_ms += 5 * MINUTE
    states = {name: await line.states(name) for name in said}
    alone = {name for name, state in states.items() if state == {"ops": DeliveryState.SENT}}
    folded = {name for name, state in states.items() if state == {"ops": DeliveryState.FOLDED}}
    assert alone | folded == set(said)
    assert told == dict.fromkeys(alone, 1)
    firsts = [name for name, number in tried if number == 1 and not any(each.startswith(name[0]) for each in folded)]
    assert firsts == sorted(firsts, key=said.index), "nothing is tried before what was told earlier"
    await ledger.close()
