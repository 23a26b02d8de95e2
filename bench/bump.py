"""One decision of `policy.chain.bump` when there are very many chains."""

from __future__ import annotations

from pathlib import Path

from bench.rounds import interleaved, median, timed, told
from bench.subject import Found, Limit, Subject
from locum.policy.board import Board, Hold, fold
from locum.policy.chain import Step, bump
from locum.policy.failure import HOUR, Failure, FailureKind
from locum.policy.plan import Chain, Plan, Tier, account_target

NOW = 1_800_000_000_000
LIMIT = Failure(FailureKind.USAGE_LIMIT, "no more for now", reset_ms=NOW + HOUR)
WARM_UP = 20


def measure(_folder: Path, chains: int = 1000, tiers: int = 10, rounds: int = 300) -> Found:
    """Let the first tier of a chain in the middle of the plan reach its usage limit."""
    plans = {"own": _plan(chains, tiers, shared=False), "shared": _plan(chains, tiers, shared=True)}
    boards = {name: _board(plan) for name, plan in plans.items()}
    steps: dict[str, Step] = {}

    def decide(name: str) -> None:
        chain = plans[name].chains[f"c{chains // 2}"]
        steps[name] = bump(boards[name], plans[name], chain, chain.tiers[0], LIMIT, NOW, task="t")

    found = interleaved({name: timed(lambda name=name: decide(name)) for name in plans}, rounds, WARM_UP)  # type: ignore[misc]
    counts = {name: len(step.events) for name, step in steps.items()}
    assert counts == {"own": 1, "shared": chains}, "each chain that is moved has its event, and no other"
    fresh = _plan(chains, tiers, shared=True)
    chain = fresh.chains["c0"]
    first = timed(lambda: bump(Board(), fresh, chain, chain.tiers[0], LIMIT, NOW, task="t"))()
    folded = timed(lambda: fold(boards["shared"], steps["shared"].events))()
    return Found(
        (median(found["own"]), median(found["shared"])),
        (
            (f"one of {chains:,} chains moves: {counts['own']} event", told(found["own"], "ms")),
            (f"all {chains:,} chains move: {counts['shared']:,} events", told(found["shared"], "ms")),
            ("the first decision after a plan was loaded, while it is indexed", f"{first:.1f} ms, once"),
            (f"folding the {counts['shared']:,} events into the board afterwards", f"{folded:.1f} ms, once"),
        ),
    )


def _plan(chains: int, tiers: int, *, shared: bool) -> Plan:
    """So many chains of so many tiers; every tier has an account of its own, or all first tiers share one."""

    def tier(chain: int, place: int) -> Tier:
        account = "shared" if shared and place == 0 else f"a{chain}-{place}"
        return Tier(f"c{chain}-t{place}", "claude-code", account, "opus", guard="g")

    made = {
        f"c{chain}": Chain(f"c{chain}", tuple(tier(chain, place) for place in range(tiers))) for chain in range(chains)
    }
    return Plan(made)


def _board(plan: Plan) -> Board:
    """A board on which every tenth chain has its last tier held already: an empty one would flatter."""
    holds = {}
    for chain in list(plan.chains.values())[::10]:
        last = chain.tiers[-1]
        hold = Hold(account_target(last.account), FailureKind.AUTH_ERROR, NOW - HOUR, None, "", chain.name, last.name)
        holds[hold.key] = hold
    return Board(holds=holds)


SUBJECT = Subject(
    name="bump",
    limits=(
        Limit(
            "cost of one `bump` decision with 1,000 chains of 10 tiers: each chain with accounts of its own", 1, "ms"
        ),
        Limit("the same, one account active in all 1,000 chains (1,000 events)", 1, "ms"),
    ),
    how=(
        "`policy.chain.bump` called in this process on a board where every tenth chain already has a hold: a usage "
        "limit of the first tier, once where its account is its own (one chain moves), once where the same account "
        "is active in every chain (all of them move, and each has its event). Writing the events is not part of it."
    ),
    measure=measure,
    tiny={"chains": 20, "tiers": 3, "rounds": 3},
)
