"""What may be sent to the daemon, and how much of it."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WrapValidator
from starlette.requests import Request

from locum.config.expect import expect
from locum.config.values import duration_ms
from locum.policy.failure import FailureKind
from locum.web.problem import TooLargeError, misread
from locum.words import size

LARGEST_TASK = 64 << 20
"""Bytes of a task with its prompt."""

LARGEST_ORDER = 64 << 10
"""Bytes of every other body."""

_Name = Annotated[
    str, Field(min_length=1, max_length=64), expect("a name of 1 to 64 characters", "write it in double quotes")
]
_Bool = Annotated[bool, expect("true or false", "write it without quotes")]


def _text(longest: int) -> WrapValidator:
    return expect(f"text of at most {longest} characters", "say it shorter")


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


class BumpOrder(Body):
    """Take a chain off a tier (None: the active one), for a length of time such as `2h` (None: until released)."""

    tier: _Name | None = None
    for_ms: (
        Annotated[
            int,
            BeforeValidator(duration_ms),
            expect("a length of time", "write a number with s, m, h or d, such as 90s, 10m or 1h30m"),
        ]
        | None
    ) = Field(default=None, alias="for")
    reason: Annotated[str, Field(max_length=500), _text(500)] = ""


class ReleaseOrder(Body):
    """Lift the holds of a tier (None: of every tier), of one kind or of all."""

    tier: _Name | None = None
    kind: Annotated[FailureKind, expect("a failure kind", choices=list(FailureKind))] | None = None


B = TypeVar("B", bound=Body)


async def read(request: Request, shape: type[B], largest: int = LARGEST_ORDER) -> B:
    """The body as `shape`; no body is an empty object. Raises TooLargeError or UsageError."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > largest:
            raise TooLargeError(f"more than {size(largest)} were sent", remedy=f"Send {size(largest)} at most.")
    try:
        return shape.model_validate_json(bytes(data) or b"{}")
    except ValidationError as error:
        raise misread(error, tuple(field.alias or name for name, field in shape.model_fields.items())) from None
