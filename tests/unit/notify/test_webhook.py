"""One message to a real HTTP server on loopback, which may be as bad as any."""

from __future__ import annotations

import json
import time
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import standardwebhooks

from locum.notify.body import LARGEST, LONGEST_CHAT, discord, slack, standard, told
from locum.notify.http import LARGEST_ANSWER, SystemNet
from locum.notify.webhook import Webhook, send, signed
from locum.policy.address import Allowed
from locum.policy.notice import Notice, NoticeKind, Severity
from tests.sink import answers, sink

pytestmark = pytest.mark.anyio

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + "b3RoZXIgc2VjcmV0IG9mIDI0IGJ5dGVzIQ=="
NOTICE = Notice(
    NoticeKind.TOKEN_THRESHOLD_CROSSED,
    Severity.WARNING,
    1_800_000_000_123,
    "default",
    "default: 90 % used",
    "Ninety <b>percent</b> & more, @everyone.",
    {"tier": "a", "threshold": 90, "total_tokens": 91, "percent": 91.0, "window": "week", "budget": "chain:default"},
    "/#chain/default",
    "msg_1",
)


def hook(sink, *secrets, **more):
    """A webhook that leads to that sink, on loopback."""
    return Webhook(sink.url, secrets, allowed=Allowed.of(["127.0.0.1"]), **more)


async def sent(answer, *secrets, seconds=5.0, **more):
    """What comes of one message to a sink that answers so, and what the sink got."""
    with sink(answer) as there:
        now_ms = time.time_ns() // 1_000_000
        outcome = await send(SystemNet(), hook(there, *secrets, **more), told(NOTICE), now_ms, seconds)
        return outcome, there.posts


def test_the_reference_vector_is_signed_as_it_is():
    """The example that Standard Webhooks gives has the signature that it gives."""
    headers = signed([SECRET], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330_999, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers["webhook-timestamp"] == "1614265330"
    assert headers["webhook-id"] == "msg_p5jXN8AQM9LWM0D4loKWxJek"


@pytest.mark.parametrize("secrets", [(SECRET,), (SECRET, OTHER), (OTHER, SECRET)])
async def test_the_verifier_of_the_library_takes_it(secrets):
    """Whoever knows one of the secrets can verify the message; whoever knows another cannot."""
    outcome, [post] = await sent(answers(204), *secrets)
    assert outcome.told
    for secret in secrets:
        assert standardwebhooks.Webhook(secret).verify(post.body, post.headers)["id"] == "msg_1"
    stranger = standardwebhooks.Webhook("whsec_" + "c3RyYW5nZXI=")
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        stranger.verify(post.body, post.headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(secrets[0]).verify(post.body + b" ", post.headers)


async def test_the_body_is_flat_and_says_everything():
    """No value is an object or a list; what the kind has of numbers stands beside id and message."""
    _, [post] = await sent(answers(204))
    assert post.json == {
        "id": "msg_1",
        "event": "token_threshold_crossed",
        "timestamp": "2027-01-15T08:00:00.123Z",
        "severity": "warning",
        "chain": "default",
        "tier": "a",
        "threshold": 90,
        "total_tokens": 91,
        "percent": 91.0,
        "window": "week",
        "budget": "chain:default",
        "title": "default: 90 % used",
        "message": "Ninety <b>percent</b> & more, @everyone.",
        "link": "/#chain/default",
        "count": 1,
    }
    assert post.headers["content-type"] == "application/json"
    assert "webhook-signature" not in post.headers


@pytest.mark.parametrize(
    ("answer", "told_", "status", "why"),
    [
        (answers(200, b"\n thanks \nmore"), True, 200, "thanks"),
        (answers(299), True, 299, ""),
        (answers(500, b"oh no"), False, 500, "oh no"),
        (answers(503), False, 503, "503 Service Unavailable"),
        (answers(799), False, 799, "status 799"),
        (answers(302, location="http://169.254.169.254/latest"), False, 302, "redirect, which is never followed"),
        (answers(307, location="/hook"), False, 307, "redirect"),
        (answers(404, b"\xff\xfe"), False, 404, "��"),
        (lambda to, _: to.sendall(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n"), True, 204, ""),
        (lambda to, _: to.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"), True, 200, "half"),
        (lambda to, _: to.sendall(b"HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\n4\r\nha"), False, 500, "ha"),
        (lambda to, _: to.sendall(b"HTTP/1.1 2"), False, None, "closed before an answer"),
        (lambda to, _: None, False, None, "closed before an answer"),
        (lambda to, _: to.sendall(b"SSH-2.0-OpenSSH\r\n"), False, None, "no HTTP"),
        (lambda to, _: to.sendall(b"HTTP/1.1 200 OK\r\nx: " + b"a" * LARGEST_ANSWER * 2), False, None, ""),
    ],
)
async def test_the_answer_is_read_as_it_is_meant(answer, told_, status, why):
    """The status decides; nothing is followed; what is no answer is a failure with its reason."""
    outcome, posts = await sent(answer)
    assert (outcome.told, outcome.status) == (told_, status)
    assert why in outcome.why
    assert len(posts) == 1


async def test_a_sink_that_never_answers_costs_its_time_and_no_more():
    """The time is for all of it: silence, and an answer that comes byte by byte, end together."""

    def drips(to, _):
        to.sendall(b"HTTP/1.1 200 OK\r\nx: ")
        for _ in range(100):
            to.sendall(b"x")
            time.sleep(0.02)

    for answer in (lambda to, _: time.sleep(2), drips):
        began = time.monotonic()
        outcome, _ = await sent(answer, seconds=0.4)
        assert time.monotonic() - began < 1.5
        assert not outcome.told
        assert "0.4 s" in outcome.why


async def test_an_answer_that_begins_well_is_not_waited_for_for_ever():
    """Once the status is known, the rest is worth a second."""

    def stalls(to, _):
        to.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nbegin")
        time.sleep(3)

    began = time.monotonic()
    outcome, _ = await sent(stalls, seconds=15)
    assert outcome.told
    assert time.monotonic() - began < 2.5


async def test_a_gigabyte_of_answer_is_not_read():
    """Little of an endless answer is taken, and memory does not grow with it."""
    given = []

    def floods(to, _):
        to.sendall(b"HTTP/1.1 500 No\r\ncontent-length: 1073741824\r\n\r\n")
        while True:
            given.append(to.send(b"x" * 65536))

    tracemalloc.start()
    try:
        outcome, _ = await sent(floods)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (outcome.status, outcome.told) == (500, False)
    assert sum(given) < 32 << 20
    assert peak < 4 << 20
    assert len(outcome.why) <= 300


@pytest.mark.parametrize(
    ("status", "asked", "after_ms"),
    [
        (429, "120", 120_000),
        (503, "0", 0),
        (429, "99999999999999999999", 10**12),
        (429, "-5", None),
        (429, "soon", None),
        (429, "١٢", None),
        (503, "Wed, 21 Oct 2015 07:28:00 GMT", None),
        (503, datetime(2099, 1, 1, tzinfo=UTC).strftime("%a, %d %b %Y %H:%M:%S GMT"), "far"),
    ],
)
async def test_who_asks_for_time_is_heard(status, asked, after_ms):
    """Retry-After as seconds or as a date; nonsense and what has passed ask for nothing."""
    answer = answers(status, b"", retry_after=asked) if asked.isascii() else answers(status)
    outcome, _ = await sent(answer)
    if after_ms == "far":
        assert outcome.after_ms > 10**9
    else:
        assert outcome.after_ms == after_ms


async def test_gone_is_gone():
    """410 is told apart from every other failure."""
    outcome, _ = await sent(answers(410, b"no such hook"))
    assert (outcome.gone, outcome.told, outcome.why) == (True, False, "no such hook")
    assert not (await sent(answers(404)))[0].gone


@pytest.mark.parametrize(
    ("webhook", "why"),
    [
        (Webhook("http://127.0.0.1:9/"), "no public address"),
        (Webhook("http://user:hidden@8.8.8.8/"), "user name"),
        (Webhook("ftp://8.8.8.8/"), "https://"),
        (Webhook("https://8.8.8.8/", ["whsec_"]), "secret"),
        (Webhook("https://8.8.8.8/", ["whsec_\x00hidden\u20ac"]), "secret"),
        (Webhook("https://8.8.8.8/", headers={"x-a": "b\r\nhost: hidden"}), "header"),
    ],
)
async def test_what_must_not_be_sent_is_refused_without_telling_secrets(webhook, why):
    """A refusal says what is wrong and shows nothing of it."""
    outcome = await send(SystemNet(), webhook, told(NOTICE), 0)
    assert outcome.refused
    assert why in outcome.why
    assert "hidden" not in outcome.why
    assert "hidden" not in repr(webhook)


async def test_nobody_there_is_a_failure_with_its_reason():
    """A port where nobody listens, and a name that there is not, are told as they are."""
    with sink() as there:
        gone = hook(there)
    outcome = await send(SystemNet(), gone, told(NOTICE), 0)
    assert "Connection refused" in outcome.why
    outcome = await send(SystemNet(), Webhook("https://no-such-host.invalid/"), told(NOTICE), 0)
    assert "cannot be resolved" in outcome.why


@pytest.mark.parametrize("letter", ["a", "ä", "🐦", '"', "\n", "\\"])
async def test_a_body_is_never_too_large_and_keeps_its_id(letter):
    """Whatever is long in a notice is cut until the body is below 20 kB; its name, kind and chain stay whole."""
    data = {"tier": letter * 30_000, "reason": letter * 50_000, "used": 5}
    large = Notice(NOTICE.kind, NOTICE.severity, 0, "default", letter * 9_000, letter * 90_000, data, "/", "msg_1")
    body = standard(told(large))
    assert 10_000 < len(body) < 20_000 == LARGEST + 1
    found = json.loads(body)
    assert (found["id"], found["event"], found["chain"], found["used"]) == ("msg_1", NOTICE.kind, "default", 5)
    assert found["message"].endswith(" […]")


def test_links_lead_to_the_dashboard_where_one_is_known():
    """Programs and chats get an address that can be opened, however long what is said before it."""
    place = "https://locum.example.org"
    message = told(replace(NOTICE, message="x" * 5_000), place=place)
    assert message["link"] == f"{place}/#chain/default"
    for text in (json.loads(slack(message))["text"], json.loads(discord(message))["content"]):
        assert text.endswith(f"\n{place}/#chain/default")
        assert len(text) == LONGEST_CHAT
    assert "#chain" not in json.loads(slack(told(NOTICE)))["text"], "a path alone cannot be opened"


def test_chats_get_a_message_that_wakes_nobody():
    """Slack's marks are written out, Discord is told to mention nobody, and both fit."""
    assert json.loads(slack(told(NOTICE))) == {
        "text": "⚠️ default: 90 % used\nNinety &lt;b&gt;percent&lt;/b&gt; &amp; more, @everyone."
    }
    found = json.loads(discord(told(NOTICE)))
    assert found["allowed_mentions"] == {"parse": []}
    long = Notice(NOTICE.kind, Severity.CRITICAL, 0, None, "t", "m" * 9000)
    assert len(json.loads(discord(told(long)))["content"]) == LONGEST_CHAT


def test_a_message_of_many_tells_how_many_and_the_first_of_them():
    """The count, the titles that are known, and how many more there are."""
    found = told(NOTICE, 13, ["second", "third"])
    assert found["count"] == 13
    assert found["title"] == "13 notices token_threshold_crossed about default within a minute"
    assert found["message"].splitlines() == ["default: 90 % used", "second", "third", "and 10 more"]
    assert found["id"] == "msg_1"
