"""What may be sent to the daemon, and how much of it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    WrapValidator,
)
from starlette.requests import ClientDisconnect, Request

from locum.agents.lines import parse
from locum.config.expect import expect
from locum.config.values import DURATION_PATTERN, duration_ms
from locum.errors import UsageError
from locum.policy.failure import HAPPENING, FailureKind
from locum.policy.usage import LARGEST, Tokens
from locum.web.problem import TooLargeError, misread
from locum.words import size

LARGEST_TASK = 64 << 20
"""Bytes of a task with its prompt."""

LARGEST_HOOK = 32 << 20
"""Bytes of what an agent gives its hooks: the text of a file it writes may be among them."""

LARGEST_ORDER = 64 << 10
"""Bytes of every other body."""

_Name = Annotated[
    str, Field(min_length=1, max_length=64), expect("a name of 1 to 64 characters", "write it in double quotes")
]
_Bool = Annotated[bool, Field(strict=True), expect("true or false", "write it without quotes")]


def _text(longest: int) -> WrapValidator:
    return expect(f"text of at most {longest} characters", "say it shorter")


_Label = Annotated[str, Field(min_length=1, max_length=200), expect("text of 1 to 200 characters", "say it shorter")]
_Count = Annotated[
    int,
    Field(strict=True, ge=0, le=LARGEST),
    expect(f"a whole number from 0 to {LARGEST:,}", "write it in plain digits"),
]


class Body(BaseModel):
    """A JSON object without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class NewTask(Body):
    """A task to run. `cwd` is absolute; `no_wait` fails it rather than wait while every tier is held."""

    prompt: Annotated[str, Field(min_length=1), expect("text that is not empty", "say what to do")]
    cwd: Annotated[
        str, Field(pattern=r"^/", max_length=4096), expect("an absolute path", "begin it with `/`, in 4096 characters")
    ]
    chain: _Name | None = None
    title: Annotated[str, Field(max_length=200), _text(200)] = ""
    no_wait: _Bool = False
    shared_cwd: _Bool = False


_Lasts = Annotated[
    int,
    BeforeValidator(duration_ms),
    expect("a length of time", "write a number with s, m, h or d, such as 90s, 10m or 1h30m"),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN, "examples": ["2h"]}),
]
"""A length of time: text in the body, milliseconds here."""


class BumpOrder(Body):
    """Take a chain off a tier (None: the active one), for a length of time such as `2h` (None: until released)."""

    tier: _Name | None = None
    for_ms: _Lasts | None = Field(default=None, alias="for")
    reason: Annotated[str, Field(max_length=500), _text(500)] = ""


class ReplayOrder(Body):
    """Send a notice again, through one channel or all; without a notice, whatever the channel was not told."""

    id: _Name | None = None
    channel: _Name | None = None


class TrialOrder(Body):
    """Try one channel, or all."""

    channel: _Name | None = None


class NewToken(Body):
    """A token for the network: what it may do, and for how long (None: until it is revoked)."""

    name: Annotated[
        str,
        Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64),
        expect("a name", "write 1 to 64 letters, digits, dots, dashes or underscores, the first a letter or digit"),
    ]
    scope: Annotated[Literal["read", "operate"], expect("a scope", choices=("read", "operate"))] = "read"
    lasts_ms: _Lasts | None = Field(default=None, alias="lasts")


class ReleaseOrder(Body):
    """Lift the holds of a tier (None: of every tier), of one kind or of all."""

    tier: _Name | None = None
    kind: Annotated[FailureKind, expect("a failure kind", choices=list(FailureKind))] | None = None


def _written(moment: object) -> object:
    if not isinstance(moment, str):
        raise ValueError("a number has no time zone")  # noqa: TRY004 - pydantic hears of values, not of types
    return moment


_Moment = Annotated[
    AwareDatetime,
    BeforeValidator(_written),
    expect("a moment with its time zone", "write it as 2026-01-31T05:00:00Z"),
]


class ImportOrder(Body):
    """Count the history of an agent (None: of all tiers' agents) in its folder `home` (None: in the tiers' homes),
    as far as it is dated from `since` on (None: all of it).
    """

    agent: _Name | None = None
    home: (
        Annotated[
            str,
            Field(pattern=r"^/", max_length=4096),
            expect("an absolute path", "begin it with `/`, in 4096 characters"),
        ]
        | None
    ) = None
    since: _Moment | None = None


class TokenCounts(Body):
    """Tokens by type; the types are disjoint (what was read from a cache is no input, reasoning is output)."""

    input: _Count = 0
    output: _Count = 0
    cache_read: _Count = 0
    cache_write: _Count = 0

    @property
    def tokens(self) -> Tokens:
        """The same as policy counts them."""
        return Tokens(self.input, self.output, self.cache_read, self.cache_write)


def _happens(kind: FailureKind) -> FailureKind:
    if kind not in HAPPENING:
        raise ValueError("nobody but locum decides that")
    return kind


class FailureTold(Body):
    """Why a piece of work has failed, in locum's own kinds, and when the vendor says that it is over."""

    kind: Annotated[FailureKind, AfterValidator(_happens), expect("a failure kind", choices=HAPPENING)]
    message: Annotated[str, Field(max_length=2000), _text(2000)] = ""
    reset_at: _Moment | None = None


class WorkDone(Body):
    """A piece of work that somebody else's runner has ended. Tokens left out are not known: they are not zero."""

    id: Annotated[
        str,
        Field(min_length=1, max_length=200),
        expect("text of 1 to 200 characters", "give the work an id of its own"),
    ]
    chain: _Name | None = None
    tier: _Name | None = None
    tokens: TokenCounts | None = None
    model: _Label | None = None
    provider: _Label | None = None
    session: _Label | None = None
    cost_usd: (
        Annotated[
            Decimal,
            Field(ge=0, le=1_000_000, allow_inf_nan=False),
            expect("an amount of US dollars from 0 to 1,000,000", "write it as a number such as 0.42"),
        ]
        | None
    ) = None
    failure: FailureTold | None = None


B = TypeVar("B", bound=Body)


async def read(request: Request, shape: type[B], largest: int = LARGEST_ORDER) -> B:
    """The body as `shape`; no body is an empty object. Raises TooLargeError or UsageError."""
    data = await _bytes(request, largest)
    try:
        return shape.model_validate_json(data or b"{}")
    except ValidationError as error:
        raise misread(error, tuple(field.alias or name for name, field in shape.model_fields.items())) from None


async def read_object(request: Request) -> Mapping[str, Any]:
    """The body as a JSON object, whatever its keys. Raises TooLargeError or UsageError."""
    found = parse(await _bytes(request, LARGEST_HOOK))
    if found is None:
        raise UsageError("the body is not a JSON object", remedy="Send what the agent gave the hook, as it is.")
    return found


async def _bytes(request: Request, largest: int) -> bytes:
    data = bytearray()
    try:
        async for chunk in request.stream():
            data += chunk
            if len(data) > largest:
                raise TooLargeError(f"more than {size(largest)} were sent", remedy=f"Send {size(largest)} at most.")
    except ClientDisconnect:
        raise UsageError("the caller hung up in the middle of what it sent") from None
    return bytes(data)
