"""GET /events as a stream: nothing is missed over a break, and who does not read costs nothing."""

from __future__ import annotations

import json

import anyio
import pytest

from locum.errors import UsageError
from locum.web import feed, stream
from locum.web.app import build
from locum.web.feed import Place, place_of
from tests.unit.web.asgi import Caller, supervised

pytestmark = pytest.mark.anyio


class Listener(Caller):
    """Somebody who listens to the stream, and can hang up."""

    def __init__(self, app, query="", last=None):
        super().__init__(app)
        self.query = query
        self.given = {"accept": "text/event-stream"} | ({"last-event-id": last} if last else {})
        self.text = ""
        self.status = None
        self.gone = anyio.Event()

    def take(self, message):
        """Keep what is sent."""
        self.status = self.status or message.get("status")
        self.text += message.get("body", b"").decode()

    async def listen(self):
        """Until somebody sets `gone`."""
        await self.stream("GET", "/events", self.take, query=self.query, gone=self.gone, headers=self.given)

    def told(self, kind):
        """What came of one kind, as (id, data)."""
        found = []
        for block in self.text.split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            if fields.get("event") == kind:
                found.append((fields.get("id"), json.loads(fields["data"])))
        return found

    async def until(self, true):
        """Wait until something is true."""
        with anyio.fail_after(5):
            while not true():  # noqa: ASYNC110 - what is looked at rings no bell
                await anyio.sleep(0.005)


async def heard(app, boss, *listeners, acts=()):
    """Let them listen while the feed runs and `acts` are done one after the other."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(app.state.feed.run)
        for each in listeners:
            tasks.start_soon(each.listen)
            await each.until(lambda each=each: each.told("ready"))
        for act in acts:
            await act()
        for each in listeners:
            each.gone.set()
        boss.stop()


async def test_what_happens_is_told_as_it_happens(tmp_path):
    """A bump reaches who listens, as the event and as the notice, with a hint that the state has changed."""
    async with supervised(tmp_path) as boss:
        app = build(boss)
        call, one, side = Caller(app), Listener(app), Listener(app, "chain=side")

        async def bump():
            await call.post("/chains/default/bump", {"tier": "one"})
            await one.until(lambda: one.told("notice") and one.told("changed"))

        await heard(app, boss, one, side, acts=[bump])
        logged = (await call.get("/events"))[1]["events"]
        assert [data for _, data in one.told("event")] == logged
        assert [data["kind"] for _, data in one.told("notice")] == ["tier_bumped"]
        assert side.told("event") == [], "only of its own chain"
        assert app.state.feed.listeners == 0


@pytest.mark.parametrize("page", [2, 200])
async def test_a_break_loses_nothing_and_doubles_nothing(tmp_path, monkeypatch, page):
    """Wherever the stream breaks, what came before it and what comes after Last-Event-ID are the whole log, once."""
    monkeypatch.setattr(feed, "PAGE", page)
    monkeypatch.setattr(feed, "GAP_S", 0.001)
    monkeypatch.setattr(feed, "REMEMBERED", 4)
    async with supervised(tmp_path) as boss:
        app = build(boss)
        call = Caller(app)
        for _ in range(5):
            await call.post("/chains/default/bump", {"tier": "one"})
            await call.post("/chains/default/release")
        whole = Listener(app, "after=0")
        await heard(app, boss, whole, acts=[lambda: whole.until(lambda: len(whole.told("notice")) == 10)])
        ids = [each for kind in ("event", "notice") for each, _ in whole.told(kind)]
        for last in ids:
            seen = whole.text.split(f"id: {last}\n")[0].count("\nevent: ") - 1  # of these the first is `ready`
            boss.stopping = anyio.Event()
            rest = Listener(app, last=last)
            want = 20 - seen - 1
            await heard(
                app,
                boss,
                rest,
                acts=[lambda rest=rest, want=want: rest.until(lambda: _count(rest) >= want)],
            )
            assert _count(rest) == want, last


async def test_what_cannot_be_told_costs_nobody_else_anything(tmp_path, monkeypatch):
    """A bug of ours in telling of one thing is logged and passed over: the daemon and the stream go on."""
    real = feed._event

    def strange(seq, event):
        if seq == broken:
            raise ValueError("no such key")
        return real(seq, event)

    async with supervised(tmp_path) as boss:
        app = build(boss)
        call, one = Caller(app), Listener(app)
        broken = (await boss.ledger.ends())[0] + 1
        monkeypatch.setattr(feed, "_event", strange)

        async def pause():
            await call.post("/chains/default/pause", {})
            await one.until(lambda: one.told("changed"))

        async def resume():
            await call.post("/chains/default/resume", {})
            await one.until(lambda: one.told("event"))

        await heard(app, boss, one, acts=(pause, resume))
        assert [data["kind"] for _, data in one.told("event")] == ["resumed"]


def _count(listener):
    return len(listener.told("event")) + len(listener.told("notice"))


async def test_a_place_of_another_ledger_is_no_place_to_wait_at(tmp_path):
    """Who comes with an id of the future (an older copy was put back) is told what happens from now on."""
    async with supervised(tmp_path) as boss:
        app = build(boss)
        late = Listener(app, last="999-999")

        async def bump():
            await Caller(app).post("/chains/default/bump")
            await late.until(lambda: late.told("event"))

        await heard(app, boss, late, acts=[bump])
        assert late.told("event")[0][1]["seq"] == 1


@pytest.mark.parametrize("last", ["x", "1", "-1", "1-", "1-2-3", "1-٣", "9" * 30 + "-1", "1-2 "])
async def test_an_id_that_is_none_is_refused(tmp_path, last):
    """A made-up Last-Event-ID is a 400, not a crash and not a stream from anywhere."""
    with pytest.raises(UsageError):
        place_of(last)
    async with supervised(tmp_path) as boss:
        listener = Listener(build(boss), last=last)
        await listener.listen()
        assert listener.status == 400


def test_a_place_is_read_as_it_was_written():
    """What is told as an id is the place that it was made of."""
    assert place_of(str(Place(12, 3))) == Place(12, 3)


async def test_a_quiet_stream_shows_that_it_lives(tmp_path, monkeypatch):
    """Where nothing happens something is sent all the same, so that both sides notice a broken line."""
    monkeypatch.setattr(feed, "HEARTBEAT_S", 0.01)
    async with supervised(tmp_path) as boss:
        app = build(boss)
        one = Listener(app)
        await heard(app, boss, one, acts=[lambda: one.until(lambda: one.text.count(": still here\n\n") > 2)])


async def test_one_too_many_is_told_so(tmp_path, monkeypatch):
    """Beyond the limit there is a refusal with a code, and room again when somebody leaves."""
    monkeypatch.setattr(feed, "MOST_LISTENERS", 1)
    async with supervised(tmp_path) as boss:
        app = build(boss)
        one, two = Listener(app), Listener(app)
        await heard(app, boss, one, acts=[two.listen])
        assert two.status == 429
        assert json.loads(two.text)["code"] == "crowded"
        boss.stopping = anyio.Event()
        await heard(app, boss, three := Listener(app))
        assert three.status == 200


async def test_who_reads_nothing_is_hung_up_on(tmp_path, monkeypatch):
    """A reader that takes nothing for a while loses its connection, and holds nothing any more."""
    monkeypatch.setattr(stream, "PATIENCE_S", 0.05)
    async with supervised(tmp_path) as boss:
        app = build(boss)
        hung_up = anyio.Event()

        class Deaf(Listener):
            """Takes the head, and then nothing."""

            async def listen(self):
                await self.stream(
                    "GET", "/events", self.take, gone=hung_up, headers=self.given, hang_up=hung_up.set, deaf=True
                )

        with anyio.fail_after(5):
            await Deaf(app).listen()
        assert hung_up.is_set()
        assert app.state.feed.listeners == 0
