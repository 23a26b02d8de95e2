"""TLS of webhooks: the certificate must be the host's, whatever address the connection goes to."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path

import pytest

from locum.notify import http
from locum.notify.http import NotSentError, SystemNet, post
from locum.policy.address import Allowed, url_of
from tests.sink import Sink, answers

pytestmark = pytest.mark.anyio

PEM = Path(__file__).with_name("hooks.example.pem")
"""A key and a certificate for hooks.example, for nothing but this test."""


class TlsSink(Sink):
    """A sink that speaks TLS with that certificate."""

    def _take(self, connection):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(PEM)
        try:
            super()._take(context.wrap_socket(connection, server_side=True))
        except OSError:
            connection.close()  # whoever asked did not like the certificate


class Here(SystemNet):
    """The host's network, where every name leads to loopback."""

    async def resolve(self, host, port):
        """Loopback, whatever is asked for."""
        return ["127.0.0.1"]


async def posted(host):
    """The status that comes back from that host, and how many requests came in."""
    there = TlsSink(answers(204))
    try:
        url = url_of(f"https://{host}:{there.port}/x")
        reply = await post(Here(), url, {}, b"{}", Allowed.of([host]), 5)
        return reply.status, [each.headers["host"] for each in there.posts]
    finally:
        there.close()
        for each in threading.enumerate():
            if each.name.startswith("Thread-") and each.daemon:
                each.join(2)


@pytest.fixture
def trusted(monkeypatch):
    """A host that trusts the certificate."""
    monkeypatch.setattr(http, "_trust", lambda: ssl.create_default_context(cafile=str(PEM)))


@pytest.mark.usefixtures("trusted")
async def test_the_certificate_is_that_of_the_host():
    """A connection to a checked address asks for the name of the URL, and is served."""
    status, [host] = await posted("hooks.example")
    assert status == 204
    assert host.startswith("hooks.example:")


@pytest.mark.usefixtures("trusted")
async def test_the_certificate_of_another_host_is_refused():
    """Who answers at the address and is not the host gets no notice."""
    with pytest.raises(NotSentError, match=r"(?i)certificate|hostname"):
        await posted("other.example")


async def test_a_certificate_that_the_host_does_not_trust_is_refused():
    """A right name on a certificate that nobody vouches for is not enough."""
    with pytest.raises(NotSentError, match=r"(?i)certificate"):
        await posted("hooks.example")
