"""The table of failure kinds, row by row, and how long a hold lasts."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from locum.policy.failure import (
    ALWAYS_ACT,
    ANSWERS,
    CLAMP_MS,
    DEFAULT_TRIGGERS,
    JUST_PASSED_MS,
    SHORTEST_MS,
    WINDOW_MS,
    Breadth,
    Failure,
    FailureKind,
    backoff_ms,
    hold_until_ms,
)

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
NOW = 1_800_000_000_000

KINDS = st.sampled_from(FailureKind)
TIMED = sorted(kind for kind, answer in ANSWERS.items() if answer.base_ms)
WINDOWS = st.none() | st.sampled_from([*WINDOW_MS, "a window nobody knows"])

# kind: (breadth, first hold, longest hold, retries in place, soft, guarded, probation)
TABLE = {
    "auth_error": ("account", 30 * MINUTE, 6 * HOUR, 0, False, True, True),
    "credit_exhausted": ("account", HOUR, 12 * HOUR, 0, False, True, True),
    "usage_limit": ("account_or_model", 30 * MINUTE, 5 * HOUR, 0, False, False, True),
    "rate_limit": ("tier", MINUTE, 30 * MINUTE, 0, False, False, True),
    "overloaded": ("tier", MINUTE, 10 * MINUTE, 2, False, False, False),
    "server_error": ("tier", MINUTE, 10 * MINUTE, 2, False, False, False),
    "network": ("tier", 30 * SECOND, 10 * MINUTE, 2, False, False, False),
    "model_unavailable": ("tier", 6 * HOUR, 6 * HOUR, 0, False, True, False),
    "crash": ("tier", MINUTE, 30 * MINUTE, 0, True, False, False),
    "stalled": ("tier", MINUTE, 30 * MINUTE, 0, True, False, False),
    "no_result": ("tier", MINUTE, 30 * MINUTE, 0, True, False, False),
    "unknown": ("tier", MINUTE, 30 * MINUTE, 0, True, False, False),
    "token_budget": ("tier", 0, 0, 0, False, False, False),
    "operator": ("tier", 0, 0, 0, False, False, False),
    "context_overflow": ("nothing", 0, 0, 0, False, False, False),
    "invalid_request": ("nothing", 0, 0, 0, False, False, False),
}


@pytest.mark.parametrize("kind", FailureKind)
def test_each_kind_has_the_answer_that_was_promised(kind: FailureKind) -> None:
    """Breadth, times, retries and flags of every row are as documented, and no kind is left out."""
    answer = ANSWERS[kind]
    row = (answer.breadth, answer.base_ms, answer.cap_ms, answer.retries, answer.soft, answer.guarded, answer.probation)
    assert row == TABLE[kind]


@pytest.mark.parametrize("kind", FailureKind)
def test_waiting_in_place_is_for_a_rate_limit_up_to_a_minute(kind: FailureKind) -> None:
    """Only a rate limit is waited out on the tier, and for 60 s at most."""
    assert ANSWERS[kind].wait_in_place_ms == (60 * SECOND if kind is FailureKind.RATE_LIMIT else 0)


@pytest.mark.parametrize("kind", FailureKind)
def test_retries_in_place_back_off(kind: FailureKind) -> None:
    """A kind is retried in place if and only if there is a wait between the tries."""
    assert bool(ANSWERS[kind].retries) == bool(ANSWERS[kind].retry_base_ms)


def test_what_moves_a_chain() -> None:
    """Left out, triggers name all that can hold; a fault of the task itself never moves a chain."""
    assert set(FailureKind) - DEFAULT_TRIGGERS == {FailureKind.CONTEXT_OVERFLOW, FailureKind.INVALID_REQUEST}
    assert {kind for kind in FailureKind if ANSWERS[kind].breadth is not Breadth.NOTHING} == DEFAULT_TRIGGERS
    assert {FailureKind.OPERATOR, FailureKind.UNKNOWN} == ALWAYS_ACT


@pytest.mark.parametrize("kind", TIMED)
def test_holds_double_to_their_cap_and_stay_there(kind: FailureKind) -> None:
    """Without a reset told, each failure in a row doubles the hold until the cap, for any number of failures."""
    expected = ANSWERS[kind].base_ms
    for strikes in range(1, 40):
        assert hold_until_ms(Failure(kind), strikes, NOW) == NOW + min(expected, ANSWERS[kind].cap_ms)
        expected *= 2
    assert hold_until_ms(Failure(kind), 10**6, NOW) == NOW + ANSWERS[kind].cap_ms


def test_doubling_worked_out_by_hand() -> None:
    """An auth error is tried again after 30 min, 1 h, 2 h, 4 h and then every 6 h."""
    holds = [hold_until_ms(Failure(FailureKind.AUTH_ERROR), strikes, 0) for strikes in range(1, 7)]
    assert holds == [30 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR, 6 * HOUR, 6 * HOUR]


@pytest.mark.parametrize("window", [*WINDOW_MS])
def test_a_usage_limit_without_reset_doubles_to_its_window(window: str) -> None:
    """A limit of a known window is held 30 min, doubling, and never longer than that window lasts."""
    failure = Failure(FailureKind.USAGE_LIMIT, window=window)
    assert hold_until_ms(failure, 1, NOW) == NOW + 30 * MINUTE
    assert hold_until_ms(failure, 2, NOW) == NOW + HOUR
    assert hold_until_ms(failure, 99, NOW) == NOW + WINDOW_MS[window]


@pytest.mark.parametrize("kind", [kind for kind in TIMED if kind != "usage_limit"])
def test_a_window_lengthens_no_other_kind(kind: FailureKind) -> None:
    """A vendor window named beside another failure does not change its cap."""
    assert hold_until_ms(Failure(kind, window="monthly"), 99, NOW) == NOW + ANSWERS[kind].cap_ms


@pytest.mark.parametrize(("window", "longest"), [("five_hour", 6 * HOUR), ("seven_day", 8 * DAY), (None, 8 * DAY)])
def test_a_reset_is_believed_as_far_as_its_window_reaches(window: str | None, longest: int) -> None:
    """A told reset is obeyed to the millisecond up to the clamp, and an absurd one is cut there."""
    for wait_ms in (SHORTEST_MS, MINUTE, longest - 1, longest):
        failure = Failure(FailureKind.USAGE_LIMIT, reset_ms=NOW + wait_ms, window=window)
        assert hold_until_ms(failure, 7, NOW) == NOW + wait_ms
    for wait_ms in (longest + 1, 400 * DAY):
        failure = Failure(FailureKind.USAGE_LIMIT, reset_ms=NOW + wait_ms, window=window)
        assert hold_until_ms(failure, 7, NOW) == NOW + longest


def test_every_clamp_is_a_little_more_than_its_window() -> None:
    """A window's clamp lets its own honest reset through, and not much more."""
    assert CLAMP_MS.keys() == WINDOW_MS.keys()
    for window, length_ms in WINDOW_MS.items():
        assert length_ms < CLAMP_MS[window] <= length_ms + DAY


@pytest.mark.parametrize("told", [NOW + 1, NOW, NOW - 1, NOW - JUST_PASSED_MS])
def test_a_reset_that_has_just_passed_is_now(told: int) -> None:
    """A reset told to the minute, read seconds late, ends the hold shortly instead of starting a long back-off."""
    failure = Failure(FailureKind.USAGE_LIMIT, reset_ms=told, window="five_hour")
    assert hold_until_ms(failure, 3, NOW) == NOW + SHORTEST_MS


@pytest.mark.parametrize("stale", [NOW - JUST_PASSED_MS - 1, NOW - 30 * DAY, 0, -1])
def test_a_stale_reset_is_as_none(stale: int) -> None:
    """A reset that is over already neither ends the hold at once nor sets it back: doubling takes its place."""
    for strikes in (1, 3):
        told = Failure(FailureKind.USAGE_LIMIT, reset_ms=stale, window="five_hour")
        silent = Failure(FailureKind.USAGE_LIMIT, window="five_hour")
        assert hold_until_ms(told, strikes, NOW, 9) == hold_until_ms(silent, strikes, NOW, 9)


@pytest.mark.parametrize("wait_ms", [10 * SECOND, 45 * MINUTE])
def test_retry_after_of_a_rate_limit_is_kept(wait_ms: int) -> None:
    """What the vendor asks for wins over the doubling, shorter or longer."""
    assert hold_until_ms(Failure(FailureKind.RATE_LIMIT, reset_ms=NOW + wait_ms), 5, NOW) == NOW + wait_ms


def test_jitter_comes_after_a_told_reset_but_within_the_clamp() -> None:
    """Jitter spreads returns after a reset, and cannot push a hold beyond what is believed."""
    told = Failure(FailureKind.USAGE_LIMIT, reset_ms=NOW + HOUR, window="five_hour")
    assert hold_until_ms(told, 1, NOW, 5 * SECOND) == NOW + HOUR + 5 * SECOND
    edge = Failure(FailureKind.USAGE_LIMIT, reset_ms=NOW + 6 * HOUR, window="five_hour")
    assert hold_until_ms(edge, 1, NOW, 5 * SECOND) == NOW + 6 * HOUR


@pytest.mark.parametrize("kind", [FailureKind.OPERATOR, FailureKind.TOKEN_BUDGET])
def test_our_own_holds_end_when_we_say(kind: FailureKind) -> None:
    """A person's or a budget's hold is neither clamped nor jittered nor doubled; without an end only a release ends it."""
    assert hold_until_ms(Failure(kind, reset_ms=NOW + 400 * DAY), 9, NOW, SECOND) == NOW + 400 * DAY
    assert hold_until_ms(Failure(kind), 9, NOW, SECOND) is None


@given(
    kind=st.sampled_from(TIMED),
    strikes=st.integers(1, 10**9),
    reset_ms=st.none() | st.integers(-(10**16), 10**16),
    window=WINDOWS,
    jitter_ms=st.integers(0, 10 * MINUTE),
)
def test_a_hold_always_ends_and_never_before_it_began(
    kind: FailureKind, strikes: int, reset_ms: int | None, window: str | None, jitter_ms: int
) -> None:
    """Whatever an agent's output claims, a hold ends later than now and within the longest window."""
    until_ms = hold_until_ms(Failure(kind, reset_ms=reset_ms, window=window), strikes, NOW, jitter_ms)
    assert until_ms is not None
    assert NOW < until_ms <= NOW + CLAMP_MS["monthly"]


@given(base_ms=st.integers(0, DAY), cap_ms=st.integers(0, 30 * DAY), strikes=st.integers(1, 200))
@example(base_ms=1, cap_ms=2**30 + 1, strikes=32)
def test_backoff_is_a_doubling_under_a_cap(base_ms: int, cap_ms: int, strikes: int) -> None:
    """Back-off equals doubling step by step, and never shrinks with more failures."""
    value = base_ms
    for _ in range(strikes - 1):
        value = min(2 * value, 30 * DAY)
    assert backoff_ms(base_ms, cap_ms, strikes) == min(value, cap_ms)
    assert backoff_ms(base_ms, cap_ms, strikes + 1) >= backoff_ms(base_ms, cap_ms, strikes)


def test_backoff_counts_from_one() -> None:
    """A failure that never happened has no back-off: asking for it is a bug in the caller."""
    with pytest.raises(AssertionError):
        backoff_ms(SECOND, MINUTE, 0)
