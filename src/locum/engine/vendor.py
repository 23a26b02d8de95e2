"""What agents pass on of their vendors' windows, as dated readings of an account."""

from __future__ import annotations

from collections.abc import Iterable

from locum.agents.base import Mark, Signal
from locum.policy.vendor import VendorWindow


def readings(account: str, signals: Iterable[Signal], read_ms: int) -> list[VendorWindow]:
    """The readings among `signals`; one that does not tell its time was made when it was read, at the latest.

    A window without a known length goes by the vendor's own name for it.
    """
    return [
        VendorWindow(
            account=account,
            name=told.window or told.rule,
            status=told.text,
            at_ms=read_ms if told.at_ms is None else min(told.at_ms, read_ms),
            used=told.used,
            reset_ms=told.reset_ms,
            model=told.model,
        )
        for told in signals
        if told.mark is Mark.LIMIT
    ]
