"""`notify`: the channels through which people hear of notices."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, StringConstraints, Tag

from locum.config.expect import Entry, expect, unit, wrong
from locum.config.reference import CredentialRef, EnvRef, FileRef, Name, Secret, Text, own_command
from locum.config.reset import DurationMs
from locum.policy.address import AddressError, Allowed, url_of
from locum.policy.failure import MINUTE
from locum.policy.notice import NoticeKind, Severity

TYPES = ("webhook", "apprise", "command")
FORMATS = ("standard", "slack", "discord")
KINDS = tuple(kind.value for kind in NoticeKind if kind is not NoticeKind.TEST)
MOST_CHANNELS = 20
_OWN_HEADERS = re.compile(r"host|content-.*|webhook-.*|connection|transfer-encoding|user-agent|expect|te|upgrade")
_REFERENCE = 'write {"credential": "name"}, {"file": "path"} or {"env": "NAME"}'


def _referred(value: Any) -> Any:
    if not isinstance(value, (dict, Entry)):
        raise wrong("a reference to a secret", _REFERENCE)
    return value


def _reference_shape(value: Any) -> str:
    if isinstance(value, Entry):
        return type(value).__name__
    return "CredentialRef" if "credential" in value else "EnvRef" if "env" in value else "FileRef"


Reference = Annotated[
    Annotated[CredentialRef, Tag("CredentialRef")]
    | Annotated[FileRef, Tag("FileRef")]
    | Annotated[EnvRef, Tag("EnvRef")],
    Discriminator(_reference_shape),
    BeforeValidator(_referred),
]


def _url(value: Any) -> Any:
    if isinstance(value, str):
        try:
            url_of(value)
        except AddressError as error:
            raise wrong(
                f"a URL that can be sent to (this one {error})", "write one such as https://host/path"
            ) from None
    return value


def _private(entry: str) -> str:
    try:
        Allowed.of([entry])
    except AddressError as error:
        what = f"a host, an address or a network (this one {error})"
        raise wrong(what, "write one such as hooks.lan, 10.1.0.7 or 10.1.0.0/16") from None
    return entry


def _header(name: str) -> str:
    if _OWN_HEADERS.fullmatch(name.lower()):
        raise wrong("the name of a header that is yours to give", "leave it out: locum writes that header itself")
    return name


HeaderName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$"),
    AfterValidator(_header),
    expect("the name of a header", "write letters, digits and dashes"),
]


class Channel(Entry):
    """What every channel has: a name, and which notices go through it."""

    name: Annotated[Name, Field(description="What the channel is called everywhere; unique in the list.")]
    kinds: Annotated[
        tuple[Annotated[NoticeKind, expect("a kind of notice", choices=KINDS)], ...] | None,
        Field(description="Only notices of these kinds. Left out: all but the ends of tasks."),
    ] = None
    chains: Annotated[
        tuple[Name, ...] | None,
        Field(description="Only notices about these chains, and those about no chain. Left out: all."),
    ] = None
    severity: Annotated[
        Annotated[Severity, expect("a severity", choices=[each.value for each in Severity])],
        Field(description="Only notices that are at least as grave: info, warning or critical."),
    ] = Severity.INFO

    @property
    def references(self) -> tuple[CredentialRef | FileRef | EnvRef, ...]:
        """The secrets that it names."""
        return ()


class WebhookChannel(Channel):
    """An HTTP address that is told each notice, signed as Standard Webhooks has it."""

    type: Annotated[
        Annotated[Literal["webhook"], expect("a type of channel", choices=TYPES)],
        Field(description="`webhook`: an HTTP address."),
    ]
    url: Annotated[
        Annotated[Secret, AfterValidator(_url)],
        Field(description="Where to: an https address, or a reference to it where it is a secret itself."),
    ]
    secret: Annotated[
        Reference | None,
        Field(description="What each message is signed with, `whsec_` and base64. Left out: nothing is signed."),
    ] = None
    old_secret: Annotated[
        Reference | None,
        Field(description="The secret before: while both are given, each message is signed with both."),
    ] = None
    format: Annotated[
        Annotated[Literal["standard", "slack", "discord"], expect("a format", choices=FORMATS)],
        Field(description="What the body is like: `standard` (flat JSON), `slack` or `discord`."),
    ] = "standard"
    headers: Annotated[dict[HeaderName, Secret], Field(description="More headers: text, or references to secrets.")] = (
        Field(default_factory=dict)
    )
    allow_private: Annotated[
        tuple[
            Annotated[
                str,
                AfterValidator(_private),
                expect("a host, an address or a network", "write one such as hooks.lan, 10.1.0.7 or 10.1.0.0/16"),
            ],
            ...,
        ],
        Field(description="Hosts, addresses and networks that are not public and may be sent to all the same."),
    ] = ()

    @property
    def references(self) -> tuple[CredentialRef | FileRef | EnvRef, ...]:
        """The secrets that it names."""
        given = (self.url, self.secret, self.old_secret, *self.headers.values())
        return tuple(each for each in given if isinstance(each, (CredentialRef, FileRef, EnvRef)))


class AppriseChannel(Channel):
    """Anything that apprise has a URL for; needs the extra `locum[apprise]`."""

    type: Annotated[
        Annotated[Literal["apprise"], expect("a type of channel", choices=TYPES)],
        Field(description="`apprise`: anything that apprise can reach."),
    ]
    url: Annotated[Reference, Field(description="A reference to apprise's URL, which holds secrets.")]

    @property
    def references(self) -> tuple[CredentialRef | FileRef | EnvRef, ...]:
        """The secrets that it names."""
        return (self.url,)


class CommandChannel(Channel):
    """A program of your own, run for each notice."""

    type: Annotated[
        Annotated[Literal["command"], expect("a type of channel", choices=TYPES)],
        Field(description="`command`: a program of your own."),
    ]
    command: Annotated[
        tuple[Text, ...],
        own_command("It reads the notice as JSON on its standard input. Exit code 0: told."),
    ]
    time_limit_ms: DurationMs = unit("time_limit", MINUTE, "1m", "How long it may take until it is stopped.")


def _channel_shape(value: Any) -> str:
    if isinstance(value, Entry):
        return type(value).__name__
    kind = value.get("type") if isinstance(value, dict) else None
    return {"apprise": "AppriseChannel", "command": "CommandChannel"}.get(str(kind), "WebhookChannel")


NotifyChannel = Annotated[
    Annotated[WebhookChannel, Tag("WebhookChannel")]
    | Annotated[AppriseChannel, Tag("AppriseChannel")]
    | Annotated[CommandChannel, Tag("CommandChannel")],
    Discriminator(_channel_shape),
]
"""One of the list `notify`."""
