"""Lines of channels in a running service: what arrives, what becomes of what does not, and that it is in nobody's way."""

from __future__ import annotations

import json
import subprocess

import anyio
import pytest

from locum.engine.channels import APPRISE
from locum.errors import NotFoundError
from locum.notify.by_apprise import MISSING, URL_VARIABLE
from locum.policy.delivery import DeliveryState
from locum.policy.failure import MINUTE
from tests.sink import answers, sink
from tests.unit.engine.rig import Flaky, fails, make, running, service_of

pytestmark = pytest.mark.anyio

FAKE_APPRISE = """
import sys
class Apprise:
    def add(self, url):
        self.url = url
        return url.startswith("x://")
    def notify(self, body, title, notify_type):
        if self.url.endswith("fails"):
            return False
        print(title, body, notify_type, file=sys.stderr)
        return True
"""
"""As much of apprise as is used of it, for a host that has it."""
COMMAND = {"name": "own", "type": "command", "command": ["tell", "me"], "time_limit": "20s"}


async def states(rig):
    """Where each notice stands in each channel, the oldest first."""
    found = await rig.ledger.outbox.alerts(before=None, limit=100)
    return [(str(notice.kind), {each.channel: str(each.state) for each in ends}) for _, notice, ends in found[::-1]]


async def sent(rig, *kinds, channel="ops"):
    """Wait until exactly these kinds were sent through a channel."""

    async def there():
        return [kind for kind, ends in await states(rig) if ends.get(channel) == DeliveryState.SENT] == list(kinds)

    await rig.until_async(there)


async def test_a_bump_and_its_return_arrive(tmp_path):
    """Both directions are told, with why, what is active now and when it is expected back."""
    with sink() as there:
        rig = await make(tmp_path, service_of("a", "b", notify=[there.channel()]))
        async with running(rig):
            await rig.boss.bump("default", "a", rig.clock.now_ms() + MINUTE, "by hand")
            await sent(rig, "tier_bumped")
            rig.leap(61)
            await sent(rig, "tier_bumped", "tier_returned")
        bumped, returned = (post.json for post in there.posts)
    assert (bumped["tier"], bumped["active_tier"], bumped["reason"]) == ("a", "b", "by hand")
    assert "until" in bumped["message"]
    assert (returned["event"], returned["active_tier"]) == ("tier_returned", "a")


async def test_a_channel_that_fails_is_in_nobodys_way(tmp_path):
    """While one sink hangs and another refuses, tasks run and the third channel hears of everything."""
    stuck = anyio.Event()
    with sink(lambda to, _: to.recv(1)) as hangs, sink(answers(500)) as refuses, sink() as works:
        each = {"hangs": hangs, "refuses": refuses, "works": works}
        channels = [to.channel(name, kinds=["task_failed"]) for name, to in each.items()]
        rig = await make(tmp_path, service_of("a", notify=channels), fails("invalid_request"))
        async with running(rig):
            for _ in range(3):
                await rig.ended(await rig.submit())
            await sent(rig, "task_failed", "task_failed", "task_failed", channel="works")
            stuck.set()
            found = {each.name: each for each in await rig.ledger.outbox.channels()}
    assert stuck.is_set()
    assert (found["refuses"].failures, found["refuses"].waiting) == (1, 3)
    assert found["hangs"].waiting == 3
    assert len(set(works.ids)) == 3


async def test_a_failed_message_is_tried_again_when_its_time_has_come(tmp_path):
    """After five seconds, under the same name; what came behind it follows in order."""
    with sink(answers(500, b"no")) as there:
        rig = await make(tmp_path, service_of("a", "b", notify=[there.channel()]))
        async with running(rig):
            await rig.boss.bump("default", "a", None, "x")
            await rig.until(lambda: len(there.posts) == 1)
            await rig.boss.bump("default", "b", None, "y")
            there.answer = answers(200)
            rig.leap(6)
            await sent(rig, "tier_bumped", "tier_bumped", "chain_exhausted")
    assert there.ids[0] == there.ids[1]
    assert [post.json["tier"] for post in there.posts[:3]] == ["a", "a", "b"]


async def test_a_disk_in_trouble_loses_nothing(tmp_path):
    """What was sent and could not be recorded is recorded later; it is not sent twice for that."""
    with sink() as there:
        rig = await make(tmp_path, service_of("a", "b", notify=[there.channel()]))
        flaky = Flaky(rig.ledger.outbox, "end")
        async with running(rig):
            await rig.boss.bump("default", "a", None, "x")
            await rig.until(lambda: flaky.failed > 0)
            flaky.broken = False
            await sent(rig, "tier_bumped")
    assert len(there.posts) == 1


async def test_a_channel_comes_and_goes_with_service_json(tmp_path):
    """One that is added hears of what comes then; one that is taken out hears nothing more."""
    with sink() as there:
        rig = await make(tmp_path, service_of("a", "b"))
        async with running(rig):
            await rig.boss.bump("default", "a", None, "before")
            rig.configure(service_of("a", "b", notify=[there.channel()]))
            await rig.boss.reload()
            await rig.boss.release("default", None, None)
            await sent(rig, "tier_returned")
            rig.configure(service_of("a", "b"))
            await rig.boss.reload()
            await rig.boss.bump("default", "a", None, "after")
            assert await rig.ledger.outbox.channels() == []
    assert [post.json["event"] for post in there.posts] == ["tier_returned"]


async def test_a_command_reads_the_notice(tmp_path):
    """It gets the JSON on its standard input and finds this daemon; exit code 0 means told."""
    rig = await make(tmp_path, service_of("a", "b", notify=[COMMAND]))
    async with running(rig):
        await rig.boss.bump("default", "a", None, "x")
        await rig.until(lambda: rig.processes.begun)
        child = rig.processes.begun[0]
        assert child.told()["event"] == "tier_bumped"
        assert child.command.argv == ("tell", "me")
        assert child.command.env["LOCUM_CONFIG"] == str(rig.config)
        child.end(0, b"thanks\n")
        await sent(rig, "tier_bumped", channel="own")
        [(_, notice, [end])] = await rig.ledger.outbox.alerts(before=None, limit=9)
    assert (end.status, end.answer) == (0, "thanks")
    assert rig.processes.cleared == ["notify:own"], "what a daemon that is gone had begun is ended first"
    assert child.command.env["LOCUM_NOTICE"] == notice.id


async def test_a_command_that_fails_or_hangs_is_tried_again(tmp_path):
    """Its exit code, its last line and its time limit are what is told of it."""
    short = {**COMMAND, "time_limit": "1s"}
    rig = await make(tmp_path, service_of("a", "b", notify=[short]))
    async with running(rig):
        await rig.boss.bump("default", "a", None, "x")
        await rig.until(lambda: rig.processes.begun)
        rig.processes.begun[0].end(3, b"one\nno way\n")

        async def answered(text):
            [(_, _, ends)] = await rig.ledger.outbox.alerts(before=None, limit=9)
            return ends and text in ends[0].answer

        await rig.until_async(lambda: answered("no way"))
        rig.leap(6)
        await rig.until_async(lambda: answered("took longer than 1 s"))
        assert rig.processes.begun[1].stops == [2.0]
        rig.processes.refusing = FileNotFoundError(2, "No such file or directory", "tell")
        rig.leap(360)
        await rig.until_async(lambda: answered("cannot be started"))


async def test_a_stop_in_the_middle_leaves_the_message_to_the_next_daemon(tmp_path):
    """A command that is under way is stopped, and its message is not counted as tried in vain."""
    rig = await make(tmp_path, service_of("a", "b", notify=[COMMAND]))
    async with running(rig):
        await rig.boss.bump("default", "a", None, "x")
        await rig.until(lambda: rig.processes.begun)
        rig.boss.stop()
        await rig.until(lambda: rig.processes.begun[0].stops)
        [(_, _, [end])] = await rig.ledger.outbox.alerts(before=None, limit=9)
        assert (end.state, end.attempts) == (DeliveryState.SENDING, 1)


async def test_a_secret_that_cannot_be_read_is_told_without_it(tmp_path):
    """The reason stands with the message, and a secret that the answer repeats is masked."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    with sink(answers(400, secret.encode())) as there:
        rig = await make(tmp_path, service_of("a", "b", notify=[there.channel(secret={"file": "hook.secret"})]))
        async with running(rig):
            [tried] = await rig.boss.outbox.test("ops")
            assert tried["refused"]
            assert "hook.secret" in tried["answer"]
            (tmp_path / "hook.secret").write_text(secret)
            (tmp_path / "hook.secret").chmod(0o600)
            [tried] = await rig.boss.outbox.test("ops")
    assert (tried["status"], tried["delivered"], tried["answer"]) == (400, False, "•••")


async def test_a_trial_goes_past_the_line_and_changes_nothing(tmp_path):
    """A sample is sent through every channel at once, whatever waits there; it is no notice."""
    with sink(answers(200, b"hello")) as there, sink(answers(302, location="http://169.254.169.254/")) as other:
        lost = {"name": "lost", "type": "webhook", "url": "http://no-such-host.invalid/"}
        rig = await make(tmp_path, service_of("a", notify=[there.channel(), other.channel("elsewhere"), lost]))
        tried = {each["channel"]: each for each in await rig.boss.outbox.test(None)}
        assert await rig.ledger.outbox.alerts(before=None, limit=9) == []
        with pytest.raises(NotFoundError, match="ops, elsewhere, lost"):
            await rig.boss.outbox.test("nope")
        [post] = there.posts
    assert (tried["ops"]["delivered"], tried["ops"]["status"], tried["ops"]["answer"]) == (True, 200, "hello")
    assert (post.json["event"], post.json["sample"], post.id) == ("test", 1, tried["ops"]["id"])
    assert (tried["elsewhere"]["delivered"], tried["elsewhere"]["status"]) == (False, 302)
    assert "cannot be resolved" in tried["lost"]["answer"]
    await rig.ledger.close()


async def test_apprise_is_asked_for_by_the_name_of_its_extra(tmp_path, monkeypatch):
    """Where it is not installed the message says what to install; where it is, its URL is in no file and no argv."""
    (tmp_path / "url").write_text("json://127.0.0.1:1/secret-path")
    (tmp_path / "url").chmod(0o600)
    rig = await make(tmp_path, service_of("a", notify=[{"name": "far", "type": "apprise", "url": {"file": "url"}}]))
    monkeypatch.setattr("locum.engine.channels.is_there", lambda: False)
    [tried] = await rig.boss.outbox.test("far")
    assert tried["refused"]
    assert "locum[apprise]" in tried["answer"]
    monkeypatch.setattr("locum.engine.channels.is_there", lambda: True)
    async with anyio.create_task_group() as group:
        group.start_soon(rig.boss.outbox.test, "far")
        await rig.until(lambda: rig.processes.begun)
        child = rig.processes.begun[0]
        assert "secret-path" not in json.dumps([*child.command.argv, child.told()])
        assert child.command.env["LOCUM_APPRISE_URL"].endswith("secret-path")
        child.end(0)
    await rig.ledger.close()


def test_the_helper_of_apprise_says_what_is_missing(tmp_path):
    """Without the extra it ends with the sentence that names it, and no traceback."""
    (tmp_path / "apprise.py").write_text(FAKE_APPRISE)
    message = json.dumps({"title": "t", "message": "m", "severity": "critical"})
    for path, url, code, told in (
        ("", "x://y", 1, MISSING),
        (str(tmp_path), "bad", 1, "apprise does not know what this URL means"),
        (str(tmp_path), "x://fails", 1, "apprise could not send it"),
        (str(tmp_path), "x://y", 0, "t m failure"),
    ):
        env = {"PYTHONPATH": path, URL_VARIABLE: url}
        done = subprocess.run(APPRISE, input=message, env=env, capture_output=True, text=True, timeout=30, check=False)
        assert (done.returncode, done.stderr.strip()) == (code, told)
