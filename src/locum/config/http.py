"""Where the daemon listens beside its socket: the key `http` of service.json."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from locum.config.expect import Entry, expect, wrong

_LISTEN = re.compile(r"(?:\[([0-9A-Fa-f:]{2,45})\]|(localhost|[0-9.]{7,15})):([0-9]{1,5})")
_URL = re.compile(r"https?://(\[[0-9A-Fa-f:]{2,45}\]|[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?)(:[0-9]{1,5})?/?")
_PUBLIC = "put something that speaks TLS in front of it and name that in `url` (https://…), or listen on 127.0.0.1"


def address_of(listen: str) -> tuple[str, int]:
    """Host and port of an address such as `127.0.0.1:8321` or `[::1]:8321`. Raises ValueError."""
    found = _LISTEN.fullmatch(listen)
    if found is None:
        raise ValueError("no address")
    host = "127.0.0.1" if found[2] == "localhost" else str(ipaddress.ip_address(found[1] or found[2]))
    if int(found[3]) > 65_535:
        raise ValueError("no port")
    return host, int(found[3])


def is_loopback(host: str) -> bool:
    """Whether only programs of this host reach it; `host` is a name or an address, in brackets or not."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _address(text: str) -> str:
    address_of(text)
    return text


def _url(text: str) -> str:
    if not _URL.fullmatch(text) or (urlsplit(text).port or 0) > 65_535:
        raise ValueError("no address")
    return text.rstrip("/")


class HttpEntry(Entry):
    """The API and the dashboard over TCP, for who has a token (`locum token`) or a login link (`locum dashboard`)."""

    listen: Annotated[
        Annotated[
            str,
            AfterValidator(_address),
            expect("an address with a port", 'write such as "127.0.0.1:8321" or "[::1]:8321"; port 0 is any free one'),
        ],
        Field(
            description="Address and port to listen on; one that others reach needs `url`.", examples=["127.0.0.1:8321"]
        ),
    ]
    url: Annotated[
        Annotated[
            str,
            AfterValidator(_url),
            expect("an address without a path", 'write such as "https://locum.example.org"'),
        ]
        | None,
        Field(description="Where browsers reach it, when something stands in front. Left out: at `listen`."),
    ] = None

    @property
    def place(self) -> str:
        """Where the dashboard is, as far as this file says: `url`, else at `listen`; "" on any free port."""
        return self.url or ("" if self.listen.endswith(":0") else f"http://{self.listen}")

    @model_validator(mode="after")
    def _is_private(self) -> HttpEntry:
        """Tokens cross no network in the clear."""
        secured = self.url is not None and self.url.startswith("https://")
        if not is_loopback(address_of(self.listen)[0]) and not secured:
            raise wrong("kept to this host, since what it sends is not encrypted", _PUBLIC)
        if self.url is not None and not secured and not is_loopback(urlsplit(self.url).hostname or ""):
            raise wrong("kept to this host, since it is not encrypted on its way", "let `url` begin with https://")
        return self
