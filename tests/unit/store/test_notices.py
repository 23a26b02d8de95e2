"""Notices as rows: named once and for ever, and told apart from those of every other ledger."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locum.errors import NotFoundError
from locum.policy.failure import FailureKind
from locum.store.ledger import Ledger
from locum.store.notices import name_of
from locum.store.worker import InlineWorker
from tests.ledgers import START, opened, plan_of

pytestmark = pytest.mark.anyio

NAME = re.compile(r"msg_[0-7][0-9A-HJKMNP-TV-Z]{25}")


async def test_a_notice_keeps_its_name_through_a_restart(tmp_path):
    """Named in the commit that writes it, found by that name, and the same when the file is opened again."""
    ledger = await opened(tmp_path)
    await ledger.bump("default", "a", None, "by hand", START)
    await ledger.release("default", "a", FailureKind.OPERATOR, START + 1)
    first = await ledger.notices()
    assert [notice.link for _, notice in first] == ["/#chain/default"] * 2
    assert all(NAME.fullmatch(notice.id) for _, notice in first)
    assert first[0][1].id < first[1][1].id, "names sort by time"
    await ledger.close()
    ledger = await opened(tmp_path)
    assert await ledger.notices() == first
    assert await ledger.notice(first[1][1].id) == first[1]
    with pytest.raises(NotFoundError):
        await ledger.notice("msg_nobody")
    await ledger.close()


async def test_two_ledgers_never_give_the_same_name(tmp_path):
    """The same things happen in two ledgers at the same moment: nobody takes one's notices for the other's."""
    names = set()
    for mark in ("one", "two"):
        path = tmp_path / mark
        ledger = await Ledger.open(path, plan_of(), START, InlineWorker(), mark=mark)
        await ledger.bump("default", "a", None, "by hand", START)
        await ledger.close()
        ledger = await Ledger.open(path, plan_of(), START, InlineWorker(), mark="another")
        await ledger.release("default", "a", None, START)
        names |= {notice.id for _, notice in await ledger.notices()}
        await ledger.close()
        assert name_of(mark, 1, START) in names, "what it was called at first counts, not at the next start"
    assert len(names) == 4


@given(st.lists(st.tuples(st.text(max_size=4), st.integers(0, 9), st.integers(-5, 1 << 60)), unique=True))
def test_a_name_is_one_notices_and_sorts_by_time(rows):
    """Another ledger, row or moment gives another name; whatever the clock showed, it is a ULID that sorts by it."""
    names = [name_of(*row) for row in rows]
    assert all(map(NAME.fullmatch, names))
    assert len({name[14:] for name in names}) == len({row[:2] for row in rows})
    times = sorted(
        (min(max(at_ms, 0), (1 << 48) - 1), name[:14]) for (_, _, at_ms), name in zip(rows, names, strict=True)
    )
    assert [name for _, name in times] == sorted(name for _, name in times)
