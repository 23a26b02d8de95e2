"""What counts against a budget, and of how much of it people want to hear."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from locum.config.expect import Entry, expect, wrong
from locum.config.values import thousandths

MOST_TOKENS = 10**15

Tokens = Annotated[
    int,
    Field(ge=0, le=MOST_TOKENS),
    expect(
        f"a whole number of tokens from 0 to {MOST_TOKENS:,}",
        "write it in plain digits such as 5000000, or null for no budget",
    ),
]
Threshold = Tokens | None
Weight = Annotated[
    int,
    BeforeValidator(thousandths),
    expect("true, false or a number from 0 to 1000 with at most three decimals", "write true to count each token once"),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "number", "minimum": 0, "maximum": 1000}]}),
]
"""How much a token counts: true, false or a number in the file, thousandths here."""


def _uncounted(description: str) -> Any:
    """The field of a token type, which does not count where it is left out."""
    return Field(default=0, description=description, json_schema_extra={"default": False})


class CountTokens(Entry):
    """Which token types budgets count, and how much one token of each weighs; a type left out does not count."""

    input: Weight = _uncounted("Input tokens that were not cached.")
    output: Weight = _uncounted("Output tokens, reasoning included.")
    cache_read: Weight = _uncounted("Input tokens read from the vendor's cache.")
    cache_write: Weight = _uncounted("Input tokens written to the vendor's cache.")

    @model_validator(mode="after")
    def _counts(self) -> CountTokens:
        if not any((self.input, self.output, self.cache_read, self.cache_write)):
            raise wrong(
                "something that counts at least one token type", 'write such as {"input": true, "output": true}'
            )
        return self


_PERCENT = "a whole number of percent from 1 to 1000"
_COUNT = f"a whole number of tokens from 1 to {MOST_TOKENS:,}"
Percent = Annotated[
    int, Field(ge=1, le=1000), expect(_PERCENT, "write it in plain digits such as 80; [] tells of no percentage")
]
Amount = Annotated[
    int, Field(ge=1, le=MOST_TOKENS), expect(_COUNT, "write it in plain digits such as 1000000; [] tells of none")
]


class Alerts(Entry):
    """At how much usage people are told, each once in a window."""

    at_percent: Annotated[
        Annotated[tuple[Percent, ...], Field(max_length=50)] | None,
        Field(
            description="Percent of each limit of the chain or tier: its threshold and its halt. [] is none. "
            "Left out: 80, 90 and 100; of a tier: what its chain says."
        ),
    ] = None
    at_tokens: Annotated[
        tuple[Amount, ...],
        Field(max_length=50, description="Tokens in one window, counted as budgets count, with or without a limit."),
    ] = ()
