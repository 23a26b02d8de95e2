"""TCP: who gets in, what every answer says to browsers, and how the address follows service.json."""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
from contextlib import suppress

import anyio
import anyio.lowlevel
import pytest

from locum.web import connection, network, tokens
from locum.web.gate import HEADERS
from locum.web.tokens import PREFIX
from tests.unit.web.asgi import CONFIG
from tests.unit.web.tcp import listening, parsed, rest

pytestmark = pytest.mark.anyio


async def test_a_token_is_needed_and_enough(tmp_path):
    """Without one nothing but the health is told; a reader reads, and only who may operate orders."""
    async with listening(tmp_path) as wire:
        status, headers, told = await wire.ask("GET", "/status")
        assert (status, told["code"], headers["www-authenticate"]) == (401, "unauthorized", "Bearer")
        assert (await wire.ask("GET", "/healthz"))[0] == 200
        reader, operator = await wire.token("read", "reader"), await wire.token("operate", "operator")
        assert (await wire.ask("GET", "/status", reader))[2]["http"]["url"] == f"http://127.0.0.1:{wire.port}"
        status, _, told = await wire.ask("POST", "/chains/default/pause", reader, {})
        assert (status, told["code"]) == (403, "forbidden")
        assert (await wire.ask("POST", "/chains/default/pause", operator, {}))[2]["paused"] is True


FORGED = [
    "",
    "x",
    PREFIX,
    PREFIX + "A" * 43,
    "Basic Zm9vOmJhcg==",
    "Bearer",
    "Bearer  ",
    "Bearer null",
    "Bearer \xff",
    "a b c",
]


async def test_a_forged_token_opens_nothing(tmp_path):
    """Nothing that looks like a token, nor the digest or the id of a real one, is taken for it."""
    async with listening(tmp_path) as wire:
        await wire.token()
        kept = json.loads((tmp_path / "tokens.json").read_text())["tokens"][0]
        for forged in FORGED:
            for given in (forged, f"Bearer {forged}", f"Bearer {kept['digest']}", f"Bearer {kept['id']}"):
                data = f"GET /status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: {given}\r\n\r\n"
                assert parsed(await wire.raw(data.encode("latin-1")))[0] == 401, given


async def test_a_token_is_kept_as_a_digest_and_nobody_else_can_read_it(tmp_path):
    """Neither the file nor the list holds the secret; what was revoked is worthless at once, also after a restart."""
    async with listening(tmp_path) as wire:
        secret = await wire.token()
        await wire.ask("GET", "/status", secret)
        text = (tmp_path / "tokens.json").read_text()
        assert secret not in text
        assert secret.removeprefix(PREFIX) not in text
        assert stat.S_IMODE((tmp_path / "tokens.json").stat().st_mode) == 0o600
        (listed,) = (await wire.local.get("/tokens"))[1]["tokens"]
        assert secret not in json.dumps(listed)
        assert listed["used"] is not None
        assert (await wire.local.post("/tokens", {"name": "mine"}))[0] == 409, "a name is a token's own"
        assert (await wire.local.post("/tokens/mine/revoke"))[0] == 200
        assert (await wire.ask("GET", "/status", secret))[0] == 401
        assert (await wire.local.post("/tokens/mine/revoke"))[0] == 404
        again = tokens.Tokens(tmp_path / "tokens.json", wire.boss.clock, wire.boss.worker)
        assert again.find(secret) is None


async def test_a_token_is_good_for_its_time_only(tmp_path, monkeypatch):
    """One that was made for an hour is worthless after it."""
    async with listening(tmp_path) as wire:
        made = (await wire.local.post("/tokens", {"name": "short", "lasts": "1h"}))[1]
        assert (await wire.ask("GET", "/status", made["token"]))[0] == 200
        now_ms = wire.boss.clock.now_ms()
        monkeypatch.setattr(wire.boss.clock, "now_ms", lambda: now_ms + 3_600_001)
        assert (await wire.ask("GET", "/status", made["token"]))[0] == 401
        assert (await wire.local.get("/tokens"))[1]["tokens"] == []


async def test_a_stream_ends_with_its_token(tmp_path):
    """Who listens with a token that is revoked, or whose time is over, hears nothing any more."""
    async with listening(tmp_path) as wire:
        for lasts in ("1h", "1s"):
            made = (await wire.local.post("/tokens", {"name": lasts, "lasts": lasts}))[1]
            async with await anyio.connect_tcp("127.0.0.1", wire.port) as stream:
                head = f"GET /events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {made['token']}\r\n"
                await stream.send(f"{head}accept: text/event-stream\r\n\r\n".encode())
                assert b"200 OK" in await stream.receive()
                if lasts == "1h":
                    await wire.local.post("/tokens/1h/revoke")
                with anyio.fail_after(5):
                    await rest(stream)
        assert wire.network.tokens._lives == {}


async def test_tokens_that_cannot_be_read_let_nobody_in(tmp_path):
    """A damaged file is an error with a remedy for who lists, and closed doors for who asks."""
    async with listening(tmp_path) as wire:
        secret = await wire.token()
        (tmp_path / "tokens.json").write_text("{")
        wire.network.tokens._tokens = None
        assert (await wire.ask("GET", "/status", secret))[0] == 401
        status, told = await wire.local.get("/tokens")
        assert (status, told["code"]) == (500, "state")
        assert "Move it away" in told["remedy"]


async def test_tokens_are_made_on_the_host_only(tmp_path):
    """No token makes another, and none reaches what is for hooks: a stolen one cannot outlive its revocation."""
    async with listening(tmp_path) as wire:
        secret = await wire.token()
        for path, body in (
            ("/tokens", {"name": "more"}),
            ("/logins", {}),
            ("/hooks/codex", {}),
            ("/hooks/post-task", {"id": "x"}),
            ("/import", {}),
        ):
            assert (await wire.ask("POST", path, secret, body))[2]["code"] == "forbidden", path
        assert (await wire.ask("GET", "/tokens", secret))[0] == 403


HOSTS = [
    "evil.example",
    "evil.example:8321",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "0.0.0.0",
    "10.0.0.1",
    "",
]


async def test_another_hosts_name_is_not_answered(tmp_path):
    """A page whose name was made to lead here (DNS rebinding) gets nothing, not even with a good token."""
    async with listening(tmp_path) as wire:
        secret = await wire.token()
        for host in HOSTS:
            for path in ("/status", "/healthz", "/login?code=x"):
                status, _, told = await wire.ask("GET", path, secret, host=host)
                assert (status, told["code"]) == (403, "forbidden"), path
            twice = f"GET /status HTTP/1.1\r\nhost: localhost\r\nhost: {host}\r\nauthorization: Bearer {secret}\r\n"
            assert parsed(await wire.raw(f"{twice}connection: close\r\n\r\n".encode()))[0] == 403


OWN = ["localhost", "LOCALHOST:1", "127.0.0.1:99", "[::1]:8321", "locum.example.org"]


async def test_its_own_names_are(tmp_path):
    """The host's own names with any port (a forwarded one), and the name in `http.url`."""
    async with listening(tmp_path, url="https://locum.example.org") as wire:
        secret = await wire.token()
        for host in OWN:
            assert (await wire.ask("GET", "/status", secret, host=host))[0] == 200, host


FOREIGN = [
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:1"},
    {"sec_fetch_site": "cross-site"},
    {"sec_fetch_site": "same-site"},
    {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "origin": "https://evil.example"},
]


async def test_another_sites_page_is_refused(tmp_path):
    """Whatever a browser says of a page elsewhere, its requests are refused, with a token and with a cookie."""
    async with listening(tmp_path) as wire:
        secret = await wire.token()
        for sent in FOREIGN:
            for given in ({"token": secret}, {"cookie": f"locum_session={secret}"}):
                for method in ("GET", "POST"):
                    status, headers, _ = await wire.ask(method, "/chains/default/pause", **given, **sent)
                    assert status == 403
                    assert not [name for name in headers if name.startswith("access-control")]


async def test_a_login_link_is_good_once(tmp_path):
    """It becomes a cookie that scripts cannot read and other sites cannot send, and then it is worthless."""
    async with listening(tmp_path) as wire:
        link = (await wire.local.post("/logins"))[1]["url"]
        assert link.startswith(f"http://127.0.0.1:{wire.port}/login?code=")
        path = link.removeprefix(f"http://127.0.0.1:{wire.port}")
        assert (await wire.ask("HEAD", path))[0] == 200, "what only looks ahead uses nothing up"
        status, headers, _ = await wire.ask("GET", path)
        assert (status, headers["location"]) == (303, "/")
        cookie = headers["set-cookie"]
        assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
        assert (await wire.ask("GET", path))[0] == 401
        assert (await wire.ask("GET", "/login"))[0] == 401
        session, own = cookie.split(";")[0], f"http://127.0.0.1:{wire.port}"
        assert (await wire.ask("GET", "/status", cookie=f"a=b; {session}"))[0] == 200
        pause = "/chains/default/pause"
        assert (await wire.ask("POST", pause, cookie=session))[0] == 403, "it is not known which page sent it"
        assert (await wire.ask("POST", pause, cookie=session, origin=own))[0] == 200
        assert (await wire.ask("POST", pause, cookie=session, sec_fetch_site="same-origin"))[0] == 200
        assert (await wire.ask("POST", "/logout", cookie=session, origin=own))[0] == 303
        assert (await wire.ask("GET", "/status", cookie=session))[0] == 401


async def test_a_login_link_gets_old(tmp_path, monkeypatch):
    """A link in somebody's scrollback lets nobody in."""
    async with listening(tmp_path) as wire:
        path = (await wire.local.post("/logins"))[1]["url"].partition(str(wire.port))[2]
        now_ms = wire.boss.clock.now_ms()
        monkeypatch.setattr(wire.boss.clock, "now_ms", lambda: now_ms + tokens.CODE_MS)
        assert (await wire.ask("GET", path))[0] == 401


async def test_behind_tls_the_cookie_is_for_tls_only(tmp_path):
    """With an https `url` the link leads there, and the cookie is never sent in the clear."""
    async with listening(tmp_path, url="https://locum.example.org") as wire:
        link = (await wire.local.post("/logins"))[1]["url"]
        assert link.startswith("https://locum.example.org/login?code=")
        _, headers, _ = await wire.ask("GET", link.removeprefix("https://locum.example.org"), host="locum.example.org")
        assert "Secure" in headers["set-cookie"].split("; ")


async def test_every_answer_is_strict_with_browsers(tmp_path):
    """Answers, refusals, streams and what was not found all forbid framing, sniffing and other sites' use."""
    async with listening(tmp_path) as wire:
        secret = await wire.token()
        for path, given in (("/status", secret), ("/status", None), ("/none", secret), ("/openapi.json", secret)):
            _, headers, _ = await wire.ask("GET", path, given)
            assert HEADERS.items() <= headers.items(), path
            assert "server" not in headers


async def test_who_opens_the_page_without_a_login_reads_how(tmp_path):
    """A browser without a login sees a sentence, not JSON."""
    async with listening(tmp_path) as wire:
        status, headers, text = await wire.ask("GET", "/", accept="text/html")
        assert (status, headers["content-type"]) == (401, "text/html; charset=utf-8")
        assert "locum dashboard" in text


PATHS = [
    "/../etc/passwd",
    "/..%2f..%2fetc/passwd",
    "/tasks/..%2f..%2fstatus",
    "//status",
    "/status/",
    "/%00",
    "/tasks/%2e%2e/output",
]


async def test_no_path_leads_out(tmp_path):
    """Dots, slashes and zeros, encoded or not, reach neither a file nor another endpoint."""
    async with listening(tmp_path) as wire:
        secret = await wire.token()
        for path in PATHS:
            status, _, told = await wire.ask("GET", path, secret)
            assert status in (307, 404), told


async def test_the_address_follows_service_json(tmp_path):
    """A reload opens, moves and closes the port without a restart, and what was there before is not answered."""
    async with listening(tmp_path) as wire:
        first, path = wire.port, tmp_path / "service.json"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            second = free.getsockname()[1]
        path.write_text(json.dumps(CONFIG | {"http": {"listen": f"127.0.0.1:{second}"}}))
        await wire.boss.reload()
        await until(lambda: wire.network.address == ("127.0.0.1", second))
        assert (await wire.ask("GET", "/healthz"))[0] == 200
        with pytest.raises(OSError):
            await anyio.connect_tcp("127.0.0.1", first)
        path.write_text(json.dumps(CONFIG))
        await wire.boss.reload()
        await until(lambda: wire.network.address is None)
        assert (await wire.local.get("/status"))[1]["http"] == {"listen": None, "url": None, "problem": None}
        status, told = await wire.local.post("/logins")
        assert (status, told["code"]) == (409, "conflict")
        assert "http" in told["remedy"]


async def test_an_address_that_is_taken_is_told_and_had_later(tmp_path, monkeypatch):
    """The service runs on, the status says who is in the way, and the port is taken as soon as it is free."""
    monkeypatch.setattr(network, "AGAIN_S", 0.02)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        async with listening(tmp_path, f"127.0.0.1:{port}") as wire:
            problem = (await wire.local.get("/status"))[1]["http"]["problem"]
            assert "another program listens there" in problem
            assert (await wire.local.post("/logins"))[1]["detail"] in problem
            other.close()
            await until(lambda: wire.network.address is not None)
            assert (await wire.local.get("/status"))[1]["http"]["problem"] is None


def test_a_low_port_is_told(monkeypatch):
    """Who may not listen there is told so, not an error number; whoever runs this, as root or not."""

    class Denied(socket.socket):
        def bind(self, _):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(network.socket, "socket", Denied)
    with pytest.raises(network.ListenError, match="may not listen"):
        network.bind("127.0.0.1:1")


def test_an_address_of_another_host_is_told():
    """An address that this host does not have is a typed error with a remedy."""
    with pytest.raises(network.ListenError, match="no such address"):
        network.bind("192.0.2.1:0")


async def until(true):
    """Wait until something is true, bounded."""
    with anyio.fail_after(5):
        while not true():  # noqa: ASYNC110 - what is looked at rings no bell
            await anyio.sleep(0.005)


async def test_a_request_that_does_not_come_in_time_is_ended(tmp_path, monkeypatch):
    """Silence, a head that drips, line ends without an end and a body that stops: each is closed within its bound."""
    monkeypatch.setattr(connection, "HEAD_S", 0.1)
    monkeypatch.setattr(connection, "BODY_S", 0.1)
    async with listening(tmp_path) as wire:
        secret = await wire.token()
        auth = f"host: localhost\r\nauthorization: Bearer {secret}\r\n"
        begun = {
            "silence": "",
            "a head": "GET /status HTTP/1.1\r\nhost: local",
            "a body": f"POST /tasks HTTP/1.1\r\n{auth}content-length: 10\r\n\r\n{{",
            "line ends": "\r\n",
        }
        for what, text in begun.items():
            async with await anyio.connect_tcp("127.0.0.1", wire.port) as stream:
                if text:
                    await stream.send(text.encode())
                drip = b"\r\n" if what == "line ends" else b"x" if what == "a head" else b""
                with anyio.fail_after(5):
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(dripping, stream, drip)
                        found = await rest(stream)
                        tasks.cancel_scope.cancel()
                if what == "a head":
                    assert parsed(found)[0] == 408
        assert (await wire.ask("GET", "/status", secret))[0] == 200


async def dripping(stream, drip):
    """Send a little every now and then."""
    while drip:
        await anyio.sleep(0.03)
        try:
            await stream.send(drip)
        except anyio.BrokenResourceError:
            return


HEADS = [
    "GET /status HTTP/1.1\r\nhost: localhost\r\nx: " + "a" * 40_000 + "\r\n\r\n",
    "GET /status HTTP/1.1\r\nhost: localhost\r\nx: " + "a" * 40_000,
    "GET /" + "a" * 40_000 + " HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "GET / HTTP/1.1\r\n" + "a: b\r\n" * 10_000 + "\r\n",
]


async def test_a_head_without_measure_is_refused(tmp_path):
    """A huge header, a huge path, and a great many headers are refused before they are kept."""
    async with listening(tmp_path) as wire:
        for head in HEADS:
            assert parsed(await wire.raw(head.encode()))[0] == 431


@pytest.mark.parametrize(
    "junk", [b"\x16\x03\x01\x02\x00\x01\x00\x01", b"GET\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n", b"\0" * 99]
)
async def test_what_is_no_http_is_refused(tmp_path, junk):
    """TLS, half a request and noise are a 400 in the one shape."""
    async with listening(tmp_path) as wire:
        status, _, told = parsed(await wire.raw(junk))
        assert (status, told["code"]) == (400, "http")


async def test_a_body_without_measure_is_refused(tmp_path):
    """More than an order may have is a 413, told or not told how much is to come."""
    async with listening(tmp_path) as wire:
        secret = await wire.token()
        status, _, told = await wire.ask("POST", "/chains/default/bump", secret, b" " * 70_000)
        assert (status, told["code"]) == (413, "too_large")
        chunks = b"".join(b"4000\r\n" + b" " * 0x4000 + b"\r\n" for _ in range(5))
        head = f"POST /chains/default/bump HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {secret}\r\n"
        data = f"{head}transfer-encoding: chunked\r\nconnection: close\r\n\r\n".encode() + chunks + b"0\r\n\r\n"
        assert parsed(await wire.raw(data))[0] == 413


async def test_who_takes_nothing_of_an_answer_is_hung_up_on(tmp_path, monkeypatch):
    """A client that asks for much and reads nothing holds its buffer for a while, and then its connection is gone."""
    monkeypatch.setattr(connection, "PATIENCE_S", 0.1)
    async with listening(tmp_path) as wire:
        secret = await wire.token()
        one = f"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {secret}\r\n\r\n".encode()
        async with await anyio.connect_tcp("127.0.0.1", wire.port) as stream:
            with anyio.fail_after(5), suppress(anyio.BrokenResourceError):
                while True:
                    await stream.send(one)
                    await anyio.lowlevel.checkpoint()
        assert (await wire.ask("GET", "/status", secret))[0] == 200


async def test_too_many_connections_are_closed(tmp_path, monkeypatch):
    """Beyond the limit a connection is closed as it comes, and the others are answered as before."""
    monkeypatch.setattr(connection, "MOST_CONNECTIONS", 3)
    async with listening(tmp_path) as wire:
        held = [await anyio.connect_tcp("127.0.0.1", wire.port) for _ in range(3)]
        async with await anyio.connect_tcp("127.0.0.1", wire.port) as extra:
            with anyio.fail_after(5):
                assert await rest(extra) == b""
        for each in held:
            await each.aclose()
