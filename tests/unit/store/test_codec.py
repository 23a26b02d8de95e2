"""Values survive the way to the database and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locum.policy.board import Board, ChainState, Event, EventKind, Hold
from locum.policy.failure import FailureKind
from locum.policy.plan import Target
from locum.store.codec import board_of, board_text, event_of, event_values

names = st.text(max_size=8)
targets = names.map(Target)
kinds = st.sampled_from(FailureKind)
moments = st.integers(0, 1 << 50)
holds = st.builds(Hold, targets, kinds, moments, st.none() | moments, names, names, names, budget=st.none() | names)
events = st.builds(
    Event,
    st.sampled_from(EventKind),
    names,
    moments,
    st.none() | names,
    st.none() | names,
    st.none() | kinds,
    names,
    st.none() | holds,
    st.lists(targets).map(tuple),
    st.none() | names,
)
states = st.builds(
    ChainState, st.none() | kinds, st.none() | moments, names, st.none() | names, st.booleans(), st.booleans()
)
boards = st.builds(
    Board,
    st.lists(holds).map(lambda found: {hold.key: hold for hold in found}),
    st.dictionaries(names, states),
    st.dictionaries(st.tuples(targets, kinds), st.integers(1, 99)),
    st.frozensets(targets),
    st.dictionaries(names, names),
)
COLUMNS = ("chain", "kind", "at_ms", "tier", "task", "failure", "reason", "hold", "targets", "active")


@given(boards)
def test_a_board_comes_back_the_same(board):
    """Whatever is on the board is there after a restart."""
    assert board_of(board_text(board)) == board


@given(events)
def test_an_event_comes_back_the_same(event):
    """The log can be folded again for ever: nothing of an event is lost."""
    values = event_values(event)
    assert event_of(tuple(values[name] for name in COLUMNS)) == event


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"holds": [{}]}', "null"])
def test_nonsense_is_no_board(text):
    """A damaged board raises; it is never read as an empty one."""
    with pytest.raises((ValueError, KeyError, TypeError)):
        board_of(text)
