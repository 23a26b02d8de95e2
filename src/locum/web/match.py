"""ETag and If-Match: an order is carried out only on what its sender has seen."""

from __future__ import annotations

import hashlib
import json

from starlette.requests import Request

from locum.errors import LocumError
from locum.policy.board import Board
from locum.policy.plan import Chain
from locum.store.guard import Guard, nothing


class ChangedError(LocumError):
    """It is not any more what you have seen."""

    code = "changed"
    exit_code = 1
    status = 412


def tag_of(board: Board, chain: Chain) -> str:
    """The ETag of what can be steered in a chain: its tiers, what holds them until when, and whether it is paused.

    It does not depend on the moment: a hold counts until its end is on record.
    """
    holds = sorted(
        (each.target, each.kind.value, each.until_ms, each.since_ms)
        for _, targets in chain.rungs
        for target in targets
        for each in board.holds_by_target.get(target, ())
    )
    told = [chain.name, [tier.name for tier in chain.tiers], holds, board.chain(chain.name).paused]
    return f'"{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]}"'


def guard_of(request: Request, chain: Chain) -> Guard:
    """Objects with ChangedError when the request's If-Match names no tag that the chain has when the order is done."""
    wanted = request.headers.get("if-match")
    if wanted is None or wanted.strip() == "*":
        return nothing
    tags = {each.strip() for each in wanted.split(",")}

    def guard(board: Board) -> None:
        if tag_of(board, chain) not in tags:
            raise ChangedError(
                f"the chain {chain.name} has changed since you looked at it", remedy="Look again, and decide anew."
            )

    return guard
