"""What may keep an order from being done, in the very transaction that does it."""

from __future__ import annotations

from collections.abc import Callable

from locum.policy.board import Board

Guard = Callable[[Board], None]
"""Looks at the board as it is then, and raises what keeps the order from being done."""


def nothing(_: Board) -> None:
    """A guard that has no objection."""
