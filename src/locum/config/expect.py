"""Field types that say in plain words what they expect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from locum.policy.failure import HAPPENING, FailureKind


class Entry(BaseModel):
    """An object of service.json: frozen, no unknown keys, no conversions between types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


def wrong(expected: str, remedy: str = "", choices: Sequence[str] = ()) -> PydanticCustomError:
    """The error of a value that is not `expected`; `choices` are right spellings to suggest."""
    return PydanticCustomError(
        "expected", "it must be {expected}", {"expected": expected, "remedy": remedy, "choices": tuple(choices)}
    )


def expect(expected: str, remedy: str = "", choices: Sequence[str] = ()) -> WrapValidator:
    """Whatever the type inside refuses is told as `it must be EXPECTED, REMEDY`. For scalars only."""

    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError as error:
            if error.errors(include_url=False, include_context=False)[0]["type"] == "expected":
                raise
            raise wrong(expected, remedy, choices) from None

    return WrapValidator(check)


def _happens(kind: FailureKind) -> FailureKind:
    if kind not in HAPPENING:
        raise ValueError  # told in the words of ToldKind
    return kind


ToldKind = Annotated[
    FailureKind,
    AfterValidator(_happens),
    expect("a failure kind that an agent can tell", choices=HAPPENING),
    WithJsonSchema({"type": "string", "enum": list(HAPPENING)}),
]
"""A failure kind that a rule may give to what an agent wrote."""


def unit(key: str, default: int | None, shown: str | None, description: str) -> Any:
    """A field for a length of time or a size: called `key` in the file, where its default is written as `shown`."""
    return Field(alias=key, default=default, description=description, json_schema_extra={"default": shown})
