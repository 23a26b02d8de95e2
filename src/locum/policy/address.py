"""Where notices may be sent: which URLs are plain, and which addresses are nobody's but ours."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

LONGEST_URL = 4096
LONGEST_NAME = 253
_URL = re.compile(
    r"(?P<scheme>[A-Za-z]+)://"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]/?#@:\\]*)"
    r"(?::(?P<port>[0-9]*))?"
    r"(?P<target>[/?][\x21\x24-\x5b\x5d-\x7e\x23]*)?"
)
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_QUAD = re.compile(r"(0|[1-9][0-9]{0,2})(\.(0|[1-9][0-9]{0,2})){3}")
_PORTS = {"http": 80, "https": 443}


class AddressError(ValueError):
    """Why something is no address that notices can be sent to: the end of a sentence that begins with `it`."""


@dataclass(frozen=True, slots=True)
class Url:
    """A URL that means one thing only. `host` is a lower-case name or an address; `target` what is asked for there."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def is_address(self) -> bool:
        """Whether `host` is an address, and no name."""
        return ":" in self.host or _QUAD.fullmatch(self.host) is not None

    @property
    def authority(self) -> str:
        """Host and port as the header `host` tells them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def url_of(text: str) -> Url:
    """A URL, if every reader of it reads the same. Raises AddressError without repeating it: it may be a secret."""
    if len(text) > LONGEST_URL:
        raise AddressError(f"is longer than {LONGEST_URL} characters")
    if "#" in text:
        raise AddressError("has a fragment (`#…`), which is never sent")
    found = _URL.fullmatch(text)
    if found is None:
        raise AddressError(_unlike(text))
    scheme = found["scheme"].lower()
    if scheme not in _PORTS:
        raise AddressError("begins neither with https:// nor with http://")
    if found["port"] == "" or not 0 < int(found["port"] or _PORTS[scheme]) < 1 << 16:
        raise AddressError("names a port that there is not")
    target = found["target"] or "/"
    return Url(
        scheme,
        host_of(found["host"]),
        int(found["port"] or _PORTS[scheme]),
        target if target.startswith("/") else f"/{target}",
    )


def host_of(text: str) -> str:
    """A host in its one plain form: a name in lower case, or an address. Raises AddressError."""
    if text.startswith("["):
        try:
            return str(IPv6Address(text[1:-1]))
        except ValueError:
            raise AddressError("names an IPv6 address that is none") from None
    if not text.isascii():
        raise AddressError("names a host with letters beyond ASCII: write the form that begins with `xn--`")
    name = text.removesuffix(".").lower()
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        # What ends in a number is an address to every resolver, in forms that few people can read.
        if not _QUAD.fullmatch(text) or any(int(each) > 255 for each in labels):
            raise AddressError("names an IPv4 address in a form that hides it: write four plain numbers")
        return text
    if not name or len(name) > LONGEST_NAME or not all(_LABEL.fullmatch(each) for each in labels):
        raise AddressError("names no host")
    return name


def _unlike(text: str) -> str:
    authority = text.partition("://")[2].partition("/")[0]
    if "@" in authority:
        return "has a user name before its host: put logins into `headers`"
    return "is not written like https://HOST/PATH"


# Addresses that are not the public Internet's, and what they are.
_NOT_PUBLIC: tuple[tuple[str, str], ...] = (
    ("0.0.0.0/8", "this host"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "shared by a provider's customers"),
    ("127.0.0.0/8", "loopback"),
    ("168.63.129.16/32", "metadata of a cloud"),
    ("169.254.0.0/16", "link-local, metadata of clouds among it"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "reserved for protocols"),
    ("192.0.2.0/24", "documentation"),
    ("192.31.196.0/24", "reserved for protocols"),
    ("192.52.193.0/24", "reserved for protocols"),
    ("192.88.99.0/24", "a tunnel (6to4)"),
    ("192.168.0.0/16", "private"),
    ("192.175.48.0/24", "reserved for protocols"),
    ("198.18.0.0/15", "for tests of networks"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::/128", "this host"),
    ("::1/128", "loopback"),
    ("::ffff:0:0/96", "an IPv4 address in disguise"),
    ("::/96", "an IPv4 address in disguise"),
    ("64:ff9b::/96", "a tunnel (NAT64)"),
    ("64:ff9b:1::/48", "a tunnel (NAT64)"),
    ("2001::/32", "a tunnel (Teredo)"),
    ("2001::/23", "reserved for protocols"),
    ("2001:db8::/32", "documentation"),
    ("2002::/16", "a tunnel (6to4)"),
    ("3fff::/20", "documentation"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "private"),
    ("ff00::/8", "multicast"),
)
_TABLE = tuple((ip_network(text), what) for text, what in _NOT_PUBLIC)
_PUBLIC_V6 = IPv6Network("2000::/3")
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)
_OURS = frozenset({"private", "loopback", "shared by a provider's customers"})
"""What a host that `allow_private` names may resolve to. Metadata and the rest must be named as addresses."""


def what_of(address: Address) -> str | None:
    """What an address is, where it is not one of the public Internet; else None."""
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return "link-local"
    for network, what in _TABLE:
        if address in network:
            return what
    if isinstance(address, IPv6Address):
        if address not in _PUBLIC_V6:
            return "reserved"
        if int(address) >> 32 & 0xFFFF_FFFF in _ISATAP:
            return "a tunnel (ISATAP)"
    return None


@dataclass(frozen=True, slots=True)
class Allowed:
    """What `allow_private` names: hosts by name, and networks."""

    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, entries: Iterable[str]) -> Allowed:
        """From host names, addresses and networks such as `10.1.0.0/16`. Raises AddressError."""
        hosts, networks = set(), []
        for entry in entries:
            try:
                networks.append(ip_network(entry))
            except ValueError:
                if "/" in entry or ":" in entry:
                    raise AddressError("is no network") from None
                hosts.add(host_of(entry))
        return cls(frozenset(hosts), tuple(networks))

    def refusal(self, host: str, address: str) -> str | None:
        """Why `address`, to which `host` leads, must not be connected to; None when it may. It may be no address."""
        try:
            found = ip_address(address)
        except ValueError:
            return f"{address!r} is no address"
        what = what_of(found)
        if what is None or any(found in each for each in self.networks):
            return None
        if what in _OURS and host in self.hosts:
            return None
        named = f"{host} leads to {found}" if host != str(found) else f"{found}"
        return f"{named}, which is no public address ({what})"
