"""What vendors say of their own windows, and what was counted here meanwhile."""

from __future__ import annotations

from collections.abc import Iterable

from locum.policy.usage import Tokens
from locum.policy.vendor import Freshness, VendorWindow
from locum.policy.window import Window
from locum.store import tally
from locum.store.codec import Write
from locum.store.sqlite import Sql
from locum.store.views import VendorView


def save(tx: Write, readings: Iterable[VendorWindow]) -> None:
    """Keep each reading unless a later one of the same window is there."""
    for each in readings:
        tx.run(
            "save_vendor_window",
            account=each.account,
            name=each.name,
            model=each.model or "",
            status=each.status,
            used=each.used,
            reset_ms=each.reset_ms,
            at_ms=each.at_ms,
        )


def windows(sql: Sql, account: str, now_ms: int) -> list[VendorView]:
    """The latest reading of each window of an account."""
    found = []
    for name, model, status, used, reset_ms, at_ms in sql.all("vendor_windows", account=account):
        window = VendorWindow(account, name, status, at_ms, used, reset_ms, model or None)
        found.append(VendorView(window, _counted(sql, window, now_ms)))
    return found


def _counted(sql: Sql, window: VendorWindow, now_ms: int) -> Tokens | None:
    """Our own count in the same window: of all models, so not beside the reading of one."""
    if window.began_ms is None or window.model is not None or window.freshness(now_ms) is Freshness.OVER:
        return None
    return tally.totals(sql, f"account:{window.account}", Window(window.began_ms, now_ms + 1))
