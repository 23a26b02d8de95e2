"""Whether somebody else's session may go on with a tier, and which tier it is that it uses."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from locum.policy.board import Board, Hold
from locum.policy.chain import holds_on, pick
from locum.policy.plan import Chain, Plan, Tier, chain_target


@dataclass(frozen=True, slots=True)
class Place:
    """The tier that a session uses, in the chain whose budgets it counts against."""

    chain: Chain
    tier: Tier


@dataclass(frozen=True, slots=True)
class Gate:
    """The answer to a session that asks. `go_on` False: no further prompt; `halted`: not even a further tool.

    `hold` is the last to end of those that halt the chain, else of those on the tier; `active` the tier that is picked.
    """

    go_on: bool
    halted: bool
    hold: Hold | None
    active: str | None


def gate(board: Board, place: Place, now_ms: int) -> Gate:
    """How the tier of a session stands. Work in progress is cut short only where the whole chain is held."""
    chain = place.chain
    holds = holds_on(board, chain, place.tier, now_ms)
    halts = tuple(hold for hold in holds if hold.target == chain_target(chain.name))
    active = pick(board, chain, now_ms)
    return Gate(
        go_on=not holds and not board.chain(chain.name).paused,
        halted=bool(halts),
        hold=(halts or holds)[-1] if holds else None,
        active=active.name if active else None,
    )


def placed(plan: Plan, chain: str | None, tier: str | None, fitting: Collection[str] = ()) -> Place | None:
    """The place that is meant by these names, or by the only one of the tiers `fitting`; None when there is none.

    A tier that several chains list is meant in `chain`, else in the chain `default`, else in the first.
    """
    chains = [each for each in plan.chains.values() if chain in (None, each.name)]
    if tier is None:
        found = {each.name for listing in chains for each in listing.tiers}.intersection(fitting)
        if len(found) != 1:
            return None
        (tier,) = found
    for each in sorted(chains, key=lambda listing: listing.name != "default"):
        if meant := each.tier(tier):
            return Place(each, meant)
    return None
