"""Token counts: nothing lost in sums, merges and weights."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locum.policy.usage import EACH_TYPE_ONCE, TOKEN_TYPES, Tokens, Weights

COUNTS = st.integers(0, 10**15)
TOKENS = st.builds(Tokens, COUNTS, COUNTS, COUNTS, COUNTS)
WEIGHTS = st.builds(Weights, *[st.integers(0, 100_000)] * 4)


def test_types_are_named_in_the_order_they_are_counted() -> None:
    """The names stored in a ledger row and the numbers beside them are in the same order."""
    tokens = Tokens(input=1, output=2, cache_read=3, cache_write=4)
    assert dict(zip(TOKEN_TYPES, tokens, strict=True)) == {"input": 1, "output": 2, "cache_read": 3, "cache_write": 4}
    assert tokens.total == 10


@given(TOKENS, TOKENS, TOKENS)
def test_sums_lose_nothing(a: Tokens, b: Tokens, c: Tokens) -> None:
    """Adding and taking away are exact, type by type, in any order."""
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert (a + b) - b == a
    assert (a + b).total == a.total + b.total
    assert a + Tokens() == a


@given(TOKENS, TOKENS, TOKENS)
def test_merging_observations_keeps_the_largest_of_each_type(a: Tokens, b: Tokens, c: Tokens) -> None:
    """Seen twice, in any order, a message counts once and with the largest count of each type."""
    assert list(a.largest(b)) == [max(x, y) for x, y in zip(a, b, strict=True)]
    assert a.largest(b) == b.largest(a)
    assert a.largest(b).largest(c) == a.largest(b.largest(c))
    assert a.largest(b).largest(b) == a.largest(b)
    assert min(a.largest(b) - a) >= 0


@given(TOKENS, st.lists(TOKENS, max_size=8))
def test_differences_recorded_one_by_one_add_up_to_the_largest(first: Tokens, later: list[Tokens]) -> None:
    """Recording only what each observation adds ends at the largest count, whatever comes again."""
    seen, recorded = Tokens(), Tokens()
    for tokens in [first, *later, first]:
        merged = seen.largest(tokens)
        recorded += merged - seen
        seen = merged
    assert list(recorded) == [max(column) for column in zip(first, *later, strict=True)]


@pytest.mark.parametrize("name", TOKEN_TYPES)
def test_one_token_of_any_type_is_something(name: str) -> None:
    """Only four zeros are nothing; a correction below zero is something too."""
    assert Tokens(**{name: 1})
    assert Tokens(**{name: -1})
    assert not Tokens()


@pytest.mark.parametrize("name", TOKEN_TYPES)
def test_a_weight_acts_on_its_own_type(name: str) -> None:
    """Each weight multiplies its own type and no other."""
    only = Weights(**(dict.fromkeys(TOKEN_TYPES, 0) | {name: 250}))
    everything = Tokens(input=3, output=50, cache_read=700, cache_write=9000)
    assert only.thousandths(everything) == 250 * getattr(everything, name)


@given(TOKENS, WEIGHTS, st.integers(1, 10**16))
def test_reached_is_exact(tokens: Tokens, weights: Weights, limit: int) -> None:
    """A budget is reached when the weighted sum, as an exact fraction, is the limit or more."""
    used = sum(
        Fraction(weight, 1000) * count
        for weight, count in zip(
            (weights.input, weights.output, weights.cache_read, weights.cache_write), tokens, strict=True
        )
    )
    assert weights.reached(tokens, limit) == (used >= limit)


@given(TOKENS)
def test_the_limit_itself_is_reached_and_not_a_token_before(tokens: Tokens) -> None:
    """`used >= limit` with every type counted once: exactly at the limit is over, one token more is not yet."""
    assert EACH_TYPE_ONCE.thousandths(tokens) == 1000 * tokens.total
    assert EACH_TYPE_ONCE.reached(tokens, tokens.total)
    assert not EACH_TYPE_ONCE.reached(tokens, tokens.total + 1)


def test_a_thousandth_short_is_short() -> None:
    """99.999 tokens do not reach 100: nothing is rounded up."""
    assert not Weights(input=99_999).reached(Tokens(input=1), 100)
    assert Weights(input=100_000).reached(Tokens(input=1), 100)
