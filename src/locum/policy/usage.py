"""Tokens: counted by type, weighed exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

TOKEN_TYPES = ("input", "output", "cache_read", "cache_write")

LARGEST = 10**12
"""A count above this (or below zero) is no agent's usage: it is not counted, and the run's usage is not known."""


class Tokens(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Token counts by type; the types are disjoint (`input` excludes what was cached, reasoning is output)."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0

    @property
    def total(self) -> int:
        """Every type counted once."""
        return self.input + self.output + self.cache_read + self.cache_write

    def __iter__(self) -> Iterator[int]:
        return iter((self.input, self.output, self.cache_read, self.cache_write))

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            self.input + other.input,
            self.output + other.output,
            self.cache_read + other.cache_read,
            self.cache_write + other.cache_write,
        )

    def __sub__(self, other: Tokens) -> Tokens:
        return Tokens(
            self.input - other.input,
            self.output - other.output,
            self.cache_read - other.cache_read,
            self.cache_write - other.cache_write,
        )

    def __bool__(self) -> bool:
        return bool(self.input or self.output or self.cache_read or self.cache_write)

    def largest(self, other: Tokens) -> Tokens:
        """The larger count of each type: how two observations of one message are merged."""
        return Tokens(
            max(self.input, other.input),
            max(self.output, other.output),
            max(self.cache_read, other.cache_read),
            max(self.cache_write, other.cache_write),
        )


NO_TOKENS = Tokens()


def believable(tokens: Tokens) -> bool:
    """Whether these can be what an agent has spent: no count is below zero or above `LARGEST`."""
    return all(0 <= count <= LARGEST for count in tokens)


@dataclass(frozen=True, slots=True)
class Weights:
    """How much one token of each type counts against a budget, in thousandths (1000 = once, 0 = not at all)."""

    input: int = 1000
    output: int = 1000
    cache_read: int = 1000
    cache_write: int = 1000

    def thousandths(self, tokens: Tokens) -> int:
        """The weighted sum in thousandths of a token: integers, so that a budget is exact."""
        return (
            self.input * tokens.input
            + self.output * tokens.output
            + self.cache_read * tokens.cache_read
            + self.cache_write * tokens.cache_write
        )

    def whole(self, tokens: Tokens) -> int:
        """The weighted sum in whole tokens, rounded down: what is shown beside a limit."""
        return self.thousandths(tokens) // 1000

    def reached(self, tokens: Tokens, limit: int) -> bool:
        """Whether `tokens` use up `limit` whole tokens (`used >= limit`)."""
        return self.thousandths(tokens) >= limit * 1000


EACH_TYPE_ONCE = Weights()


class Usage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One observation of what an agent spent.

    `key` names what was counted and is unique within the agent: seen again, the larger count of each type
    wins and only the difference is recorded. A cumulative counter is therefore simply one key that grows.
    `at_ms` is the agent's own timestamp (epoch milliseconds), None when it gave none.
    """

    key: str
    tokens: Tokens
    model: str | None = None
    session: str | None = None
    at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Payer:
    """Whose usage something is.

    `run` and `task` are None for what agents have spent that people run themselves. `chain` and `tier` are None
    together, where it is not known whose it is; `account` may be known even then. `since_ms` (epoch milliseconds) is
    the earliest moment at which it can have been spent.
    """

    agent: str
    chain: str | None = None
    tier: str | None = None
    account: str | None = None
    model: str | None = None
    session: str | None = None
    run: str | None = None
    task: str | None = None
    since_ms: int = 0

    def __post_init__(self) -> None:
        """Hold what the docstring says."""
        assert (self.run is None) == (self.task is None), "a run is one of a task"
        assert (self.chain is None) == (self.tier is None), "a tier is one of a chain"
        assert self.tier is None or self.account is not None, "a tier has an account"
