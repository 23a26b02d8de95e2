"""Where a webhook may lead: every way to write an address that is not public is refused, and its public twin is not."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from anyio.abc import ByteStream

from locum.notify.http import NotSentError, RefusedError, post
from locum.policy.address import AddressError, Allowed, url_of

pytestmark = pytest.mark.anyio

PUBLIC_V6 = "2606:4700:4700::1111"
_PARTS = (Path(__file__).parent / "forms.txt").read_text(encoding="utf-8").split("\n## ")[1:]
NOT_PUBLIC, HIDDEN, URLS = (part.partition("\n")[2].split() for part in _PARTS)
URLS += [
    "", " ", "http://", "https://", "http:// 127.0.0.1/", " http://8.8.8.8/", "http://8.8.8.8/ x", "http://8.8.8.8/\n",
    "http://8.8.8.8/\r\nhost: x", "http://8.8.8.8\t/", "http://127.0.0.1\t/", "http://8.8.8.8/\0", "http://8.8.8.8\n.x/",
    "http://" + "a" * 64 + ".example/", "http://" + "a." * 130 + "example/", "http://8.8.8.8/" + "a" * 5000,
]  # fmt: skip
NAMES = {
    "localhost.localdomain": ["127.0.0.1"],
    "localhost": ["::1", "127.0.0.1"],
    "ip6-localhost": ["::1"],
    "host.docker.internal": ["172.17.0.1"],
    "metadata": ["169.254.169.254"],
    "metadata.google.internal": ["169.254.169.254"],
    "instance-data": ["169.254.169.254"],
    "kubernetes.default.svc": ["10.96.0.1"],
    "rebind.example": ["192.168.1.1"],
    "mixed.example": ["8.8.8.8", "10.0.0.1"],
    "six.example": [PUBLIC_V6, "fd00::1"],
    "mapped.example": ["::ffff:10.0.0.1"],
    "nat64.example": ["64:ff9b::a00:1"],
    "scoped.example": ["fe80::1%eth0"],
    "hooks.example": ["8.8.8.8", PUBLIC_V6],
    "xn--bcher-kva.example": ["8.8.4.4"],
    "a_b.example": ["8.8.4.4"],
}
# What leads to the public Internet, and to which address.
PUBLIC = {
    "http://8.8.8.8/": ["8.8.8.8"],
    "https://8.8.8.8:8443/x?y=1": ["8.8.8.8"],
    "http://1.1.1.1": ["1.1.1.1"],
    "http://9.255.255.255/": ["9.255.255.255"],
    "http://11.0.0.0/": ["11.0.0.0"],
    "http://100.63.255.255/": ["100.63.255.255"],
    "http://100.128.0.0/": ["100.128.0.0"],
    "http://126.255.255.255/": ["126.255.255.255"],
    "http://128.0.0.1/": ["128.0.0.1"],
    "http://168.63.129.17/": ["168.63.129.17"],
    "http://169.253.255.255/": ["169.253.255.255"],
    "http://169.255.0.0/": ["169.255.0.0"],
    "http://172.15.255.255/": ["172.15.255.255"],
    "http://172.32.0.0/": ["172.32.0.0"],
    "http://192.0.1.1/": ["192.0.1.1"],
    "http://192.167.255.255/": ["192.167.255.255"],
    "http://192.169.0.0/": ["192.169.0.0"],
    "http://198.17.255.255/": ["198.17.255.255"],
    "http://198.20.0.0/": ["198.20.0.0"],
    "http://223.255.255.255/": ["223.255.255.255"],
    f"http://[{PUBLIC_V6}]/": [PUBLIC_V6],
    "https://[2606:4700:4700:0:0:0:0:1111]:8443/": [PUBLIC_V6],
    "http://[2001:200::1]/": ["2001:200::1"],
    "http://[2a00:1450:4001::200e]/": ["2a00:1450:4001::200e"],
    "http://[3ffe::1]/": ["3ffe::1"],
    "https://hooks.example/a/b?c=d&e=[1]": ["8.8.8.8"],
    "HTTPS://HOOKS.example./": ["8.8.8.8"],
    "https://xn--bcher-kva.example/": ["8.8.4.4"],
    "https://a_b.example/": ["8.8.4.4"],
    "https://hooks.example?x=1": ["8.8.8.8"],
}


def hosts():
    """Every address as the host of a URL."""
    return [f"http://[{each}]/" if ":" in each else f"http://{each}/" for each in (*NOT_PUBLIC, *HIDDEN)]


class Net:
    """Resolves numbers as the host does, in every form it knows, and names from the table; connects nowhere."""

    def __init__(self, names=None):
        self.names = names or NAMES
        self.connected = []

    async def resolve(self, host, port):
        """The addresses of a host."""
        if host in self.names:
            return self.names[host]
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        return [str(address[0]) for *_, address in found]

    async def connect(self, address, port, tls):
        """Remember it."""
        self.connected.append((address, port, tls))
        return Canned()


class Canned(ByteStream):
    """A connection that has one answer."""

    async def send(self, item):
        """Take anything."""

    async def receive(self, max_bytes=65536):
        """The answer."""
        return b"HTTP/1.1 204 No\r\n\r\n"

    async def send_eof(self):
        """Nothing to end."""

    async def aclose(self):
        """Nothing to close."""


async def reached(url, allowed=()):
    """The addresses that were connected to, and what was refused."""
    net = Net()
    try:
        await post(net, url_of(url), {}, b"{}", Allowed.of(allowed))
    except (AddressError, RefusedError) as error:
        return net.connected, error
    return net.connected, None


@pytest.mark.parametrize("url", [*hosts(), *URLS], ids=ascii)
async def test_what_is_not_public_is_refused(url):
    """However an address that is not public is written or reached, nothing is ever connected to."""
    connected, refused = await reached(url)
    assert connected == []
    assert refused is not None


def test_the_table_is_long_enough():
    """At least 200 forms of addresses, none of them twice."""
    forms = [*hosts(), *URLS]
    assert len(forms) == len(set(forms)) >= 200


@pytest.mark.parametrize(("url", "addresses"), PUBLIC.items(), ids=PUBLIC)
async def test_what_is_public_is_connected_to(url, addresses):
    """The neighbours of what is refused are sent to, at the address that was checked."""
    connected, refused = await reached(url)
    assert refused is None
    assert [address for address, _, _ in connected] == addresses


async def test_the_name_of_the_certificate_stays_the_host():
    """The connection goes to an address, and TLS asks for the name."""
    connected, _ = await reached("https://hooks.example/x")
    assert connected == [("8.8.8.8", 443, "hooks.example")]


async def test_a_name_is_resolved_once():
    """A name that leads elsewhere when it is asked again leads nowhere else here: only checked addresses are used."""

    class Rebinding(Net):
        asked = 0

        async def resolve(self, host, port):
            self.asked += 1
            return ["8.8.8.8"] if self.asked == 1 else ["127.0.0.1"]

        async def connect(self, address, port, tls):
            if not self.connected:
                self.connected.append((address, port, tls))
                raise OSError(111, "Connection refused")
            return await super().connect(address, port, tls)

    net = Rebinding()
    with pytest.raises(NotSentError, match="refused"):
        await post(net, url_of("http://hooks.example/"), {}, b"", Allowed())
    assert (net.asked, net.connected) == (1, [("8.8.8.8", 80, None)])


@pytest.mark.parametrize(
    ("url", "allowed", "may"),
    [
        ("http://10.1.2.3/", ["10.0.0.0/8"], True),
        ("http://10.1.2.3/", ["10.1.2.3"], True),
        ("http://10.1.2.3/", ["10.1.2.4"], False),
        ("http://11.1.2.3/", ["10.0.0.0/8"], True),
        ("http://[fd00::1]/", ["fd00::/8"], True),
        ("http://[fd00::1]/", ["10.0.0.0/8"], False),
        ("http://localhost/", ["localhost"], True),
        ("http://LOCALHOST./", ["Localhost."], True),
        ("http://localhost/", ["127.0.0.1"], False),
        ("http://localhost/", ["127.0.0.0/8", "::1"], True),
        ("http://mixed.example/", ["mixed.example"], True),
        ("http://mixed.example/", ["other.example"], False),
        ("http://metadata/", ["metadata"], False),
        ("http://metadata/", ["metadata", "169.254.169.254"], True),
        ("http://scoped.example/", ["scoped.example"], False),
        ("http://nat64.example/", ["64:ff9b::/96"], True),
        ("http://[::ffff:127.0.0.1]/", ["127.0.0.1"], False),
    ],
)
async def test_what_is_named_may_be_sent_to(url, allowed, may):
    """`allow_private` opens what it names and nothing else; a name opens no metadata."""
    connected, refused = await reached(url, allowed)
    assert (bool(connected), refused is None) == (may, may)


@pytest.mark.parametrize("entry", ["10.0.0.1/8", "fd00::/200", "a b", "", "127.1", "http://x", "[::1]", "10.0.0.0/33"])
def test_what_cannot_be_allowed_is_said(entry):
    """An entry that means nothing is refused, and not taken for a host that never matches."""
    with pytest.raises(AddressError):
        Allowed.of([entry])
