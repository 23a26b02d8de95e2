"""Field types that say in plain words what they expect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError


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
