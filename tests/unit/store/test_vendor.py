"""Vendors' readings on record: the latest of each window, with our own count of the same window beside it."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest

from locum.policy.usage import Tokens, Usage
from locum.policy.vendor import VendorWindow
from tests.ledgers import HOUR, START, opened, started

pytestmark = pytest.mark.anyio


def reading(at_ms: int, used: float | None = None, name: str = "five_hour", model: str | None = None) -> VendorWindow:
    """A reading of one window of the account `acme`, which ends five hours after the start."""
    return VendorWindow("acme", name, "allowed", at_ms, used, START + 5 * HOUR, model)


async def test_the_latest_reading_counts_in_whatever_order_they_are_told(tmp_path: Path) -> None:
    """A transcript that is read late, or read again, never takes back what was heard since."""
    told = [reading(START + 1, 10.0), reading(START + 2, 20.0), reading(START + 3)]
    for number, order in enumerate(permutations(told)):
        (tmp_path / str(number)).mkdir()
        ledger = await opened(tmp_path / str(number))
        for each in order:
            await ledger.saw_vendor([each])
        (view,) = (await ledger.vendor_windows(["acme"], START + HOUR))["acme"]
        assert view.window == told[-1], "also one that does not tell how much is used: it is not the old number"
        await ledger.close()


async def test_windows_models_and_accounts_are_kept_apart(tmp_path: Path) -> None:
    """One window's reading says nothing of another's; an account that nobody spoke of has none at all, not zeros."""
    ledger = await opened(tmp_path)
    readings = [reading(START, 1.0), reading(START, 2.0, "seven_day"), reading(START, 3.0, "seven_day", "opus")]
    await ledger.saw_vendor(readings)
    found = [view.window for view in (await ledger.vendor_windows(["acme"], START))["acme"]]
    assert sorted(found, key=lambda each: each.used or 0) == readings
    assert (await ledger.vendor_windows(["bravo"], START))["bravo"] == []
    await ledger.close()


async def test_our_own_count_is_of_the_same_window(tmp_path: Path) -> None:
    """What was spent before the vendor's window began is not in it; over, or of one model, nothing is compared."""
    ledger = await opened(tmp_path)
    run = await started(ledger, at=START - HOUR)
    before, within = (Usage(f"k{at}", Tokens(7 + at), at_ms=START + at - 1) for at in (0, 1))
    await ledger.record(run.id, [before, within], START + 10)
    await ledger.saw_vendor([reading(START + 10, 50.0), reading(START + 10, 9.0, "seven_day", "opus")])
    five_hours, opus = (await ledger.vendor_windows(["acme"], START + 20))["acme"]
    assert (five_hours.counted, opus.counted) == (Tokens(8), None)
    (over, _) = (await ledger.vendor_windows(["acme"], START + 5 * HOUR))["acme"]
    assert over.counted is None
    await ledger.close()
