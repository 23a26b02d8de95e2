"""Notices of a real daemon, in real sinks: they really arrive, once each, whatever happens on the way."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import anyio
import pytest
import standardwebhooks

from locum.policy.notice import Notice, NoticeKind, Severity
from locum.store import notices
from tests.harness import World, running, until, world
from tests.ledgers import START, opened, plan_of
from tests.sink import answers, sink

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
WAITING = 100_000


@pytest.fixture(scope="module")
def there():
    """A sink for all tests of this file."""
    with sink(answers(200, b"taken")) as made:
        yield made


@pytest.fixture(scope="module")
def daemon(tmp_path_factory, there):
    """A daemon that tells that sink."""
    folder = tmp_path_factory.mktemp("notices")
    (folder / "secret").write_text(SECRET)
    (folder / "secret").chmod(0o600)
    with world(folder, {"notify": [there.channel(secret={"file": "secret"})]}) as made:
        yield made


def arrived(there, chain, kind):
    """What has come in about a chain, each message once."""
    found = {post.id: post for post in list(there.posts)}
    return [post for post in found.values() if (post.json["chain"], post.json["event"]) == (chain, kind)]


def test_a_bump_and_its_return_really_arrive(daemon, there):
    """Each is told once, signed, within a second, with where the chain goes on."""
    daemon.chain("turns", {"a": [{}], "b": [{}]})
    began = time.monotonic()
    daemon.run("bump", "turns", "--reason", "tired")
    daemon.run("release", "turns")
    for kind, active in (("tier_bumped", "turns-b"), ("tier_returned", "turns-a")):
        daemon.until(lambda kind=kind: len(arrived(there, "turns", kind)) == 1, f"{kind} arrives")
        [post] = arrived(there, "turns", kind)
        assert standardwebhooks.Webhook(SECRET).verify(post.body, post.headers)["active_tier"] == active
        assert post.at - began < 5


def test_a_budget_tells_when_it_is_used_up_and_only_then(daemon, there):
    """Below its limit nothing comes; a jump over 80, 90 and 100 % really sends each; nothing more comes beyond it."""
    spend = [{"entries": 10}, {"entries": 10}, {"entries": 10}]
    daemon.chain("spends", {"a": spend, "b": spend}, usage_threshold_tokens=1, usage_halt_tokens=10**12)
    before = daemon.client.get("/usage")["chains"]["spends"]["used_tokens"]
    assert before == 0
    assert arrived(there, "spends", "token_threshold_crossed") == []
    daemon.do("spends")
    used = daemon.client.get("/usage")["chains"]["spends"]["used_tokens"]
    assert used > 0, "it was really spent"
    daemon.until(lambda: len(arrived(there, "spends", "token_threshold_crossed")) == 3, "the crossings arrive")
    told = [post.json for post in arrived(there, "spends", "token_threshold_crossed")]
    assert [each["threshold"] for each in told] == [80, 90, 100]
    assert all(0 < each["total_tokens"] <= used for each in told)
    daemon.do("spends")
    daemon.run("bump", "spends")
    daemon.until(lambda: len(arrived(there, "spends", "tier_bumped")) >= 2, "what came later has arrived")
    assert [post.json for post in arrived(there, "spends", "token_threshold_crossed")] == told


def test_the_verbs_tell_what_became_of_it(daemon, there):
    """list, show, replay and test, for people and for programs."""
    daemon.chain("shown", {"a": [{}]})
    daemon.run("bump", "shown")
    daemon.until(lambda: len(arrived(there, "shown", "chain_exhausted")) == 1, "it arrives")
    [first, *_] = [each for each in daemon.client.get("/alerts")["alerts"] if each["chain"] == "shown"]
    until(lambda: daemon.client.get(f"/alerts/{first['id']}")["deliveries"][0]["state"] == "sent", "it is marked")
    listed = daemon.run("alerts", "list").stdout
    assert first["id"] in listed
    assert "ops: sent" in listed
    assert "every tier is held" in daemon.run("alerts", "show", first["id"]).stdout
    before = len(there.posts)
    assert daemon.run("alerts", "replay", first["id"]).stdout == "ops: 1 message to be sent again\n"
    daemon.until(lambda: len(there.posts) > before, "it arrives again")
    assert there.posts[-1].id == first["id"]
    tested = daemon.run("alerts", "test", "ops")
    assert tested.returncode == 0
    assert "delivered in" in tested.stdout
    assert "answer 200: taken" in tested.stdout
    [told] = json.loads(daemon.run("alerts", "test", "--json").stdout)["tested"]
    assert told["delivered"]
    assert daemon.run("alerts", "show", "msg_none").returncode == 1


def test_a_daemon_that_is_killed_while_it_sends_sends_again(tmp_path):
    """Kill -9 with the message on its way: the next daemon sends it under the same name, then what came behind it."""
    with sink(lambda *_: time.sleep(5)) as there:
        made = World(tmp_path, {"notify": [there.channel()]})
        made.start()
        made.chain("dies", {"a": [{}]})
        made.run("bump", "dies")
        there.wait(1)
        made.kill()
        there.answer = answers(204)
        with running(made):
            there.wait(3)
    assert [post.json["event"] for post in there.posts[:3]] == ["tier_bumped", "tier_bumped", "chain_exhausted"]
    assert there.ids[0] == there.ids[1]


def resident(pid):
    """The memory of a process, in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


@pytest.mark.slow
def test_a_hundred_thousand_waiting_notices_take_no_memory(tmp_path):
    """With a sink that refuses and a ledger full of notices the daemon stays as small as it was, and answers."""
    with sink(answers(500)) as there:
        made = World(tmp_path, {"notify": [there.channel()]})
        with running(made):
            made.run("alerts", "test")
            small = resident(made.process.pid)

        async def fill():
            made.state.joinpath("locum.db").rename(tmp_path / "ledger.db")
            ledger = await opened(tmp_path, plan_of(channels={"ops": "g"}))
            about = (f"c{number}" for number in range(WAITING))
            told = [Notice(NoticeKind.TIER_BUMPED, Severity.WARNING, START, name, "t", "m" * 500) for name in about]
            await ledger._database.write(lambda tx: [notices.add(tx, each) for each in told])
            await ledger.close()
            (tmp_path / "ledger.db").rename(made.state / "locum.db")

        anyio.run(fill)
        with running(made):
            there.wait(2 + 1)
            [channel] = made.client.get("/status")["channels"]
            assert channel["waiting"] == WAITING
            assert made.run("alerts", "list").returncode == 0
            assert resident(made.process.pid) < small + 15
